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
    found = datasets(entries)
    lines = []
    for entry in entries:
        names = [name for name in found if entry.accuracy(name)] or [None]
        lines += [{**fixed(entry), **scored(entry, name)} for name in names]
    file = io.StringIO()
    writer = csv.DictWriter(file, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: safe(value) for name, value in line.items()} for line in lines)
    return file.getvalue()


def safe(value: object) -> object:
    """A cell that no spreadsheet program takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def fixed(entry: Entry) -> dict[str, object]:
    """What does not depend on a dataset."""
    model, where, latency, memory = entry.model, entry.place, entry.latency, entry.memory
    return {
        "number": entry.number, "variant": model.variant, "role": model.role, "kind": entry.kind,
        "device": where.device, "runtime": where.runtime, "runtime_version": where.runtime_version,
        "precision_hint": where.precision_hint, "threads": where.threads, "power_mode": where.power_mode,
        "height": where.height, "width": where.width, "preset": model.preset, "precision": model.precision,
        "max_disp": model.max_disp, "iterations": model.iterations, "path": model.path, "sha256": model.sha256,
        "size_bytes": model.size_bytes,
        "p50_ms": latency and latency.p50_ms, "p90_ms": latency and latency.p90_ms,
        "p99_ms": latency and latency.p99_ms, "mean_ms": latency and latency.mean_ms, "n": latency and latency.n,
        "ratio_to_fp32": entry.ratio and entry.ratio.value,
        "ratio_interleaved": entry.ratio and entry.ratio.interleaved,
        "peak_mb": memory and memory.peak_mb, "peak_over_baseline_mb": memory and memory.peak_over_baseline_mb,
        "commit": entry.rows[0].commit, "made_at": entry.rows[0].made_at, "problems": "; ".join(entry.problems),
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
