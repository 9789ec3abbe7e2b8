"""The parts of the page that stand for one variant or one question each, as plain values for the template."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from deploy.profile_records import Interval, Layers, Sample
from deploy.report.bootstrap import Interval as MeanInterval
from deploy.report.choice import worth_showing
from deploy.report.entries import Entry, datasets, fp32_of
from deploy.report.failures import pooled
from deploy.report.paired import signed
from deploy.report.precision_cost import costs
from deploy.report.provenance import facts, other_times, sources
from deploy.report.svg import Series, difference_histogram, over_time
from deploy.report.tables import Cell, image_cells
from deploy.report.text import NOT_MEASURED, label, number
from deploy.results import ImageAccuracy
from stereo.error_regions import RegionErrors

# A page of a benchmark's thousands of images would not open; results.json holds them all.
IMAGES_LISTED = 100
# More columns would not be compared by eye.
MOST_COLUMNS = 6
LAYERS_LISTED = 20


@dataclass(frozen=True)
class Bar:
    """A number with a bar behind it.

    Args:
        width_pct: of the bar.
    """

    text: str
    width_pct: float
    title: str


@dataclass(frozen=True)
class RegionTable:
    """Errors by class of pixels, a column for each entry.

    Args:
        groups: kind of class → (class, share of the pixels, a bar for each entry).
    """

    dataset: str
    index: int
    entries: list[Entry]
    groups: dict[str, list[tuple[str, str, list[Bar | None]]]]


@dataclass(frozen=True)
class Drawing:
    """A picture with its words.

    Args:
        svg: trusted markup of `deploy.report.svg`.
    """

    title: str
    svg: str
    words: str


@dataclass(frozen=True)
class BarList:
    """Named numbers with bars."""

    title: str
    lines: list[tuple[str, Bar]]


@dataclass(frozen=True)
class Details:
    """Everything about one entry that is not in the tables."""

    entry: Entry
    regions: list[RegionTable]
    drawings: list[Drawing]
    times: list[tuple[str, str]]
    facts: list[tuple[str, str]]
    sources: list[tuple[str, list[tuple[str, str]]]]
    lists: list[BarList]


def region_table(entries: Iterable[Entry], dataset: str, index: int) -> RegionTable | None:
    """Errors by class; None when no entry has any."""
    known = {entry.number: {(r.by, r.name): r for r in pooled(entry.accuracy(dataset))} for entry in entries}
    shown = [entry for entry in entries if known[entry.number]]
    if not shown:
        return None
    longest = max((known[entry.number] for entry in shown), key=len)
    top = max(region.bad2_pct for entry in shown for region in known[entry.number].values()) or 1.0
    groups: dict[str, list[tuple[str, str, list[Bar | None]]]] = {}
    totals: dict[str, int] = {}
    for region in longest.values():
        totals[region.by] = totals.get(region.by, 0) + region.pixels
    for key, region in longest.items():
        bars = [region_bar(known[entry.number].get(key), top) for entry in shown]
        share = f"{100 * region.pixels / totals[region.by]:.1f} %"
        groups.setdefault(region.by, []).append((region.name, share, bars))
    return RegionTable(dataset, index, shown, groups)


def region_bar(region: RegionErrors | None, top: float) -> Bar | None:
    """bad-2 as a bar, with the EPE beside."""
    if region is None:
        return None
    epe = "no output" if region.epe_px is None else f"{number(region.epe_px)} px"
    title = f"EPE {epe} over {region.predicted} pixels, bad-2 over {region.pixels} pixels"
    return Bar(f"{region.bad2_pct:.1f} %, {epe}", 100 * region.bad2_pct / top, title)


def overview_tables(entries: Sequence[Entry], found: Mapping[str, object]) -> list[RegionTable]:
    """Where those worth choosing fail, one table for each dataset."""
    chosen = worth_showing(entries, datasets(entries))
    shown = [entry for entry in entries if entry.number in chosen and entry.accuracy_from is None]
    variants = [entry for entry in shown if entry.model.role == "variant"]
    references = [entry for entry in shown if entry.model.role == "reference"]
    tables = []
    for index, dataset in enumerate(found):
        scored = [entry for entry in variants if entry.accuracy(dataset)]
        scored.sort(key=lambda entry: entry.mean(dataset, "epe_px") or float("inf"))
        ours = distinct(scored, dataset)[: MOST_COLUMNS - min(2, len(references))]
        tables.append(region_table([*ours, *references[:2]], dataset, index))
    return [table for table in tables if table is not None]


def distinct(entries: Sequence[Entry], dataset: str) -> list[Entry]:
    """Entries without those that print the same numbers as one before, such as one file under two runtimes."""
    seen: set[tuple[object, ...]] = set()
    kept = []
    for entry in entries:
        # The same file at the same size differs between runtimes by rounding only.
        printed = (entry.model.sha256 or entry.model.variant, f"{entry.mean(dataset, 'bad2_pct') or 0:.1f}",
                   f"{entry.mean(dataset, 'epe_px') or 0:.2f}")  # fmt: skip
        if printed not in seen:
            kept.append(entry)
        seen.add(printed)
    return kept


def details(
    entry: Entry, entries: Sequence[Entry], found: Mapping[str, object], studies: Sequence[BarList] = ()
) -> Details:
    """One entry's page within the page: beside its FP32 variant, where it has one."""
    base = fp32_of(entry, entries)
    beside = [entry] if base is None or base is entry else [entry, base]
    own = () if entry.accuracy_from else found
    tables = [region_table(beside, dataset, index) for index, dataset in enumerate(own) if entry.accuracy(dataset)]
    lists = [layer_list(entry.layers)] if entry.layers and entry.layers.layers else []
    return Details(
        entry, [table for table in tables if table], drawings(entry), other_times(entry), facts(entry), sources(entry),
        [*lists, *studies],
    )  # fmt: skip


def layer_list(layers: Layers) -> BarList:
    """The slowest layers."""
    top = max(layer.mean_ms for layer in layers.layers) or 1.0
    shown = layers.layers[:LAYERS_LISTED]
    lines = [(layer.name, Bar(f"{number(layer.mean_ms)} ms, {100 * layer.mean_ms / (layers.total_ms or 1.0):.1f} %",
                              100 * layer.mean_ms / top, layer.kind)) for layer in shown]  # fmt: skip
    rest = layers.total_ms - sum(layer.mean_ms for layer in shown)
    if layers.count > len(shown):
        lines.append((f"{layers.count - len(shown)} more layers",
                      Bar(f"{number(max(rest, 0.0))} ms", 100 * min(1.0, max(rest, 0.0) / top), "")))  # fmt: skip
    return BarList(f"Time by layer, as the runtime's profiler tells it ({number(layers.total_ms)} ms in all)", lines)


def drawings(entry: Entry) -> list[Drawing]:
    """Histogram of the difference to FP32; power, temperature and latency over time."""
    found = []
    if entry.difference is not None:
        title = f"Disparity minus that of {entry.difference.to_variant}"
        found.append(Drawing(title, *difference_histogram(entry.difference)))
    samples = entry.power.samples if entry.power else ()
    found += lines_drawing("Power over time", "W", samples, {"power": "power_w"})
    temperatures = {"hottest on the chip": "temperature_c", "GPU": "gpu_temperature_c"}
    found += lines_drawing("Temperature over time", "°C", samples, temperatures)
    found += lines_drawing("Clocks over time", "MHz", samples, {"GPU": "gpu_mhz", "memory": "emc_mhz"})
    intervals = entry.soak.intervals if entry.soak else ()
    found += lines_drawing("Latency over time", "ms", intervals, {"p50": "p50_ms", "p99": "p99_ms"})
    return found


def lines_drawing(
    title: str, unit: str, records: Sequence[Sample | Interval], fields: Mapping[str, str]
) -> list[Drawing]:
    """One drawing of some fields over time; empty where the records lack them."""
    series = []
    for name, field in fields.items():
        known = [(record.t_s, value) for record in records if (value := getattr(record, field)) is not None]
        if len(known) > 1:
            series.append(Series(name, [at for at, _ in known], [value for _, value in known]))
    return [Drawing(title, *over_time(series, unit))] if series else []


def cost_lines(entries: Sequence[Entry], dataset: str) -> list[tuple[Entry, Entry, list[Cell]]]:
    """What lower precision costs: entry, its FP32 variant, cells."""
    lines = []
    for cost in costs(entries, dataset):
        cells = []
        for head, metric, interval in (("EPE px", "epe_px", cost.epe), ("bad-2 %", "bad2_pct", cost.bad2)):
            if interval is None:
                cells.append(Cell(head, {"": NOT_MEASURED}, "", missing=True))
                continue
            before, after = (number(one.mean(dataset, metric)) for one in (cost.base, cost.entry))
            cells.append(Cell(head, {"": signed(interval.mean)}, f"{before} → {after}", note=small_range(interval)))
        separate = cost.entry.ratio is not None and not cost.entry.ratio.interleaved
        time = NOT_MEASURED if cost.time is None else f"{'~ ' if separate else ''}{cost.time:.2f}"
        cells.append(Cell("time / FP32", {"": time}, "", missing=cost.time is None))
        file = "the same file" if cost.size is None else f"{cost.size:.2f}"
        cells.append(Cell("file / FP32", {"": file}, "", missing=cost.size is None))
        moved = cost.entry.difference
        text = NOT_MEASURED if moved is None else f"{number(moved.mean_abs_px)} px"
        title = "" if moved is None else f"mean absolute difference of the disparity over {moved.images} images"
        cells.append(Cell("disparity moved by", {"": text}, title, missing=moved is None))
        lines.append((cost.entry, cost.base, cells))
    return lines


def small_range(interval: MeanInterval) -> str:
    """The interval in small print; how many images it is of stands above the table."""
    if interval.low is None or interval.high is None:
        return "too few images for an interval"
    return f"{signed(interval.low)} to {signed(interval.high)}"


@dataclass(frozen=True)
class ImageTable:
    """Errors of each image of a dataset."""

    index: int
    name: str
    entries: list[Entry]
    lines: list[tuple[tuple[str, str], list[Cell]]]
    images: int


def image_tables(entries: Sequence[Entry], found: dict[str, list[tuple[str, str]]]) -> list[ImageTable]:
    """Per dataset, a table of its images' errors: a line for each image, a column for each entry."""
    tables = []
    own = [entry for entry in entries if entry.accuracy_from is None]
    for index, (dataset, images) in enumerate(found.items()):
        known = {
            entry.number: {(item.image, item.mask): item for item in accuracy}
            for entry in own
            if (accuracy := entry.accuracy(dataset))
        }
        scored = [entry for entry in own if entry.number in known]
        lines = [(key, image_cells(key, scored, known, index)) for key in worst(images, known.values())]
        tables.append(ImageTable(index, dataset, scored, lines, len(images)))
    return tables


def worst(
    images: Sequence[tuple[str, str]], known: Iterable[Mapping[tuple[str, str], ImageAccuracy]]
) -> list[tuple[str, str]]:
    """All images where they are few, else those with the largest EPE of any entry, the worst first."""
    if len(images) <= IMAGES_LISTED:
        return list(images)
    errors = dict.fromkeys(images, 0.0)
    for accuracy in known:
        for key, item in accuracy.items():
            errors[key] = max(errors[key], float("inf") if item.epe_px is None else item.epe_px)
    return sorted(images, key=lambda key: -errors[key])[:IMAGES_LISTED]


def title_of(entry: Entry) -> str:
    """How headings call an entry."""
    return f"{entry.number} {label(entry)}"
