"""`stereodistill profile --estimate BOARD@MODE`: what the models would take on boards that are not at hand.

Rows are of kind "estimated", with the board as device, its mode as power mode, "roofline" as runtime and the error bar
beside the number; nothing is run.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.boards import Machine, parse_machines
from deploy.config import ProfileConfig
from deploy.estimate import Estimate, Fit, estimate, shipped_fit
from deploy.models import model_facts, resolve_models, variant_names
from deploy.onnx_cost import Kernel, graph_cost
from deploy.onnx_stereo import read_stereo_graph
from deploy.results import Latency, ModelFacts, Place, ResultRow, make_row, read_results, update_results
from deploy.terminal_table import print_table
from stereo.errors import UserError, require
from stereo.options import parse_size

RUNTIME = "roofline"
KERNELS_SHOWN = 12
MEASURING = ("runtime", "precision_hints", "left", "right", "layers", "minutes", "power")
EXPORT = "give an .onnx, which stereodistill export and quantize make, or a student"
# Strings, because deploy must not import student: imports run downwards only.
EXPORTER, EXPORTER_CONFIG = "student.export:export", "student.config:ExportConfig"


@dataclass(frozen=True)
class Counted:
    """A model whose kernels are counted."""

    model: ModelFacts
    size: tuple[int, int]
    kernels: list[Kernel]


def profile_estimates(config: ProfileConfig) -> Path:
    """Estimate every model on every board and add the rows to the results file.

    Raises:
        UserError: an unknown board or mode, a model without a graph of fixed size, or a wrong results file.
    """
    machines = parse_machines(config.estimate)
    refuse_unused(config)
    fit = shipped_fit()
    out = Path(config.out)
    if out.exists():
        read_results(out)  # refuse a wrong --out before the work, not after
    models = count_models(config.models, size=config.size)
    found = [(item, machine, estimate(item.kernels, machine, fit)) for item in models for machine in machines]
    update_results(out, [estimated_row(item, machine, value, fit) for item, machine, value in found])
    for item in models:
        print_kernels(item, [(machine, value) for other, machine, value in found if other is item])
    print_estimates(found, fit)
    return out


def refuse_unused(config: ProfileConfig) -> None:
    """Refuse options that only make sense where something runs.

    Raises:
        UserError: one of them is set.
    """
    plain = ProfileConfig(config.models, out=config.out)
    for name in MEASURING:
        if getattr(config, name) != getattr(plain, name):
            raise UserError("nothing is run for an estimate", where=f"--{name.replace('_', '-')}",
                            fix="leave it out, or measure without --estimate")  # fmt: skip


def count_models(words: Sequence[str], *, size: str) -> list[Counted]:
    """The kernels of every model.

    Args:
        size: HEIGHTxWIDTH that graphs must have, and students are exported for; empty takes each graph's own.
    """
    paths = resolve_models(words)
    for path in paths:  # before a student is exported, which takes a while
        if path.suffix.lower() == ".onnx":
            read_stereo_graph(path).check_size(parse_size(size) if size else None)
    with tempfile.TemporaryDirectory() as folder:
        graphs = [graph_of(path, size, Path(folder) / f"{index}.onnx") for index, path in enumerate(paths)]
        names = variant_names(paths)
        return [count(path, graph, name) for path, graph, name in zip(paths, graphs, names, strict=True)]


def graph_of(path: Path, size: str, export_to: Path) -> Path:
    """The graph of a model: its own file, or one that a student is exported to.

    Raises:
        UserError: neither a graph nor a student, or a student without a size or without torch.
    """
    if path.suffix.lower() == ".onnx":
        return path
    if path.suffix.lower() != ".safetensors":
        raise UserError(f"a '{path.suffix}' file does not tell what its layers do", where=path, fix=EXPORT)
    if not size:
        raise UserError("takes any size", where=path, fix="give --size, such as --size 480x640")
    require("torch", hint=EXPORT)
    (module, function), (config_module, config) = EXPORTER.split(":"), EXPORTER_CONFIG.split(":")
    options = getattr(importlib.import_module(config_module), config)(student=str(path), size=size, out=export_to)
    getattr(importlib.import_module(module), function)(options)
    return export_to


def count(path: Path, graph_path: Path, variant: str) -> Counted:
    """The kernels of one graph.

    Raises:
        UserError: its size is open.
    """
    graph = read_stereo_graph(graph_path)
    kernels = graph_cost(graph_path)  # refuses a graph that leaves its size open
    assert graph.size is not None
    return Counted(model_facts(path, graph.metadata, variant=variant), graph.size, kernels)


def estimated_row(item: Counted, machine: Machine, value: Estimate, fit: Fit) -> ResultRow:
    """A row of the results file; what was not measured in it is None."""
    place = Place(
        runtime=RUNTIME,
        runtime_version=f"fit of {fit.date}",
        precision_hint="f32",
        device=machine.name,
        threads=1,
        power_mode=machine.mode,
        height=item.size[0],
        width=item.size[1],
        notes={
            "runtime.board": machine.key,
            "runtime.error_bar": error_bar(value, fit),
            "runtime.model": (
                f"{len(value.kernels)} kernels, {sum(kernel.multiply_adds for kernel in item.kernels) / 1e9:.2f} GMAC, "
                f"{sum(kernel.bytes_moved for kernel in item.kernels) / 1e6:.0f} MB moved, "
                f"{100 * fit.efficiency:.0f} % of the roofline, {fit.launch_us:g} us for each launch"
            ),
        },
    )
    latency = Latency(
        p50_ms=value.latency_ms, p90_ms=None, p99_ms=None, mean_ms=None, n=0, warmup=0,
        low_ms=value.low_ms, high_ms=value.high_ms,
    )  # fmt: skip
    return make_row(item.model, place, kind="estimated", latency=latency)


def error_bar(value: Estimate, fit: Fit) -> str:
    """What the error bar is, in words."""
    networks = len({point.network for point in fit.points})
    return (
        f"{value.low_ms:.1f} to {value.high_ms:.1f} ms: how far the same model is off on published latencies of "
        f"{networks} other networks ({len(fit.points)} latencies), each estimated without its own network"
    )


def print_kernels(item: Counted, estimates: Sequence[tuple[Machine, Estimate]]) -> None:
    """The most expensive kernels on stderr, a column of times for each board."""
    first = estimates[0][1].kernels
    order = sorted(range(len(first)), key=lambda index: -first[index][1])[:KERNELS_SHOWN]
    lines = []
    for index in order:
        kernel = first[index][0]
        lines.append([
            kernel.name, kernel.kind, kernel.precision, f"{kernel.multiply_adds / 1e6:.1f}",
            f"{kernel.bytes_moved / 1e6:.2f}", *(f"{value.kernels[index][1]:.3f}" for _, value in estimates),
        ])  # fmt: skip
    heads = ("kernel", "operator + fused", "arithmetic", "MMAC", "MB moved")
    title = f"{item.model.variant}: the {len(lines)} most expensive of {len(first)} kernels, ESTIMATED ms"
    print_table((*heads, *(machine.key for machine, _ in estimates)), lines, title=title)


def print_estimates(found: Sequence[tuple[Counted, Machine, Estimate]], fit: Fit) -> None:
    """A table of the estimates on stderr."""
    lines = [
        [item.model.variant, machine.key, f"{item.size[0]}x{item.size[1]}", f"{value.latency_ms:.1f}",
         f"{value.low_ms:.1f} to {value.high_ms:.1f}"]
        for item, machine, value in found
    ]  # fmt: skip
    title = f"ESTIMATED, not measured; error bar: spread of left-out estimates of {len(fit.points)} published latencies"
    print_table(("variant", "board@mode", "size", "ms", "error bar ms"), lines, title=title)
