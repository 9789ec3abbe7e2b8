"""Fit `deploy/estimate.py` to latencies that others published for Jetson Orin boards, and tell how far it misses them.

    python benchmarks/estimates.py --hitnet HITNET --cache runs/estimates [--write]

Three networks: HITNet (HITNET is its ONNX file; its shapes are found by running it once), FoundationStereo ViT-S with
the recipe weights of the golden vectors (exported here for 1 and 2 iterations; every further iteration costs what the
second does), and YOLOv8n (benchmarks/detection_network.py). Graphs are kept in the cache; making them takes about ten
minutes. Prints the fit, every point with its error in and out of sample, and what other assumptions about what the
publications do not tell would give. --write puts the fit into deploy/estimate_fit.yaml.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import yaml
from onnx import helper

from deploy.boards import parse_machine
from deploy.estimate import FILE, Fit, Point, ideal_ms
from deploy.estimate_fitting import Published, fitted, left_out, spread
from deploy.onnx_cost import Kernel, Precision, cost_in
from deploy.onnx_tensors import read_tensors
from deploy.terminal_table import print_table
from stereo.artifacts import atomic_path, commit, now

HITNET_SIZE, FOUNDATION_SIZE, MAX_DISP = (384, 1344), (480, 640), 416
# Tensors that one run hands out at a time.
OUTPUTS_AT_ONCE = 500
# 12 is in dumps of the checkpoint's configuration, 22 is what it was trained with, 32 the published demo's default.
ITERATIONS = 22
FOUNDATION_REPORT = "a user's comment of 2026-03-30, https://github.com/NVlabs/FoundationStereo/issues/222"
DETECTION_REPORT = "GPU latency by trtexec, clocks locked, https://github.com/hokwangchoi/jetson-orin-nano-benchmarks"
HITNET_REPORT = "a published comparison of stereo networks on Orin NX, FP32, 384x1344"


@dataclass(frozen=True)
class Report:
    """A published latency.

    Args:
        machine: BOARD@MODE.
        graphs: names in the cache; with two, the second has one iteration more.
        iterations: of the network, for two graphs.
    """

    network: str
    machine: str
    latency_ms: float
    precision: Precision
    graphs: tuple[str, ...]
    source: str
    assumed: str
    iterations: int = 1


def reports(*, iterations: int = ITERATIONS, foundation_modes: tuple[str, str] = ("MAXN", "MAXN")) -> list[Report]:
    """All points, with what is assumed where the publication does not tell."""
    guess = f"FP16, ViT-S, {iterations} iterations, 416 px of disparity"
    foundation = [
        Report("FoundationStereo ViT-S", f"agx-orin-{memory}gb@{mode}", latency_ms, "fp16",
               ("foundation_1", "foundation_2"), FOUNDATION_REPORT, f"{guess}, power mode {mode}", iterations)
        for memory, mode, latency_ms in ((64, foundation_modes[0], 1000.0), (32, foundation_modes[1], 800.0))
    ]  # fmt: skip
    detection = [
        Report("YOLOv8n", "orin-nano-8gb-super@MAXN_SUPER", latency_ms, precision, ("detection",), DETECTION_REPORT,
               "TF32 arithmetic, the builder's default" if precision == "tf32" else "")
        for precision, latency_ms in (("tf32", 8.37), ("fp16", 4.43), ("int8", 3.49))
    ]  # fmt: skip
    hitnet = Report("HITNet", "orin-nx-16gb@MAXN", 440.0, "tf32", ("hitnet",), HITNET_REPORT,
                    "TF32 arithmetic, power mode MAXN; which runtime is not told")  # fmt: skip
    return [hitnet, *foundation, *detection]


def published(report: Report, cache: Path) -> Published:
    """A report with what the roofline says of its network on its board."""
    machine = parse_machine(report.machine)
    costs = [kernels(cache / f"{name}.onnx", report.precision) for name in report.graphs]
    ideal = [sum(ideal_ms(kernel, machine) for kernel in cost) for cost in costs]
    more = report.iterations - 1
    step_ms, step = (ideal[1] - ideal[0], len(costs[1]) - len(costs[0])) if len(costs) > 1 else (0.0, 0)
    return Published(report.network, report.latency_ms, ideal[0] + more * step_ms, len(costs[0]) + more * step)


def kernels(path: Path, precision: Precision) -> list[Kernel]:
    """Of a cached graph."""
    model = onnx.load(path, load_external_data=False)
    return cost_in(model.graph, read_tensors(model, where=path), precision)


def make_hitnet(source: Path, path: Path) -> None:
    """HITNet at its size, every tensor's shape written into the graph as one run showed it.

    Its shapes depend on computed values, which shape inference gets wrong.
    """
    import onnxruntime as ort

    model = onnx.load(source)
    shape = (1, *HITNET_SIZE, 2)
    for dimension, value in zip(model.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
        dimension.dim_value = value
    del model.graph.value_info[:]
    images = {model.graph.input[0].name: np.random.default_rng(0).random(shape, np.float32)}
    outputs = [value.name for value in model.graph.output]
    names = [name for node in model.graph.node for name in node.output if name]
    found = []
    for start in range(0, len(names), OUTPUTS_AT_ONCE):
        part = names[start : start + OUTPUTS_AT_ONCE]
        asking = onnx.ModelProto()
        asking.CopyFrom(model)
        asking.graph.output.extend(onnx.ValueInfoProto(name=name) for name in part if name not in outputs)
        session = ort.InferenceSession(asking.SerializeToString(), providers=["CPUExecutionProvider"])
        for name, value in zip(part, session.run(part, images), strict=True):
            found.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape))
    model.graph.value_info.extend(value for value in found if value.name not in outputs)
    del model.graph.output[:]
    model.graph.output.extend(value for value in found if value.name in outputs)
    save(model, path)


def make_foundation(iterations: int, path: Path) -> None:
    """FoundationStereo ViT-S with the recipe weights, exported."""
    import torch
    from foundation_stereo_workload import load_network

    from teacher.foundation_stereo import FoundationStereo

    class Fixed(torch.nn.Module):
        def __init__(self, network: FoundationStereo) -> None:
            super().__init__()
            self.network = network

        def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            return self.network(left, right, iterations=iterations)

    options = argparse.Namespace(checkpoint=None, vit="vits", max_disp=MAX_DISP)
    export(Fixed(load_network(options, FoundationStereo)), [255 * torch.rand(1, 3, *FOUNDATION_SIZE)] * 2, path)


def make_detection(path: Path) -> None:
    """YOLOv8n with weights at random, exported."""
    import torch
    from detection_network import SIZE, DetectionNetwork

    export(DetectionNetwork(), [torch.rand(1, 3, *SIZE)], path)


def export(module: object, examples: list[object], path: Path) -> None:
    """A module as ONNX without its weights' values, which cost nothing to know."""
    import torch

    assert isinstance(module, torch.nn.Module)
    with torch.no_grad():
        program = torch.onnx.export(module.eval(), tuple(examples), dynamo=True, opset_version=18, optimize=True)
    assert program is not None
    save(program.model_proto, path)


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph whole or not at all; large weights are left out."""
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) > 1024:
            tensor.raw_data = b""
    with atomic_path(path) as temporary:
        onnx.save(model, temporary)


def fit(all_reports: list[Report], cache: Path) -> Fit:
    """The two numbers and the error bar."""
    points = [published(report, cache) for report in all_reports]
    efficiency, launch_us = fitted(points)
    low, high = spread(points)
    table = [
        Point(
            network=point.network, machine=report.machine, latency_ms=point.latency_ms,
            ideal_ms=round(point.ideal_ms, 4), launches=point.launches,
            fitted_ms=round(point.estimate_ms(efficiency, launch_us), 3), left_out_ms=round(without, 3),
            source=f"{report.source}; {report.precision}", assumed=report.assumed,
        )
        for report, point, without in zip(all_reports, points, left_out(points), strict=True)
    ]  # fmt: skip
    return Fit(
        efficiency=round(efficiency, 4), launch_us=round(launch_us, 2), low=round(low, 3), high=round(high, 3),
        made_by="python benchmarks/estimates.py --hitnet HITNET --cache DIR --write",
        commit=commit() or "unknown", date=now()[:10], points=tuple(table),
    )  # fmt: skip


def print_fit(found: Fit) -> None:
    """Numbers and points on stdout."""
    print(f"efficiency {found.efficiency:.3f}, launch {found.launch_us:.1f} us (both fitted)")
    print(f"error bar: x {found.low:.2f} to x {found.high:.2f}")
    lines = [
        [point.network, point.machine, f"{point.latency_ms:g}", f"{point.ideal_ms:.2f}", str(point.launches),
         f"{point.fitted_ms:.1f} ({100 * (point.fitted_ms / point.latency_ms - 1):+.0f} %)",
         f"{point.left_out_ms:.1f} ({100 * point.left_out_error:+.0f} %)"]
        for point in found.points
    ]  # fmt: skip
    heads = ("network", "board@mode", "published ms", "roofline ms", "kernels", "fitted ms", "left out ms")
    print_table(heads, lines, stderr=False)


def print_sensitivity(cache: Path) -> None:
    """What the fit would be if the publications had meant something else."""
    lines = []
    for iterations, modes in itertools.product((12, 22, 32), (("MAXN", "MAXN"), ("50W", "40W"), ("30W", "30W"))):
        other = fit(reports(iterations=iterations, foundation_modes=modes), cache)
        errors = ", ".join(f"{100 * point.left_out_error:+.0f}" for point in other.points)
        lines.append([str(iterations), " / ".join(modes), f"{other.efficiency:.2f}", f"{other.launch_us:.1f}",
                      f"x {other.low:.2f} to x {other.high:.2f}", errors])  # fmt: skip
    heads = ("FoundationStereo's iterations", "its mode, 64 / 32 GB", "efficiency", "launch us", "error bar",
             "left-out errors %")  # fmt: skip
    print_table(heads, lines, stderr=False)


def main() -> None:
    """See the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hitnet", type=Path, required=True, help="HITNet-ETH3D's ONNX file")
    parser.add_argument("--cache", type=Path, default=Path("runs/estimates"))
    parser.add_argument("--write", action="store_true", help="put the fit into deploy/estimate_fit.yaml")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    makers: dict[str, Callable[[Path], None]] = {
        "hitnet": lambda path: make_hitnet(options.hitnet, path),
        "foundation_1": lambda path: make_foundation(1, path),
        "foundation_2": lambda path: make_foundation(2, path),
        "detection": make_detection,
    }
    for name, make in makers.items():
        if not (options.cache / f"{name}.onnx").exists():
            make(options.cache / f"{name}.onnx")
    found = fit(reports(), options.cache)
    print_fit(found)
    print_sensitivity(options.cache)
    if options.write:
        start = (
            "# The two numbers of deploy/estimate.py and the published latencies behind them; see docs/estimates.md.\n"
        )
        content = asdict(found) | {"points": [asdict(point) for point in found.points]}
        with atomic_path(FILE) as temporary:
            Path(temporary).write_text(start + yaml.safe_dump(content, sort_keys=False, width=120), encoding="utf-8")


if __name__ == "__main__":
    main()
