"""`report B --baseline A`: what became worse beyond noise, variant by variant, and what was not measured any more.

Accuracy is compared image by image (`deploy.report.paired`). Times of two runs are noisy in ways that no run shows by
itself, so where both runs took turns with FP32 the ratios are compared, which other work on the machine cancels out of;
else a median counts as slower when nine of ten runs of the baseline were faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from deploy.report.entries import Entry, datasets
from deploy.report.paired import interval_text, paired
from deploy.report.text import NOT_MEASURED, label, number
from deploy.summary import METRICS
from stereo.errors import UserError

Judgement = Literal["worse", "lost", "better", "same", "not judged"]

JUDGED_METRICS = ("epe_px", "bad2_pct", "d1_pct")
# Of the baseline's value: what is sure but smaller changes nobody's decision, and floats may differ that much.
LEAST_ACCURACY_CHANGE, LEAST_TIME_CHANGE, LEAST_MEMORY_CHANGE = 0.01, 0.05, 0.05


@dataclass(frozen=True)
class Check:
    """One number before and after.

    Args:
        what: such as "EPE px, pairs".
        before, after: as text.
        change: as text, with its interval where there is one.
        judgement: "lost" is what only the baseline has: whatever became of it, nobody looked.
    """

    what: str
    before: str
    after: str
    change: str
    judgement: Judgement


@dataclass(frozen=True)
class Compared:
    """One variant in both."""

    entry: Entry
    base: Entry
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Comparison:
    """Everything that was compared, and the labels of what only one side has."""

    compared: tuple[Compared, ...]
    gone: tuple[str, ...]
    added: tuple[str, ...]

    @property
    def worse(self) -> list[tuple[Compared, Check]]:
        """The regressions."""
        return self.judged("worse")

    @property
    def lost(self) -> list[tuple[Compared, Check]]:
        """What the baseline measured of the same variants and these results did not."""
        return self.judged("lost")

    @property
    def is_passed(self) -> bool:
        """Whether nothing became worse, and all that the baseline has is there to tell."""
        return not (self.worse or self.lost or self.gone)

    def judged(self, judgement: Judgement) -> list[tuple[Compared, Check]]:
        """All checks with this outcome."""
        return [(item, check) for item in self.compared for check in item.checks if check.judgement == judgement]


def compare(entries: Sequence[Entry], baseline: Sequence[Entry]) -> Comparison:
    """Compare the entries of two sets of results.

    Raises:
        UserError: they have nothing in common.
    """
    pairs = [(entry, base) for entry in entries if (base := counterpart(entry, baseline, entries)) is not None]
    if not pairs:
        raise UserError("no variant of the results is in the baseline under the same runtime, device, power mode, "
                        "threads and size", where="--baseline", fix="measure both in the same place")  # fmt: skip
    met, met_bases = {entry.number for entry, _ in pairs}, {base.number for _, base in pairs}
    return Comparison(
        tuple(Compared(entry, base, tuple(checks(entry, base))) for entry, base in pairs),
        gone=tuple(label(base) for base in baseline if base.number not in met_bases),
        added=tuple(label(entry) for entry in entries if entry.number not in met),
    )


def key(entry: Entry) -> tuple[object, ...]:
    """What two entries must share to be compared: everything but the weights and the versions."""
    model, where = entry.model, entry.place
    return (model.variant, model.precision, model.role, entry.kind, entry.where, where.runtime, where.precision_hint,
            where.threads, where.height, where.width)  # fmt: skip


def counterpart(entry: Entry, baseline: Sequence[Entry], entries: Sequence[Entry]) -> Entry | None:
    """The entry to compare with: of the same file where names are not unique; None when that is not clear."""
    alike = [base for base in baseline if key(base) == key(entry)]
    same_file = [base for base in alike if base.model.sha256 == entry.model.sha256]
    if len(same_file) == 1:
        return same_file[0]
    is_alone = sum(key(other) == key(entry) for other in entries) == 1
    return alike[0] if len(alike) == 1 and is_alone else None


def checks(entry: Entry, base: Entry) -> list[Check]:
    """Every number that the baseline has."""
    found = []
    # An estimate's accuracy was measured elsewhere, and is compared there.
    for dataset in datasets([base]) if base.accuracy_from is None else ():
        found += lost_images(entry, base, dataset)
        if entry.accuracy(dataset):
            found += [accuracy_check(entry, base, dataset, metric) for metric in JUDGED_METRICS]
    return [*found, *time_checks(entry, base), *memory_checks(entry, base)]


def lost(what: str, before: str, after: str = NOT_MEASURED) -> Check:
    """A number that only the baseline has."""
    return Check(what, before, after, "only in the baseline", "lost")


def lost_images(entry: Entry, base: Entry, dataset: str) -> list[Check]:
    """A check when images of the baseline, or all of them, were not evaluated."""
    ours, theirs = ({(item.image, item.mask) for item in one.accuracy(dataset)} for one in (entry, base))
    missing = len(theirs - ours)
    if not missing:
        return []
    before = f"{len(theirs)} image{'s' if len(theirs) != 1 else ''}"
    if missing == len(theirs):
        return [lost(f"accuracy, {dataset}", before)]
    return [lost(f"accuracy, {dataset}", before, f"{len(theirs) - missing} of them")]


def accuracy_check(entry: Entry, base: Entry, dataset: str, metric: str) -> Check:
    """One metric on one dataset."""
    ours, theirs = entry.accuracy(dataset), base.accuracy(dataset)
    undefined = sum(getattr(item, metric) is None for item in ours)
    interval = paired(ours, theirs, metric)
    before, after = base.mean(dataset, metric), entry.mean(dataset, metric)
    texts = [
        f"{METRICS[metric]}, {dataset}",
        *("not defined" if mean is None else number(mean) for mean in (before, after)),
    ]
    if undefined > sum(getattr(item, metric) is None for item in theirs):
        count = f"{undefined} image{'s' if undefined > 1 else ''} without any valid output"
        return Check(texts[0], texts[1], texts[2], count, "worse")
    if interval is None:
        return Check(texts[0], texts[1], texts[2], "no image in common", "not judged")
    change = interval_text(interval, METRICS[metric].split()[-1])
    if interval.low is None:
        return Check(texts[0], texts[1], texts[2], change, "not judged")
    matters = abs(interval.mean) > LEAST_ACCURACY_CHANGE * abs(before or 0.0)
    judgement: Judgement = "same"
    if matters and (interval.is_above_zero or interval.is_below_zero):
        judgement = "worse" if interval.mean > 0 else "better"
    return Check(texts[0], texts[1], texts[2], change, judgement)


def time_checks(entry: Entry, base: Entry) -> list[Check]:
    """The median, and the ratio to FP32 where both runs took turns with it."""
    ours, theirs = entry.latency, base.latency
    if theirs is None:
        return []
    if ours is None:
        return [lost("p50 ms", number(theirs.p50_ms))]
    found = []
    ratios = (ours.ratio_to_fp32, theirs.ratio_to_fp32)
    is_fp32 = ours.ratio_to_fp32 == 1 and theirs.ratio_to_fp32 == 1
    if ratios[0] is not None and ratios[1] is not None and not is_fp32:
        change = ratios[0] / ratios[1] - 1
        found.append(Check("time / FP32", f"{ratios[1]:.2f}", f"{ratios[0]:.2f}",
                           f"{change:+.1%}, in runs that took turns", by_size(change, LEAST_TIME_CHANGE)))  # fmt: skip
    change = ours.p50_ms / theirs.p50_ms - 1
    # An estimate comes out the same every time: whatever changed, changed.
    slower = theirs.p90_ms is None or ours.p50_ms > theirs.p90_ms
    faster = ours.p90_ms is None or ours.p90_ms < theirs.p50_ms
    if found:
        judgement: Judgement = "not judged"
        note = "told by the ratio, which other work on the machine does not change"
    else:
        judgement = by_size(change, LEAST_TIME_CHANGE) if slower or faster else "same"
        note = "both estimated" if theirs.p90_ms is None else f"separate runs, p90 was {number(theirs.p90_ms)} ms"
    found.append(Check("p50 ms", number(theirs.p50_ms), number(ours.p50_ms), f"{change:+.1%}; {note}", judgement))
    return found


def memory_checks(entry: Entry, base: Entry) -> list[Check]:
    """What running it takes: of the board where both were measured there, else of the process."""
    if base.memory is None or base.memory.used_mb <= 0:
        return []
    if entry.memory is None or (base.memory.board_mb is not None and entry.memory.board_mb is None):
        return [lost("memory MB", number(base.memory.used_mb))]
    of_board = base.memory.board_mb is not None
    after = entry.memory.used_mb if of_board else entry.memory.peak_over_baseline_mb
    before = base.memory.used_mb
    change = after / before - 1
    judgement = by_size(change, LEAST_MEMORY_CHANGE)
    return [Check("memory MB", number(before), number(after), f"{change:+.1%}", judgement)]


def by_size(change: float, least: float) -> Judgement:
    """More is worse."""
    return "worse" if change > least else "better" if change < -least else "same"
