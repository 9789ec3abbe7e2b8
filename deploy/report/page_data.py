"""What the page's scripts draw from: the numbers of the tables, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deploy.report.choice import DEFAULT_FPS, LEAST_GAIN, is_complete
from deploy.report.entries import Entry, places
from deploy.report.spreadsheet import lines_of
from deploy.report.text import caveats, label, setting
from deploy.summary import METRICS


def page_data(entries: Sequence[Entry], found: dict[str, list[tuple[str, str]]]) -> dict[str, Any]:
    """Everything in one object.

    Args:
        found: datasets with their images, as `entries.datasets` gives them.
    """
    known = places(entries)
    head, lines = lines_of(entries)
    return {
        "metrics": list(METRICS.items()),
        "datasets": list(found),
        "places": known,
        "fps": DEFAULT_FPS,
        "leastGain": LEAST_GAIN,
        "entries": [point(entry, found, known) for entry in entries],
        "csv": {"head": head, "lines": lines},
    }


def point(entry: Entry, found: dict[str, list[tuple[str, str]]], known: Sequence[str]) -> dict[str, Any]:
    """One entry: what the chart, the budget and the filter need."""
    latency, memory = entry.latency, entry.memory
    return {
        "n": entry.number,
        "label": label(entry),
        "setting": setting(entry).split(", "),
        "place": known.index(entry.where),
        "kind": entry.kind,
        "role": entry.model.role,
        "precision": entry.model.precision,
        "runtime": entry.place.runtime,
        "p50": latency and latency.p50_ms,
        "p99": latency and latency.p99_ms,
        "low": latency and latency.low_ms,
        "high": latency and latency.high_ms,
        "runs": latency and latency.n,
        "memory": memory and memory.used_mb,
        "energy": entry.power and entry.power.energy_per_pair_j,
        "accuracyFrom": entry.accuracy_from,
        "caveats": caveats(entry),
        "accuracy": [
            {
                "errors": {metric: entry.mean(name, metric) for metric in METRICS
                           if is_complete(entry, name, metric, images=len(images))},
                "coverage": entry.coverage_note(name),
                "why": why_not(entry, name, images=len(images)),
            }
            for name, images in found.items()
        ],
    }  # fmt: skip


def why_not(entry: Entry, dataset: str, *, images: int) -> list[str]:
    """Why an entry is not in the chart; empty when it is."""
    missing = []
    if entry.latency is None and entry.model.role == "variant":
        missing.append("latency not measured")
    seen = len(entry.accuracy(dataset))
    if seen == 0:
        missing.append("accuracy not measured")
    elif seen < images:
        missing.append(f"only {seen} of {images} images evaluated")
    elif entry.mean(dataset, "epe_px") is None:
        missing.append("an image without any valid output")
    return missing
