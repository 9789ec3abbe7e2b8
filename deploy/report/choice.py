"""Which variants are worth choosing: those that no other beats in both latency and error, and the best for a budget.

Measured and estimated times are never weighed against each other: each kind has a front of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deploy.report.entries import Entry

# What the page and report.md answer before anybody moves a slider.
DEFAULT_FPS = 30.0
# A slower variant must be better by half a percent of its error: FP16 is not worth its time for a hundredth of one.
LEAST_GAIN = 0.005


@dataclass(frozen=True)
class Candidate:
    """A variant that has both numbers.

    Args:
        error: average over all images of the dataset.
    """

    entry: Entry
    p50_ms: float
    error: float


@dataclass(frozen=True)
class Choice:
    """What fits a budget.

    Args:
        best: the most accurate variant within it; None when none is.
        next_better: the fastest of those that are more accurate than that; None when there is none.
        fastest: of all.
    """

    budget_ms: float
    best: Candidate | None
    next_better: Candidate | None
    fastest: Candidate


def is_complete(entry: Entry, dataset: str, metric: str, *, images: int) -> bool:
    """Whether its average covers every image, so that it can be compared."""
    return entry.mean(dataset, metric) is not None and len(entry.accuracy(dataset)) == images


def candidates(entries: Iterable[Entry], dataset: str, metric: str, *, images: int) -> list[Candidate]:
    """The variants of one place and kind that have a latency and a complete average."""
    found = []
    for entry in entries:
        error = entry.mean(dataset, metric)
        if entry.model.role != "variant" or entry.latency is None or error is None:
            continue
        if is_complete(entry, dataset, metric, images=images):
            found.append(Candidate(entry, entry.latency.p50_ms, error))
    return found


def front(found: Sequence[Candidate]) -> list[Candidate]:
    """Those that no other beats, fastest first: each is more accurate than all faster ones, by `LEAST_GAIN`."""
    kept: list[Candidate] = []
    for item in sorted(found, key=lambda item: (item.p50_ms, item.error)):
        if not kept or item.error < (1 - LEAST_GAIN) * kept[-1].error:
            kept.append(item)
    return kept


def choose(found: Sequence[Candidate], budget_ms: float) -> Choice | None:
    """The most accurate within a time per pair; None when there is nothing to choose from."""
    best_first = front(found)
    if not best_first:
        return None
    within = [item for item in best_first if item.p50_ms <= budget_ms]
    beyond = [item for item in best_first if item.p50_ms > budget_ms]
    return Choice(budget_ms, within[-1] if within else None, beyond[0] if within and beyond else None, best_first[0])


def worth_showing(entries: Sequence[Entry], found: dict[str, list[tuple[str, str]]]) -> set[int]:
    """Numbers of the undominated entries of each place, kind and dataset, with references and the FP32 of each.

    An entry without latency or without truth is dominated by nothing; see `deploy.report.pictures` for the limit.
    """
    shown = {entry.number for entry in entries if entry.model.role == "reference" or entry.latency is None}
    for where in dict.fromkeys((entry.where, entry.kind) for entry in entries):
        here = [entry for entry in entries if (entry.where, entry.kind) == where]
        for dataset, images in found.items():
            best = front(candidates(here, dataset, "epe_px", images=len(images)))
            shown |= {item.entry.number for item in best}
    return shown
