"""Students on a GPU with torch: FP32, TF32, FP16 and BF16, layer by layer, compiled, and as one CUDA graph.

    python benchmarks/student_gpu.py [nano small …] [--size 480x640] [--device cuda] [--batch 1] [--rounds 50]
        [--precisions fp32 tf32 fp16 bf16] [--forms eager compiled graph] [--apc-forms conv3d conv2d] [--pair FOLDER]

All combinations take turns in one process, round by round, each timed from the images on the device to the disparity
there. Printed: median and 90th percentile in ms, the ratio to the first combination (median of the rounds' ratios),
peak memory that PyTorch allocated, and how far the disparity is from FP32 layer by layer. Images are those of a pair,
scaled, or a procedural scene. A preset that does not ship has fresh weights: good for times, its disparities mean
nothing. --device cpu runs the same at any size, without CUDA graphs and TF32.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import cv2
import torch

from deploy.device import device_name
from deploy.models import shipped_students
from deploy.terminal_table import print_table
from distill.scenes import render_scenes
from stereo.benchmarks import load_pairs
from stereo.options import parse_size
from student.checkpoint import load_student
from student.config import ApcForm
from student.model import SIZE_MULTIPLE, StudentStereo
from student.presets import build_student

HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}
PRECISIONS = ("fp32", "tf32", *HALF)
FORMS = ("eager", "compiled", "graph")
WARMUP = 3


@dataclass
class Combination:
    """One way to run one student."""

    name: str
    run: Callable[[], torch.Tensor]
    precision: str
    peak_mb: float = 0.0


@contextlib.contextmanager
def computing(device: torch.device, precision: str) -> Iterator[None]:
    """Autocast for half precision; TF32 only where it is asked for."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        with torch.inference_mode(), torch.autocast(device.type, HALF.get(precision), enabled=precision in HALF):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def images(options: argparse.Namespace, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, 3, H, W) each, RGB 0 to 255."""
    height, width = options.size
    if options.pair is None:
        scene = render_scenes(1, (height, width), generator=torch.Generator().manual_seed(0))
        left, right = scene.left, scene.right
    else:
        pair = load_pairs(options.pair)[0]
        left, right = (
            torch.from_numpy(cv2.resize(view, (width, height), interpolation=cv2.INTER_AREA)).permute(2, 0, 1)[None]
            for view in (pair.left, pair.right)
        )
    return tuple(view.float().to(device).repeat(options.batch, 1, 1, 1) for view in (left, right))  # type: ignore[return-value]


def make_student(name: str) -> StudentStereo:
    """A shipped student, or a preset with fresh weights."""
    if name in shipped_students():
        return load_student(name)
    torch.manual_seed(0)
    return build_student(name).eval()


def captured(job: Callable[[], torch.Tensor], device: torch.device, precision: str) -> Callable[[], torch.Tensor]:
    """The same computation as one CUDA graph, replayed on the same images."""
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream), computing(device, precision):
        for _ in range(WARMUP):
            job()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    # Autocast keeps converted weights only within one context: the capture has to convert them itself.
    with computing(device, precision), torch.cuda.graph(graph):
        answer = job()

    def replay() -> torch.Tensor:
        graph.replay()
        return answer

    return replay


def combinations(options: argparse.Namespace, device: torch.device) -> Iterator[Combination]:
    """What is measured, warmed up, with its peak memory; what the device cannot do is left out and told."""
    left, right = images(options, device)
    for name, apc, form, precision in itertools.product(
        options.students, options.apc_forms, options.forms, options.precisions
    ):
        if device.type != "cuda" and (form == "graph" or precision == "tf32"):
            print(f"left out on a {device.type}: {name} {form} {precision}")
            continue
        student = make_student(name).to(device)
        student.set_apc_form(apc)
        network = torch.compile(student) if form == "compiled" else student

        def job(network: Callable[..., torch.Tensor] = network) -> torch.Tensor:
            return network(left, right)

        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        run = captured(job, device, precision) if form == "graph" else job
        with computing(device, precision):
            for _ in range(WARMUP):
                run()
        peak_mb = torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else float("nan")
        yield Combination(f"{name} {apc} {form} {precision}", run, precision, peak_mb)


def time_once(combination: Combination, device: torch.device) -> float:
    """Seconds of one run."""
    with computing(device, combination.precision):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        combination.run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start


def exact(name: str, options: argparse.Namespace, device: torch.device) -> torch.Tensor:
    """The disparity of FP32 layer by layer."""
    with computing(device, "fp32"):
        return make_student(name).to(device)(*images(options, device)).float()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("students", nargs="*", default=["nano", "small"], help="shipped students or presets")
    parser.add_argument("--size", default="480x640", type=lambda text: parse_size(text, multiple=SIZE_MULTIPLE))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS), choices=PRECISIONS)
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=FORMS)
    parser.add_argument("--apc-forms", nargs="+", default=["conv3d"], choices=get_args(ApcForm))
    parser.add_argument("--pair", type=Path, help="folder of a pair")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.exit(2, "error: torch sees no GPU here; --device cpu runs the same without CUDA graphs\n")

    measured = list(combinations(options, device))
    wanted = {name: exact(name, options, device) for name in options.students}
    times: dict[str, list[float]] = {combination.name: [] for combination in measured}
    for number in range(options.rounds):
        for combination in measured[number % len(measured) :] + measured[: number % len(measured)]:
            times[combination.name].append(time_once(combination, device))

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device_name()
    height, width = options.size
    print(f"{name}, torch {torch.__version__}, {options.batch} x {height}x{width}, {options.rounds} rounds")
    base = times[measured[0].name]
    rows = []
    for combination in measured:
        own = times[combination.name]
        with computing(device, combination.precision):
            moved = (combination.run().float() - wanted[combination.name.split(" ", 1)[0]]).abs()
        rows.append([
            combination.name, f"{1e3 * statistics.median(own):.2f}",
            f"{1e3 * sorted(own)[int(0.9 * (len(own) - 1))]:.2f}",
            f"{statistics.median(a / b for a, b in zip(own, base, strict=True)):.3f}",
            f"{combination.peak_mb:.0f}", f"{moved.mean():.4f}", f"{moved.max():.2f}",
        ])  # fmt: skip
    print_table(("student", "p50 ms", "p90 ms", "ratio", "peak MB", "moved px", "max px"), rows, stderr=False)


if __name__ == "__main__":
    main()
