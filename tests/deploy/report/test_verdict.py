"""deploy.report.verdict: the sentences follow from the rows."""

from __future__ import annotations

from collections.abc import Callable

from deploy.report.entries import make_entries
from deploy.report.verdict import verdict
from deploy.results import ResultRow


def test_fastest_most_accurate_references_and_cost_of_int8(rows: list[ResultRow]) -> None:
    first, second = verdict(make_entries(rows))
    assert first.startswith("On a board: the fastest variant is nano fp32 (openvino bf16) with 60.0 ms per pair")
    assert (
        "The most accurate is nano fp32 (openvino f32) at 480x640: EPE 2.00 px averaged over 3 images of pairs" in first
    )
    assert "teacher fp32 0.60 px" in first
    assert "1.00 px on 80.0 % of the pixels" in first
    assert "nano int8 changes EPE by +0.15 px (FP32 2.00 px, INT8 2.15 px) and takes 0.47 times the time" in first
    assert second.startswith("On another board: the fastest variant is nano fp32")
    assert "Accuracy was not measured." in second


def test_incomplete_averages_do_not_win(make_row: Callable[..., ResultRow]) -> None:
    rows = [make_row(epe=[1.0, 9.0]), make_row("easy", epe=[0.1])]
    assert "The most accurate is nano fp32" in verdict(make_entries(rows))[0]


def test_nothing_timed_nothing_scored(make_row: Callable[..., ResultRow]) -> None:
    (text,) = verdict(make_entries([make_row()]))
    assert text == "On a board: latency was not measured. Accuracy was not measured."


def test_problems_are_named(make_row: Callable[..., ResultRow]) -> None:
    told = verdict(make_entries([make_row(epe=[1.0], problems=("3 pixels NaN",))]))
    assert "Read with care: nano fp32 (openvino f32)" in told[-1]


def test_estimated_is_said(make_row: Callable[..., ResultRow]) -> None:
    assert "(estimated)" in verdict(make_entries([make_row(p50=5.0, kind="estimated")]))[0]
