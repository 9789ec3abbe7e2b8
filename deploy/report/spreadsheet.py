"""results.csv: one line per entry and dataset, for plots of one's own; an empty cell was not measured."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from deploy.report.entries import Entry, datasets, mask_note
from deploy.summary import METRICS

# A spreadsheet program would run a text that starts with one of these as a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def spreadsheet(entries: Sequence[Entry]) -> str:
    """The CSV text."""
    head, lines = lines_of(entries)
    return head + "".join(line for entry in entries for line in lines[entry.number])


def lines_of(entries: Sequence[Entry]) -> tuple[str, dict[int, list[str]]]:
    """The head line, and the lines of each entry by its number; all end with a line break."""
    found = datasets(entries)
    cells = {}
    for entry in entries:
        names = [name for name in found if entry.accuracy(name)] or [None]
        cells[entry.number] = [{**fixed(entry), **scored(entry, name)} for name in names]
    columns = list(cells[entries[0].number][0])
    return csv_line(columns), {
        number: [csv_line([safe(value) for value in line.values()]) for line in lines]
        for number, lines in cells.items()
    }


def csv_line(cells: Sequence[object]) -> str:
    """One line, quoted where it must be."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerow(cells)
    return file.getvalue()


def safe(value: object) -> object:
    """A cell that no spreadsheet program takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def fixed(entry: Entry) -> dict[str, object]:
    """What does not depend on a dataset."""
    model, where, latency, memory, row = entry.model, entry.place, entry.latency, entry.memory, entry.latency_row
    bare, check = row and row.latency_without_copies, row and row.cross_check
    return {
        "number": entry.number, "variant": model.variant, "role": model.role, "kind": entry.kind,
        "device": where.device, "runtime": where.runtime, "runtime_version": where.runtime_version,
        "precision_hint": where.precision_hint, "threads": where.threads, "power_mode": where.power_mode,
        "height": where.height, "width": where.width, "preset": model.preset, "precision": model.precision,
        "max_disp": model.max_disp, "iterations": model.iterations, "path": model.path, "sha256": model.sha256,
        "size_bytes": model.size_bytes,
        "p50_ms": latency and latency.p50_ms, "p90_ms": latency and latency.p90_ms,
        "p99_ms": latency and latency.p99_ms, "mean_ms": latency and latency.mean_ms, "n": latency and latency.n,
        "low_ms": latency and latency.low_ms, "high_ms": latency and latency.high_ms,
        "ratio_to_fp32": entry.ratio and entry.ratio.value,
        "ratio_interleaved": entry.ratio and entry.ratio.interleaved,
        "without_copies_p50_ms": bare and bare.p50_ms, "without_copies_p99_ms": bare and bare.p99_ms,
        "cross_check": check and check.tool, "cross_check_gpu_p50_ms": check and check.gpu_p50_ms,
        "cross_check_p50_ms": check and check.p50_ms, "cross_check_difference_pct": check and check.difference_pct,
        "memory_mb": memory and memory.used_mb, "peak_mb": memory and memory.peak_mb,
        "peak_over_baseline_mb": memory and memory.peak_over_baseline_mb, "board_mb": memory and memory.board_mb,
        "mean_w": entry.power and entry.power.mean_w,
        "energy_per_pair_j": entry.power and entry.power.energy_per_pair_j,
        "max_temperature_c": entry.power and entry.power.max_temperature_c,
        "soak_drift_pct": entry.soak and entry.soak.drift_pct,
        "moved_from_fp32_px": entry.difference and entry.difference.mean_abs_px,
        "commit": entry.rows[0].commit, "made_at": entry.rows[0].made_at,
        "accuracy_from": entry.accuracy_from, "problems": "; ".join(entry.problems),
    }  # fmt: skip


def scored(entry: Entry, dataset: str | None) -> dict[str, object]:
    """Averages on a dataset; every cell empty without one."""
    accuracy = entry.accuracy(dataset) if dataset is not None else []
    masks = mask_note([(item.image, item.mask) for item in accuracy]) or None
    averages = {metric: entry.mean(dataset, metric) if dataset is not None else None for metric in METRICS}
    least = min((item.coverage_pct for item in accuracy), default=None)
    first = accuracy[0] if accuracy else None
    return {
        "dataset": dataset,
        "benchmark": first and first.benchmark,
        "split": first and first.split,
        "images": len(accuracy) or None,
        "masks": masks,
        **averages,
        "least_coverage_pct": least,
    }
