"""What `profile` tells at the terminal: latency, power and soak, layers, and how trtexec compares."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.results import ResultRow
from deploy.terminal_table import print_table

LAYERS_SHOWN = 12
UNKNOWN = "–"


def print_rows(rows: Sequence[ResultRow]) -> None:
    """All tables that the rows have something for, on stderr."""
    print_latency(rows)
    print_steady(rows)
    for row in rows:
        print_layers(row)
        if row.cross_check is not None:
            check = row.cross_check
            line = (number(check.gpu_p50_ms), number(check.p50_ms), number(check.pairs_per_s, 1))
            print_table(
                ("compute p50 ms", "with copies", "pairs/s", "ours differs by %"),
                [[*line, number(check.difference_pct)]], title=f"{name(row)}: {check.tool}",
            )  # fmt: skip


def print_latency(rows: Sequence[ResultRow]) -> None:
    """Latency and memory of each variant."""
    bare = any(row.latency_without_copies for row in rows)
    lines = []
    for row in rows:
        if row.latency is None:
            continue
        measured, compute = row.latency, row.latency_without_copies
        ratio = "" if measured.ratio_to_fp32 is None else f"{measured.ratio_to_fp32:.2f}"
        memory_mb = None if row.memory is None else row.memory.used_mb
        times = [f"{value:.1f}" for value in (measured.p50_ms, measured.p90_ms, measured.p99_ms)]
        without = [number(compute.p50_ms if compute else None)] if bare else []
        where = [row.model.variant, f"{row.place.runtime} {row.place.precision_hint}"]
        lines.append(
            [*where, *times, *without, f"{measured.pairs_per_s:.1f}", str(measured.n), ratio, number(memory_mb, 0)]
        )
    compute_head = ["no copies"] if bare else []
    print_table(["variant", "runtime", "p50 ms", "p90", "p99", *compute_head, "pairs/s", "n", "x FP32", "MB"], lines)


def print_steady(rows: Sequence[ResultRow]) -> None:
    """How each variant ran without a pause: drift in a soak run, and power, energy and heat on a board."""
    soaked = [(row, row.soak) for row in rows if row.soak is not None]
    if soaked:
        lines = []
        for row, soak in soaked:
            ends = [soak.intervals[index].p50_ms if soak.intervals else None for index in (0, -1)]
            drift = UNKNOWN if soak.drift_pct is None else f"{soak.drift_pct:+.1f}"
            lines.append([name(row), f"{soak.seconds:.0f}", f"{soak.pairs_per_s:.2f}", *map(number, ends), drift])
        print_table(("without a pause", "s", "pairs/s", "first p50 ms", "last", "drift %"), lines)
    powered = [(row, row.power) for row in rows if row.power is not None]
    if powered:
        lines = []
        for row, power in powered:
            heat = UNKNOWN if power.throttled is None else "yes" if power.throttled else "no"
            watts = map(number, (power.mean_w, power.idle_w, power.energy_per_pair_j))
            lines.append(
                [name(row), *watts, number(power.max_temperature_c, 0), number(power.mean_gpu_load_pct, 0), heat]
            )
        print_table(("power", "W", "idle W", "J/pair", "max °C", "GPU %", "throttled"), lines)


def print_layers(row: ResultRow) -> None:
    """Where the time of a variant goes: its parts, and its slowest layers."""
    if row.layers is None:
        return
    total = row.layers.total_ms or float("nan")
    parts = [[item.name, f"{item.mean_ms:.2f}", f"{100 * item.mean_ms / total:.1f}"] for item in row.layers.parts]
    print_table(("part", "ms", "%"), parts[:LAYERS_SHOWN], title=f"{name(row)}: layers, {total:.1f} ms in all")
    shown = row.layers.layers[:LAYERS_SHOWN]
    lines = [[item.name, item.kind, f"{item.mean_ms:.2f}", f"{100 * item.mean_ms / total:.1f}"] for item in shown]
    rest_ms = total - sum(item.mean_ms for item in shown)
    rest = row.layers.count - len(shown)
    if rest > 0:
        lines.append([f"{rest} more", "", f"{rest_ms:.2f}", f"{100 * rest_ms / total:.1f}"])
    print_table(("layer", "kind", "ms", "%"), lines)


def name(row: ResultRow) -> str:
    """Variant and runtime, as tables call a row."""
    return f"{row.model.variant}, {row.place.runtime} {row.place.precision_hint}"


def number(value: float | None, digits: int = 2) -> str:
    """A number, or a dash for what was not measured."""
    return UNKNOWN if value is None else f"{value:.{digits}f}"
