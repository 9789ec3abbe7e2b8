"""deploy.report.choice: fronts and budgets by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deploy.report.choice import candidates, choose, front, worth_showing
from deploy.report.entries import Entry, datasets, make_entries
from deploy.results import ResultRow


@pytest.fixture
def entries(make_row: Callable[..., ResultRow]) -> list[Entry]:
    """Fast and bad, slow and good, dominated, as good as another within half a percent, incomplete, untimed."""
    plan = {"fast": (10.0, 3.0), "good": (40.0, 1.0), "beaten": (50.0, 2.0), "hair": (60.0, 0.997)}
    rows = [row for name, (p50, epe) in plan.items()
            for row in (make_row(name, p50=p50), make_row(name, epe=[epe, epe]))]  # fmt: skip
    rows += [make_row("half", p50=1.0), make_row("half", epe=[0.1]), make_row("untimed", epe=[0.5, 0.5])]
    return make_entries(rows)


def names(found: list) -> list[str]:
    return [item.entry.model.variant.split()[0] for item in found]


def test_front_holds_what_no_other_beats(entries: list[Entry]) -> None:
    found = candidates(entries, "pairs", "epe_px", images=2)
    assert names(found) == ["fast", "good", "beaten", "hair"]
    assert names(front(found)) == ["fast", "good"]


@pytest.mark.parametrize(
    ("budget", "best", "next_better"), [(9.9, None, None), (10.0, "fast", "good"), (40.0, "good", None)]
)
def test_budget(entries: list[Entry], budget: float, best: str | None, next_better: str | None) -> None:
    choice = choose(candidates(entries, "pairs", "epe_px", images=2), budget)
    assert choice is not None
    assert names([choice.best] if choice.best else []) == ([best] if best else [])
    assert names([choice.next_better] if choice.next_better else []) == ([next_better] if next_better else [])
    assert names([choice.fastest]) == ["fast"]


def test_nothing_to_choose_from() -> None:
    assert choose([], 10.0) is None


def test_shown_are_the_front_references_and_what_was_not_timed(entries: list[Entry]) -> None:
    shown = worth_showing(entries, datasets(entries))
    assert sorted(entry.model.variant.split()[0] for entry in entries if entry.number in shown) == [
        "fast", "good", "untimed",
    ]  # fmt: skip
