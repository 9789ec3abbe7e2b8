"""What FoundationStereo costs: time per stage, peak memory, pairs per second, share of what the device can multiply.

    python benchmarks/foundation_stereo.py --size 320x736 --vit vits --iterations 32 [--device cpu|cuda]
        [--precision fp32|tf32|bf16|fp16] [--compare plain fp32 unprepared] [--batches 1,2,4,8] [--rounds 3]
        [--both] [--channels-last|--no-channels-last] [--compile] [--cuda-graph] [--checkpoint FILE]

Variants take turns in one process, round by round; a ratio is the median of the rounds' ratios. `plain` is
plain_foundation_stereo.py, `fp32` the fast network without autocast, `unprepared` the fast network without
`teacher.fusing`. Memory on a CPU is the peak of a process of its own per variant, on a GPU what PyTorch allocated.
Without --checkpoint the weights are those of the golden vectors (ViT-S, ViT-L) or random (tiny), and the images are
procedural: times do not depend on them.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from foundation_stereo_stages import PARTS
from foundation_stereo_variants import (
    HALF,
    Variant,
    make_variant,
    one_forward,
    peak_here,
    peak_on_gpu,
    ratio,
    running,
    stage_pass,
    time_rounds,
)  # fmt: skip
from foundation_stereo_workload import achievable_flops, count_flops, make_pair

from deploy.device import device_name
from deploy.terminal_table import print_table
from stereo.options import parse_size

# Of a process whose memory is measured: more would allocate nothing new.
MEMORY_ITERATIONS = 2


def peak_of_child(variant: str) -> tuple[float, float]:
    """Memory in GB of a process that runs one variant once: before the forward, and at its peak."""
    command = [sys.executable, __file__, *sys.argv[1:], "--child", variant]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    before, peak = json.loads(answer.stdout.splitlines()[-1])
    return before, peak


def child(options: argparse.Namespace) -> None:
    """Run one variant once and print its memory."""
    variant = make_variant(options.child, options, torch.device("cpu"))
    left, right = make_pair(options, 1)
    before = peak_here()
    with running(variant.precision, torch.device("cpu")):
        variant.run(left, right, iterations=min(MEMORY_ITERATIONS, options.iterations))
    print(json.dumps([before, peak_here()]))


def measure(options: argparse.Namespace) -> None:
    """Everything for one pair, fast and compared variants side by side."""
    device = torch.device(options.device)
    variants = [make_variant(name, options, device) for name in ("fast", *options.compare)]
    left, right = (view.to(device) for view in make_pair(options, 1))
    jobs = {variant.name: one_forward(variant, left, right, options) for variant in variants}
    outputs = {name: job().float() for name, job in jobs.items()}  # also plans every kernel
    for variant in variants:
        variant.stages.spent.clear()
    times = time_rounds(jobs, options, warmup=0)
    if device.type == "cuda":
        for variant in variants:
            stage_pass(variant, left, right, options)
    passes = options.rounds if device.type == "cpu" else 1
    print_stages(variants, passes)
    flops = count_flops(options)
    columns = [summary(variant, times, left, right, flops, options) for variant in variants]
    for variant, column in zip(variants, columns, strict=True):
        difference = (outputs[variant.name] - outputs["fast"]).abs()
        column["px from fast, max"], column["px from fast, mean"] = (
            f"{difference.max():.2g}",
            f"{difference.mean():.2g}",
        )
    print(f"one pair, n = {options.rounds}; {flops / 1e9:.0f} GFLOP, those of the fast network")
    rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    print_table(("", *(variant.name for variant in variants)), rows, stderr=False)
    if options.both:
        both_views(variants[0], left, right, options)
    if options.cuda_graph:
        graphed_iterations(variants[0], left, right, options)
    batches(variants[0], options)


def summary(
    variant: Variant,
    times: dict[str, list[float]],
    left: torch.Tensor,
    right: torch.Tensor,
    flops: int,
    options: argparse.Namespace,
) -> dict[str, str]:
    """What a variant's column in the table says."""
    if left.device.type == "cuda":
        before, peak = peak_on_gpu(variant, left, right, options.iterations)
    else:
        before, peak = peak_of_child(variant.name)
    taken = times[variant.name]
    p50 = statistics.median(taken)
    rate, reach = flops / p50, achievable_flops(left.device, variant.precision)
    return {
        "precision": variant.precision,
        "p50 s": f"{p50:.3f}",
        "pairs/s": f"{1 / p50:.3f}",
        "time / fast": f"{ratio(taken, times['fast']):.2f}",
        "GB before the forward": f"{before:.2f}",
        "GB at the peak": f"{peak:.2f}",
        "GFLOP/s": f"{rate / 1e9:.0f}",
        "of a large matmul": f"{100 * rate / reach:.0f} %",
    }


def print_stages(variants: list[Variant], passes: int) -> None:
    """Time per stage and pass."""
    names = [name for name in PARTS if any(name in variant.stages.spent for variant in variants)]
    rows = [
        [name, *(f"{1000 * variant.stages.spent.get(name, 0.0) / passes:.1f}" for variant in variants)]
        for name in names
    ]
    if rows:
        print_table(("stage, ms", *(variant.name for variant in variants)), rows, stderr=False)


def both_views(variant: Variant, left: torch.Tensor, right: torch.Tensor, options: argparse.Namespace) -> None:
    """What the disparity of the right view costs beside that of the left."""
    network, steps = variant.network, options.iterations

    def one() -> None:
        with running(variant.precision, left.device):
            network.predict(left, right, iterations=steps)

    def both(of_right: int) -> None:
        with running(variant.precision, left.device):
            network.predict_both(left, right, iterations=steps, right_iterations=of_right)

    few = min(options.right_iterations, steps)
    jobs: dict[str, Callable[[], object]] = {"left view": one, "both views": functools.partial(both, steps)}
    jobs[f"both, right view {few} iterations"] = functools.partial(both, few)
    times = time_rounds(jobs, options)
    rows = []
    for name, taken in times.items():
        share = ratio(taken, times["left view"])
        rows.append([name, f"{statistics.median(taken):.3f}", f"{share:.2f}", f"{share / 2:.2f}"])
    print_table(("views", "p50 s", "/ left view", "/ two full passes"), rows, stderr=False)


def graphed_iterations(variant: Variant, left: torch.Tensor, right: torch.Tensor, options: argparse.Namespace) -> None:
    """Whether replaying the iterations as one CUDA graph pays."""
    network = variant.network
    with running(variant.precision, left.device):
        images = network.normalised(torch.cat([left, right]))
        start = network.start(images.chunk(2)[0], *network.features(images).halves())
        refine = functools.partial(network.iterate, start, iterations=options.iterations)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            refine()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Autocast keeps cast weights for the length of a block; a graph must not outlive them.
        uncached = torch.autocast("cuda", enabled=torch.is_autocast_enabled("cuda"), cache_enabled=False)
        with uncached, torch.cuda.graph(graph):
            refine()
        times = time_rounds({"eager": refine, "graph": graph.replay}, options)
    saved = ratio(times["graph"], times["eager"])
    print(f"iterations as a CUDA graph: {1000 * statistics.median(times['graph']):.1f} ms, {saved:.2f} of eager")


def batches(variant: Variant, options: argparse.Namespace) -> None:
    """Pairs per second for every batch size."""
    device, rows, best = torch.device(options.device), [], (0.0, 0)
    for batch in options.batches:
        try:
            left, right = (view.to(device) for view in make_pair(options, batch))
            taken = time_rounds({"batch": one_forward(variant, left, right, options)}, options)["batch"]
            rate = batch / statistics.median(taken)
            memory = f"{peak_on_gpu(variant, left, right, options.iterations)[1]:.2f}" if device.type == "cuda" else ""
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            rows.append([str(batch), "does not fit", ""])
            continue
        best = max(best, (rate, batch))
        rows.append([str(batch), f"{rate:.3f}", memory])
    if rows:
        print_table(("batch", "pairs/s", "GB peak"), rows, stderr=False)
        print(f"best batch: {best[1]} ({best[0]:.3f} pairs/s)" if best[1] else "no batch fits")


def parse() -> argparse.Namespace:
    """The command line; see the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=parse_size, default=(320, 736), help="multiples of 32")
    parser.add_argument("--vit", default="vits", choices=("tiny", "vits", "vitb", "vitl"))
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--max-disp", type=int, default=416)
    parser.add_argument("--iterations", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "tf32", *HALF))
    parser.add_argument("--compare", nargs="*", default=["plain"], choices=("plain", "fp32", "unprepared"))
    parser.add_argument("--batches", type=lambda text: [int(size) for size in text.split(",") if size], default=[])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--both", action="store_true", help="time the disparities of both views too")
    parser.add_argument("--right-iterations", type=int, default=12, help="of the right view, where it has fewer")
    parser.add_argument("--channels-last", action=argparse.BooleanOptionalAction, help="on for CPUs, off for GPUs")
    parser.add_argument("--compile", action="store_true", help="torch.compile the fast network")
    parser.add_argument("--cuda-graph", action="store_true", help="replay the iterations as a CUDA graph")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.channels_last is None:
        options.channels_last = options.device == "cpu"
    return options


def main() -> None:
    """Measure and print; see the module docstring."""
    options = parse()
    torch.set_num_threads(options.threads)
    if options.child:
        return child(options)
    cuda = torch.device(options.device).type == "cuda"
    where = torch.cuda.get_device_name(options.device) if cuda else f"{device_name()}, {options.threads} thread(s)"
    height, width = options.size
    print(
        f"{where}, torch {torch.__version__}, {options.vit}, {height}x{width}, max_disp {options.max_disp}, "
        f"{options.iterations} iterations, channels-last {options.channels_last}, compiled {options.compile}"
    )
    measure(options)
    return None


if __name__ == "__main__":
    main()
