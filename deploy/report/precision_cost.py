"""What lower precision costs: each variant beside the FP32 variant of the same student in the same place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deploy.report.bootstrap import Interval
from deploy.report.entries import Entry, fp32_of
from deploy.report.paired import paired


@dataclass(frozen=True)
class Cost:
    """A variant against its FP32.

    Args:
        base: the FP32 entry.
        epe, bad2: change on the dataset, None when one of both was not evaluated.
        time: ratio, None when one was not timed.
        size: ratio of the files.
    """

    entry: Entry
    base: Entry
    epe: Interval | None
    bad2: Interval | None
    time: float | None
    size: float | None


def costs(entries: Sequence[Entry], dataset: str | None) -> list[Cost]:
    """Every variant that has an FP32 variant to be compared with, in the order of the entries."""
    found = []
    for entry in entries:
        base = fp32_of(entry, entries)
        if base is None or base is entry or entry.model.role == "reference":
            continue
        ours, theirs = (one.accuracy(dataset) if dataset is not None else [] for one in (entry, base))
        sizes = (entry.model.size_bytes, base.model.size_bytes)
        found.append(Cost(
            entry, base, paired(ours, theirs, "epe_px"), paired(ours, theirs, "bad2_pct"),
            entry.ratio.value if entry.ratio else None,
            sizes[0] / sizes[1] if sizes[0] and sizes[1] and entry.model.sha256 != base.model.sha256 else None,
        ))  # fmt: skip
    return found
