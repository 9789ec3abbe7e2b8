"""Rows of results files → the entries of a report: one per variant, runtime, precision hint, device and setting.

Measurements of the same thing are never averaged: the newest counts, and what it replaced is told. Accuracy joins a
latency only where model, runtime, precision hint and device are the same, because each variant is judged as it runs.
Only an estimate, which ran nowhere, takes the accuracy that its file was measured with elsewhere, and says where.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from deploy.profile_records import Layers, Power, Soak
from deploy.results import Difference, ImageAccuracy, Latency, Memory, ModelFacts, Pictures, Place, ResultRow
from deploy.summary import mean_of, reduction_note
from stereo.errors import UserError


@dataclass(frozen=True)
class Ratio:
    """Time relative to the FP32 variant of the same student on the same runtime and device.

    Args:
        value: 0.5 is twice as fast.
        interleaved: both took turns in one run; otherwise it is a quotient of medians of separate runs.
    """

    value: float
    interleaved: bool


@dataclass(frozen=True)
class Entry:
    """What a report says about one variant in one place.

    Args:
        number: from 1, how plot and tables refer to each other.
        latency_row, accuracy_rows: where the numbers come from; None and empty when there are none.
        replaced: how many older measurements of the same thing were left out.
        accuracy_from: where the accuracy was measured, when that is not this place; None when it is.
        records: rows of the same setting with power, a soak run or layers; the newest of each.
    """

    number: int
    model: ModelFacts
    place: Place
    kind: str
    latency_row: ResultRow | None
    accuracy_rows: tuple[ResultRow, ...]
    replaced: int
    ratio: Ratio | None = None
    accuracy_from: str | None = None
    records: tuple[ResultRow, ...] = ()

    @property
    def where(self) -> str:
        """Board or processor with its power mode: what is never compared with another of its kind unseen."""
        mode = self.place.power_mode
        return f"{self.place.device}, power mode {mode}" if mode else self.place.device

    @property
    def difference(self) -> Difference | None:
        """How far its disparity lies from FP32's; None when not compared."""
        found = [row.difference for row in self.accuracy_rows if row.difference]
        return found[-1] if found else None

    @property
    def latency(self) -> Latency | None:
        """None when not measured."""
        return self.latency_row.latency if self.latency_row else None

    @property
    def memory(self) -> Memory | None:
        """None when not measured."""
        return self.latency_row.memory if self.latency_row else None

    @property
    def rows(self) -> tuple[ResultRow, ...]:
        """All rows that this entry rests on."""
        first = (self.latency_row,) if self.latency_row else ()
        others = (row for row in (*self.records, *self.accuracy_rows) if row is not self.latency_row)
        return (*first, *{id(row): row for row in others}.values())

    @property
    def power(self) -> Power | None:
        """None when not measured."""
        return next((row.power for row in self.records if row.power), None)

    @property
    def soak(self) -> Soak | None:
        """None when not measured."""
        return next((row.soak for row in self.records if row.soak), None)

    @property
    def layers(self) -> Layers | None:
        """None when not measured."""
        return next((row.layers for row in self.records if row.layers), None)

    @property
    def problems(self) -> tuple[str, ...]:
        """What its rows warn of, each once."""
        return tuple(dict.fromkeys(problem for row in self.rows for problem in row.problems))

    @property
    def pictures(self) -> dict[tuple[str, str], Pictures]:
        """(dataset, image) → pictures."""
        return {
            (row.accuracy[0].dataset, pictures.image): pictures
            for row in self.accuracy_rows
            if row.accuracy
            for pictures in row.pictures
        }

    def accuracy(self, dataset: str) -> list[ImageAccuracy]:
        """Per-image errors on a dataset; an image evaluated twice counts with its newest errors."""
        newest: dict[tuple[str, str], ImageAccuracy] = {}
        for row in sorted(self.accuracy_rows, key=lambda row: row.made_at):
            newest.update({(item.image, item.mask): item for item in row.accuracy if item.dataset == dataset})
        return list(newest.values())

    def mean(self, dataset: str, metric: str) -> float | None:
        """Average over a dataset; see `deploy.summary.mean_of`."""
        return mean_of(self.accuracy(dataset), metric)

    def coverage_note(self, dataset: str) -> str:
        """ " on 81 % of the pixels" where a method leaves pixels open, so that its EPE is not read as one of all."""
        coverage_pct = mean_of(self.accuracy(dataset), "coverage_pct")
        # What rounds to 100 % does not change an EPE that is printed with two decimals.
        return "" if coverage_pct is None or coverage_pct > 99.95 else f" on {coverage_pct:.1f} % of the pixels"


def make_entries(rows: Sequence[ResultRow]) -> list[Entry]:
    """Merge rows into numbered entries, by place, estimates after measurements, references last, then latency.

    Raises:
        UserError: no rows.
    """
    if not rows:
        raise UserError("the results files hold no rows", fix="run profile and evaluate first")
    groups: dict[tuple[str | None, ...], list[ResultRow]] = {}
    for row in rows:
        groups.setdefault(row.identity, []).append(row)
    entries = [entry for group in groups.values() for entry in _merge(group)]
    entries = [borrow(entry, entries) for entry in entries]
    entries.sort(key=_order)
    numbered = [replace(entry, number=number) for number, entry in enumerate(entries, 1)]
    return [replace(entry, ratio=_ratio(entry, numbered)) for entry in numbered]


def _merge(group: Sequence[ResultRow]) -> Iterable[Entry]:
    """Entries of one model, runtime, precision hint and device: one per setting that a latency was measured in."""
    ordered = sorted(group, key=lambda row: row.made_at)
    timed: dict[tuple[object, ...], list[ResultRow]] = {}
    for row in ordered:
        if row.latency or recorded(row):
            timed.setdefault(row.setting, []).append(row)
    evaluated = [row for row in ordered if row.accuracy]
    used: set[int] = set()
    for same in timed.values():
        newest = same[-1]
        fitting = [row for row in evaluated if _same_size(row, newest)]
        used |= {id(row) for row in fitting}
        with_latency = [row for row in same if row.latency]
        latency = with_latency[-1] if with_latency else None
        records = {name: row for row in same for name in recorded(row)}
        entry = _entry(newest.model, newest.place, latency, fitting, replaced=max(0, len(with_latency) - 1),
                       records=tuple({id(row): row for row in records.values()}.values()))  # fmt: skip
        yield entry
    by_size: dict[tuple[int | None, int | None], list[ResultRow]] = {}
    for row in evaluated:
        if id(row) not in used:
            by_size.setdefault((row.place.height, row.place.width), []).append(row)
    for left_over in by_size.values():
        yield _entry(left_over[-1].model, left_over[-1].place, None, left_over, replaced=0)
    if not timed and not evaluated:
        yield _entry(ordered[-1].model, ordered[-1].place, None, ordered[-1:], replaced=len(ordered) - 1)


def recorded(row: ResultRow) -> list[str]:
    """Which of the records a row has that stand beside a latency."""
    return [name for name in ("power", "soak", "layers") if getattr(row, name) is not None]


def _entry(
    model: ModelFacts, place: Place, latency: ResultRow | None, evaluated: Sequence[ResultRow], *, replaced: int,
    records: tuple[ResultRow, ...] = (),
) -> Entry:  # fmt: skip
    kept: list[ResultRow] = []
    seen: set[tuple[str, str, str]] = set()
    for row in sorted(evaluated, key=lambda row: row.made_at, reverse=True):
        images = {(item.dataset, item.image, item.mask) for item in row.accuracy}
        if images and images <= seen:
            replaced += 1
            continue
        seen |= images
        kept.append(row)
    kind = (latency or (*records, *kept)[0]).kind
    return Entry(0, model, place, kind, latency, tuple(reversed(kept)), replaced, records=records)


def borrow(entry: Entry, entries: Sequence[Entry]) -> Entry:
    """An estimate with the accuracy that its file has where it was measured, at the same size; others as they are."""
    if entry.kind != "estimated" or entry.accuracy_rows or entry.model.sha256 is None:
        return entry
    size = (entry.place.height, entry.place.width)
    lenders = [
        other for other in entries
        if other.kind == "measured" and other.model.sha256 == entry.model.sha256 and other.accuracy_rows
        and (other.place.height, other.place.width) == size
    ]  # fmt: skip
    if not lenders:
        return entry
    # In the file's own precision, then by whoever saw most, then by the runtime that computes what the graph says on
    # any processor (OpenVINO's INT8 loses accuracy where the processor has no dot products of bytes).
    lender = max(lenders, key=lambda other: (
        other.place.precision_hint == "f32", sum(len(row.accuracy) for row in other.accuracy_rows),
        other.place.runtime == "onnxruntime",
    ))  # fmt: skip
    told = f"{lender.place.runtime} {lender.place.precision_hint} on {lender.place.device}"
    return replace(entry, accuracy_rows=lender.accuracy_rows, accuracy_from=told)


def _same_size(evaluated: ResultRow, timed: ResultRow) -> bool:
    """Accuracy belongs to the network size it was measured at; a reference takes every image as it is."""
    sizes = [(row.place.height, row.place.width) for row in (evaluated, timed)]
    return sizes[0] == sizes[1] or (evaluated.model.role == "reference" and sizes[0] == (None, None))


def _order(entry: Entry) -> tuple[object, ...]:
    p50_ms = entry.latency.p50_ms if entry.latency else float("inf")
    reference = entry.model.role == "reference"
    return (entry.where, entry.kind == "estimated", reference, p50_ms, entry.place.runtime, entry.model.variant)


def family(model: ModelFacts) -> str | None:
    """Which student a variant was made of; None when the file does not tell, then nothing is compared with it."""
    return model.source_sha256


def fp32_of(entry: Entry, entries: Iterable[Entry]) -> Entry | None:
    """The FP32 entry of the same student, runtime and setting, computed in float32."""
    for other in entries:
        same_place = (other.where, other.place.runtime, other.place.threads, other.place.height,
                      other.place.width) == (entry.where, entry.place.runtime, entry.place.threads,
                                             entry.place.height, entry.place.width)  # fmt: skip
        plain = (other.model.precision, other.place.precision_hint, other.model.role) == ("fp32", "f32", "variant")
        student = family(entry.model)
        if same_place and plain and student is not None and student == family(other.model) and other.kind == entry.kind:
            return other
    return None


def _ratio(entry: Entry, entries: Iterable[Entry]) -> Ratio | None:
    if entry.latency is None or entry.model.role == "reference":
        return None
    if entry.latency.ratio_to_fp32 is not None:
        return Ratio(entry.latency.ratio_to_fp32, interleaved=True)
    base = fp32_of(entry, entries)
    if base is None or base.latency is None:
        return None
    # The FP32 variant itself is 1 by definition, not by comparing two runs.
    return Ratio(entry.latency.p50_ms / base.latency.p50_ms, interleaved=base is entry)


def datasets(entries: Iterable[Entry]) -> dict[str, list[tuple[str, str]]]:
    """Dataset → its (image, mask)s over all entries, the dataset with most images first."""
    found: dict[str, dict[tuple[str, str], None]] = {}
    for entry in entries:
        for row in entry.accuracy_rows:
            for item in row.accuracy:
                found.setdefault(item.dataset, {})[(item.image, item.mask)] = None
    return {name: list(images) for name, images in sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))}


def places(entries: Iterable[Entry]) -> list[str]:
    """Every `Entry.where`: first those where variants were timed, then those that were estimated, then the rest."""

    def rank(where: str) -> int:
        here = [entry for entry in entries if entry.where == where]
        timed = [entry for entry in here if entry.latency and entry.model.role == "variant"]
        return 0 if any(entry.kind == "measured" for entry in timed) else 1 if timed else 2

    entries = list(entries)
    return sorted(dict.fromkeys(entry.where for entry in entries), key=rank)


def mask_note(images: Sequence[tuple[str, str]]) -> str:
    """Which masks the images of a dataset were compared under, such as "noc on 5 images, all on 2"."""
    masks = [mask for _, mask in images]
    counts = {mask: masks.count(mask) for mask in dict.fromkeys(masks)}
    return ", ".join(f"{mask} pixels on {count} image{'s' if count > 1 else ''}" for mask, count in counts.items())


def reduction_of(entries: Iterable[Entry], dataset: str, images: int) -> str:
    """How the averages over a dataset were taken; see `deploy.summary.reduction_note`."""
    found = next((found for entry in entries if (found := entry.accuracy(dataset))), [])
    return reduction_note(found, images)
