"""The cells of a report's tables: text, and where the number comes from.

One cell can hold several texts, one for each (dataset, metric) that the reader can switch to.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deploy.report.entries import Entry
from deploy.report.text import MB, NOT_MEASURED, UNDEFINED, number, origin, size
from deploy.results import ImageAccuracy, Latency
from deploy.summary import METRICS, reduction_note


@dataclass(frozen=True)
class Cell:
    """One number.

    Args:
        head: name of its column, for narrow screens.
        texts: key of the switch → text; the key "" is always shown.
        title: where it comes from, shown on hover.
        missing: nothing was measured.
        value: what the table is sorted by; None stays at the end.
        note: in small print below.
    """

    head: str
    texts: dict[str, str]
    title: str
    missing: bool = False
    value: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Line:
    """One row of a table."""

    entry: Entry
    cells: tuple[Cell, ...]


def key_of(dataset_index: int, metric: str) -> str:
    """How the page calls one choice of dataset and metric."""
    return f"{dataset_index}:{metric}"


def main_line(entry: Entry, found: dict[str, list[tuple[str, str]]], *, with_power: bool = False) -> Line:
    """Accuracy, latency, ratio, memory and file size of one entry.

    Args:
        found: datasets with their images, as `entries.datasets` gives them.
        with_power: power and energy too, where anything on the page has them.
    """
    latency, memory, where = entry.latency, entry.memory, origin(entry, entry.latency_row)
    count = basis(latency)
    times = [
        plain(f"{name} ms", getattr(latency, f"{name}_ms") if latency else None, where + count)
        for name in ("p50", "p99")
    ]
    if latency is not None and latency.low_ms is not None:
        bar = f"{number(latency.p50_ms)} ({number(latency.low_ms)} to {number(latency.high_ms)})"
        times[0] = dataclasses.replace(times[0], texts={"": bar})
    return Line(
        entry,
        (
            accuracy_cell(entry, found),
            *times,
            plain("fps", 1000 / latency.p50_ms if latency else None, f"1000 / p50; {where}{count}"),
            ratio_cell(entry),
            *(power_cells(entry) if with_power else ()),
            plain("memory MB", memory and memory.used_mb, memory_title(entry, where)),
            file_cell(entry),
        ),
    )


def basis(latency: Latency | None) -> str:
    """What a latency rests on, to end a sentence with."""
    if latency is None:
        return ""
    if latency.low_ms is None:
        return f"; n = {latency.n} after {latency.warmup} warm-up runs"
    return "; nothing was run, in brackets how far such estimates were off elsewhere"


def plain(head: str, value: float | None, title: str) -> Cell:
    """A cell of one number."""
    return Cell(head, {"": number(value)}, title, missing=value is None, value=value)


def power_cells(entry: Entry) -> list[Cell]:
    """Mean power, and energy of a pair."""
    power = entry.power
    where = f"{power.source}, {power.pairs} pairs in {number(power.seconds)} s" if power else NOT_MEASURED
    if power and power.throttled:
        where += "; THROTTLED: " + ", ".join(power.throttling)
    return [
        plain("power W", power and power.mean_w, where),
        plain("J / pair", power and power.energy_per_pair_j, where),
    ]


def file_cell(entry: Entry) -> Cell:
    """Size of the model's file; SGBM has none."""
    if entry.model.size_bytes is None:
        return Cell("file MB", {"": "no file"}, "", missing=True)
    return plain("file MB", entry.model.size_bytes / MB, entry.model.path or "")


def memory_title(entry: Entry, where: str) -> str:
    """How memory was measured."""
    if entry.memory is None:
        return NOT_MEASURED
    peak = number(entry.memory.peak_mb)
    if entry.memory.board_mb is not None:
        grown = number(entry.memory.peak_over_baseline_mb)
        told = f"fall of the board's free memory, the GPU's part included; its process grew by {grown} MB"
        return f"{told}; {where}"
    return f"peak growth over the runtime without a model, in a process of its own; {peak} MB in all; {where}"


def ratio_cell(entry: Entry) -> Cell:
    """Time relative to FP32; a quotient of separate runs is marked, because other work may have disturbed one."""
    if entry.model.role == "reference":
        return Cell("time / FP32", {"": "not a student"}, "", missing=True)
    if entry.ratio is None:
        return Cell("time / FP32", {"": "no FP32 row" if entry.latency else NOT_MEASURED}, "", missing=True)
    value = entry.ratio.value
    if entry.ratio.interleaved:
        told = "median of the ratios of runs that took turns with the FP32 variant"
        return Cell("time / FP32", {"": f"{value:.2f}"}, told, value=value)
    told = "quotient of two estimates" if entry.kind == "estimated" else "quotient of the medians of two separate runs"
    return Cell("time / FP32", {"": f"~ {value:.2f}"}, told, value=value)


def accuracy_cell(entry: Entry, found: dict[str, list[tuple[str, str]]]) -> Cell:
    """The average of every dataset and metric."""
    texts, titles = {}, []
    for index, (dataset, images) in enumerate(found.items()):
        accuracy = entry.accuracy(dataset)
        for metric in METRICS:
            texts[key_of(index, metric)] = average_text(entry, dataset, metric, images=len(images))
        if accuracy:
            note = reduction_note(accuracy, len(accuracy))
            titles.append(f"{dataset}: {note[0].lower()}{note[1:]}; {pixels_note(entry, dataset)}")
    where = origin(entry, entry.accuracy_rows[-1] if entry.accuracy_rows else None)
    if entry.accuracy_from:
        where = f"measured with {entry.accuracy_from}, and taken over for this estimate"
    return Cell("accuracy", texts or {"": NOT_MEASURED}, "; ".join([*titles, where]), missing=not titles)


def average_text(entry: Entry, dataset: str, metric: str, *, images: int) -> str:
    """An average, with what it leaves out: images, and for EPE pixels without prediction."""
    accuracy = entry.accuracy(dataset)
    if not accuracy:
        return NOT_MEASURED
    mean = entry.mean(dataset, metric)
    text = UNDEFINED if mean is None else f"{mean:.2f}"
    if metric == "epe_px":
        text += entry.coverage_note(dataset)
    return text if len(accuracy) == images else f"{text} ({len(accuracy)} of {images} images)"


def pixels_note(entry: Entry, dataset: str) -> str:
    """What happens to pixels without a prediction."""
    if not entry.coverage_note(dataset):
        return "every pixel with truth has a prediction"
    return "EPE over the pixels with a prediction only, bad-x and D1 count the others as bad"


def image_cells(
    key: tuple[str, str],
    entries: Sequence[Entry],
    known: Mapping[int, Mapping[tuple[str, str], ImageAccuracy]],
    index: int,
) -> list[Cell]:
    """Errors of one (image, mask) of a dataset, one cell for each entry.

    Args:
        known: entry's number → (image, mask) → its errors on that dataset.
        index: of the dataset.
    """
    return [image_cell(known[entry.number].get(key), index, key, entry) for entry in entries]


def image_cell(item: ImageAccuracy | None, index: int, key: tuple[str, str], entry: Entry) -> Cell:
    """Every metric of one image."""
    if item is None:
        return Cell(key[0], {"": NOT_MEASURED}, "", missing=True)
    texts = {}
    for metric in METRICS:
        value = getattr(item, metric)
        texts[key_of(index, metric)] = UNDEFINED if value is None else f"{value:.2f}"
    parts = [
        f"{key[1]} pixels: {item.valid_pixels} of {item.height}x{item.width}",
        f"coverage {item.coverage_pct:.1f} %",
    ]
    if item.scale < 1:
        parts.append(f"scaled by {item.scale:.2f} to fit {size(entry)}")
    if item.nonfinite_pixels:
        parts.append(f"{item.nonfinite_pixels} pixels NaN or infinite")
    return Cell(key[0], texts, ", ".join(parts))
