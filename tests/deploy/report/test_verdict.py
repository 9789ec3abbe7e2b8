"""deploy.report.verdict: the answers follow from the rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import pytest

from deploy.report.entries import make_entries
from deploy.report.references import as_references
from deploy.report.verdict import answers, budget_sentences, most_accurate
from deploy.results import ResultRow
from stereo.error_regions import RegionErrors
from stereo.errors import UserError


def told(rows: Sequence[ResultRow], which: int) -> list[str]:
    return [f"{item.about}: {item.text}" for item in answers(make_entries(rows))[which].sentences]


def test_each_board_gets_its_own_answer_for_a_frame_rate(rows: list[ResultRow]) -> None:
    first, second = told(rows, 0)
    assert first == (
        "a board: no variant reaches 30.0 fps (33.3 ms per pair); the fastest is 1 nano fp32 (openvino bf16, 480x640) "
        "with 60.0 ms (16.7 fps), EPE 2.03 px."
    )
    assert second.startswith("another board: the fastest is ")
    assert second.endswith("with 30.0 ms; accuracy was not measured on all images.")


def test_what_fits_and_what_the_next_better_costs(rows: list[ResultRow]) -> None:
    sentence, _ = budget_sentences(make_entries(rows), 10.0)
    assert sentence.text == (
        "at 10.0 fps (100 ms per pair), take 1 nano fp32 (openvino bf16, 480x640) with 60.0 ms (16.7 fps), EPE 2.03 px."
        " The next better, 3 nano fp32 (openvino f32, 480x640) with 200 ms (5.00 fps), EPE 2.00 px, costs 140 ms more "
        "for 0.0333 px less."
    )
    sentence, _ = budget_sentences(make_entries(rows), 2.0)
    assert sentence.text.endswith("None is more accurate.")


def test_what_int8_costs(rows: list[ResultRow]) -> None:
    (text,) = told(rows, 1)
    assert text == (
        "2 nano int8 (openvino f32, 480x640): 0.47 times the time of FP32; EPE +0.15 px, from 2.00 to 2.15 (95 % "
        "interval +0.10 to +0.25, 3 images); 1.00 times the file."
    )


def test_where_the_most_accurate_fails(make_row: Callable[..., ResultRow]) -> None:
    row = make_row(epe=[1.0, 9.0])
    regions = (RegionErrors("visibility", "occluded", 100, 100, 4.0, 60.0),
               RegionErrors("visibility", "seen by both cameras", 900, 900, 1.0, 10.0))  # fmt: skip
    row = dataclasses.replace(row, accuracy=tuple(dataclasses.replace(item, regions=regions) for item in row.accuracy))
    texts = told([row, make_row("easy", epe=[0.1])], 2)
    assert texts[0].endswith(
        "nano fp32 (openvino f32, 480x640): the most accurate, EPE 5.00 px over 2 images of pairs."
    )
    assert texts[1:] == [
        ": 60 % of the occluded pixels are off by more than 2 px, of the rest 10 %; they are 10 % of all.",
        ": The worst of its 2 images is image 1: EPE 9.00 px, 5.00 px on average.",
    ]


def test_references_stand_beside(rows: list[ResultRow]) -> None:
    assert "(for reference: teacher fp32 0.600 px, SGBM 1.00 px on 80.0 % of the pixels)" in told(rows, 2)[0]


def test_incomplete_averages_do_not_win(make_row: Callable[..., ResultRow]) -> None:
    best = most_accurate(make_entries([make_row(epe=[1.0, 9.0]), make_row("easy", epe=[0.1])]))
    assert best is not None
    assert best.model.variant == "nano fp32"


def test_nothing_timed_nothing_scored(make_row: Callable[..., ResultRow]) -> None:
    rows = [make_row()]
    assert told(rows, 0) == []
    assert told(rows, 2) == [": Accuracy was not measured on all images of a dataset, so there is no telling."]


def test_problems_are_named(make_row: Callable[..., ResultRow]) -> None:
    (text,) = told([make_row(epe=[1.0], problems=("3 pixels NaN",))], 3)
    assert text == "1 nano fp32 (openvino f32, 480x640): came with problems, told under their numbers."


def test_estimated_is_said_and_never_beats_a_measurement(make_row: Callable[..., ResultRow]) -> None:
    rows = [make_row(p50=20.0), make_row(epe=[1.0]), make_row(p50=5.0, kind="estimated")]
    measured, estimated = told(rows, 0)
    assert "with 20.0 ms" in measured
    assert "estimated" not in measured
    assert "estimated, not measured: at 30.0 fps" in estimated
    assert "with 5.00 ms" in estimated


def test_estimates_carry_their_error_bar_and_say_whose_accuracy_they_show(make_row: Callable[..., ResultRow]) -> None:
    estimate = make_row(p50=5.0, kind="estimated", device="a Jetson", runtime="roofline")
    assert estimate.latency is not None
    latency = dataclasses.replace(estimate.latency, p90_ms=None, p99_ms=None, mean_ms=None, low_ms=4.0, high_ms=7.5)
    entries = make_entries([make_row(epe=[1.0, 2.0]), dataclasses.replace(estimate, latency=latency)])
    (sentence,) = budget_sentences(entries, 30.0)
    assert sentence.about == "a Jetson"
    assert "with 5.00 ms (200 fps; 4.00 to 7.50 ms), EPE 1.50 px" in sentence.text
    assert "It may miss" not in sentence.text
    (sentence,) = budget_sentences(entries, 150.0)
    assert "EPE 1.50 px. It may miss that: the error bar reaches beyond." in sentence.text
    borrowed = next(entry for entry in entries if entry.kind == "estimated")
    assert borrowed.accuracy_from == "openvino f32 on a board"
    best = most_accurate(entries)
    assert best is not None
    assert best.kind == "measured"


def test_estimates_borrow_from_onnxruntime_where_they_can_choose(make_row: Callable[..., ResultRow]) -> None:
    measured = [make_row(epe=[1.0], runtime=runtime) for runtime in ("openvino", "onnxruntime", "tensorrt_rtx")]
    entries = make_entries([*measured, make_row(p50=5.0, kind="estimated", device="a Jetson")])
    (borrowed,) = [entry.accuracy_from for entry in entries if entry.accuracy_from]
    assert borrowed == "onnxruntime f32 on a board"


def test_estimates_borrow_from_the_same_file_at_the_same_size_only(make_row: Callable[..., ResultRow]) -> None:
    for change in ({"height": 240}, {"sha256": "99" * 32}, {"height": None, "width": None}):
        entries = make_entries([make_row(epe=[1.0], **change), make_row(p50=5.0, kind="estimated", device="a Jetson")])
        assert [entry.accuracy_from for entry in entries] == [None, None]


WRONG = "sums of OpenVINO's INT8 can saturate on it"
IN_FLOAT = "its errors are those of INT8, its times are not"


def test_problems_stand_beside_every_answer_that_rests_on_them(make_row: Callable[..., ResultRow]) -> None:
    """INT8 that came with a problem does not lead, however fast it was."""
    rows = [
        make_row(p50=20.0, epe=[1.0, 2.0]),
        make_row(precision="int8", p50=10.0, epe=[5.0, 6.0], problems=(WRONG,)),
        make_row(runtime="onnxruntime", p50=40.0, epe=[1.0, 2.0]),
        make_row(runtime="onnxruntime", precision="int8", p50=30.0, epe=[1.1, 2.1]),
    ]
    (budget,) = budget_sentences(make_entries(rows), 70.0)
    assert budget.text.endswith(f"costs 10.0 ms more for 4.00 px less. Read 1 with care: {WRONG}.")
    (budget,) = budget_sentences(make_entries(rows), 400.0)
    assert budget.text.endswith(f"EPE 5.50 px. Read 1 with care: {WRONG}.")
    (budget,) = budget_sentences(make_entries(rows), 30.0)
    assert "with care" not in budget.text
    first, second = told(rows, 1)
    assert "onnxruntime" in first
    assert "with care" not in first
    assert second.endswith(f"1.00 times the file. Read 1 with care: {WRONG}.")
    text = told([dataclasses.replace(rows[0], problems=("a", "b"))], 2)[0]
    assert text.endswith("of pairs. Read 1 with care: a. Read 1 with care: b.")
    assert told([make_row(p50=1.0, problems=("a",))], 0)[0].endswith("on all images. Read 1 with care: a.")


def test_problems_of_a_borrowed_accuracy_are_told_as_such(make_row: Callable[..., ResultRow]) -> None:
    rows = [make_row(precision="int8", runtime="onnxruntime", epe=[1.0], problems=(IN_FLOAT,)),
            make_row(precision="int8", p50=5.0, kind="estimated", device="a Jetson")]  # fmt: skip
    (sentence,) = budget_sentences(make_entries(rows), 30.0)
    assert sentence.text.endswith(
        f"with care: its accuracy is from onnxruntime f32 on a board: {IN_FLOAT}."
    )  # fmt: skip


def test_references_are_never_the_answer(make_row: Callable[..., ResultRow]) -> None:
    """Also under another name of the same file, and in another row."""
    rows = [make_row(p50=10.0, epe=[1.0]), make_row("heavy", p50=20.0), make_row("heavy", epe=[0.2]),
            make_row("heavy too", p50=15.0, runtime="onnxruntime", sha256=make_row("heavy").model.sha256)]  # fmt: skip
    assert "heavy" in budget_sentences(make_entries(rows), 30.0)[0].text
    changed = as_references(rows, ["heavy fp32"])
    assert [row.model.role for row in changed] == ["variant", "reference", "reference", "reference"]
    assert "heavy" not in "".join(item.text for item in budget_sentences(make_entries(changed), 30.0))
    assert "(for reference: heavy fp32 0.200 px)" in told(changed, 2)[0]
    with pytest.raises(UserError, match="no variant of the results is called 'hevy'"):
        as_references(rows, ["hevy"])
