"""deploy.report.compare: regressions beyond noise, and nothing else, end in exit code 3."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.config import ReportConfig
from deploy.report.bootstrap import mean_interval
from deploy.report.compare import Check, compare
from deploy.report.entries import make_entries
from deploy.report.report import report
from deploy.results import Memory, ResultRow, write_results
from stereo.cli import main
from stereo.errors import UserError

MakeRow = Callable[..., ResultRow]
BASE = [1.0, 2.0, 3.0, 4.0, 5.0]


def judged(new: list[ResultRow], old: list[ResultRow]) -> dict[str, Check]:
    found = compare(make_entries(new), make_entries(old))
    return {check.what: check for item in found.compared for check in item.checks}


@pytest.mark.parametrize(
    ("errors", "judgement"),
    [
        (BASE, "same"),
        ([value + 0.5 for value in BASE], "worse"),
        ([value - 0.5 for value in BASE], "better"),
        ([value + 0.01 for value in BASE], "same"),  # sure, but a third of a percent
        ([6.0, 1.0, 3.0, 3.0, 5.5], "same"),  # larger on average, by one image of five
    ],
)
def test_accuracy_is_judged_image_by_image(make_row: MakeRow, errors: list[float], judgement: str) -> None:
    check = judged([make_row(epe=errors)], [make_row(epe=BASE)])["EPE px, pairs"]
    assert check.judgement == judgement


def test_few_images_are_not_judged_and_a_lost_output_is_worse(make_row: MakeRow) -> None:
    checks = judged([make_row(epe=[9.0, 9.0])], [make_row(epe=[1.0, 1.0])])
    assert checks["EPE px, pairs"].judgement == "not judged"
    checks = judged([make_row(epe=[1.0, None])], [make_row(epe=[1.0, 1.0])])
    assert checks["EPE px, pairs"].judgement == "worse"
    assert checks["EPE px, pairs"].after == "not defined"


def test_time_is_judged_against_the_noise_of_the_baseline(make_row: MakeRow) -> None:
    """p90 of these rows is 1.1 × p50: 8 % is within it, 12 % is not."""
    for p50, judgement in ((108.0, "same"), (112.0, "worse"), (85.0, "better")):
        assert judged([make_row(p50=p50)], [make_row(p50=100.0)])["p50 ms"].judgement == judgement


def test_interleaved_ratios_outweigh_medians(make_row: MakeRow) -> None:
    """Everything took twice as long on a busy machine: the ratio tells that INT8 did not become worse."""
    checks = judged(
        [make_row(precision="int8", p50=200.0, ratio=0.5)], [make_row(precision="int8", p50=100.0, ratio=0.5)]
    )
    assert (checks["time / FP32"].judgement, checks["p50 ms"].judgement) == ("same", "not judged")
    checks = judged(
        [make_row(precision="int8", p50=100.0, ratio=0.6)], [make_row(precision="int8", p50=100.0, ratio=0.5)]
    )
    assert checks["time / FP32"].judgement == "worse"
    checks = judged([make_row(p50=200.0, ratio=1.0)], [make_row(p50=100.0, ratio=1.0)])
    assert checks["p50 ms"].judgement == "worse"


def test_memory(make_row: MakeRow) -> None:
    larger = dataclasses.replace(make_row(p50=1.0), memory=Memory(310.0, 133.0))
    assert judged([larger], [make_row(p50=1.0)])["memory MB"].judgement == "worse"
    assert judged([make_row(p50=1.0)], [make_row(p50=1.0)])["memory MB"].judgement == "same"


def test_memory_of_a_jetson_is_judged_with_the_gpu_s_part(make_row: MakeRow) -> None:
    """The process grew less while the GPU took more."""

    def used(process: float, board: float | None) -> list[ResultRow]:
        return [dataclasses.replace(make_row(p50=1.0), memory=Memory(300.0, process, board))]

    worse = judged(used(90.0, 800.0), used(100.0, 700.0))["memory MB"]
    assert (worse.before, worse.after, worse.judgement) == ("700", "800", "worse")
    assert judged(used(100.0, None), used(100.0, 700.0))["memory MB"].judgement == "lost"
    # An older baseline without it says nothing about the board.
    assert judged(used(100.0, 700.0), used(100.0, None))["memory MB"].judgement == "same"


def test_boards_power_modes_and_kinds_are_never_compared_with_each_other(make_row: MakeRow) -> None:
    for change in ({"device": "other"}, {"power_mode": "15W"}, {"kind": "estimated"}, {"threads": 2}):
        with pytest.raises(UserError, match="no variant of the results is in the baseline"):
            compare(make_entries([make_row(p50=1.0, **change)]), make_entries([make_row(p50=1.0)]))


def test_accuracy_that_an_estimate_borrowed_is_compared_once(make_row: MakeRow) -> None:
    """Where it was measured."""
    old = [make_row(epe=BASE), make_row(p50=5.0, kind="estimated", device="a Jetson")]
    new = [make_row(epe=[value + 1 for value in BASE]), old[1]]
    found = compare(make_entries(new), make_entries(old))
    assert [item.entry.kind for item, _ in found.worse] == ["measured"]
    assert {check.what for item in found.compared if item.entry.kind == "estimated" for check in item.checks} == {
        "p50 ms", "memory MB",
    }  # fmt: skip


def test_new_weights_of_the_same_name_are_compared_and_gone_ones_told(make_row: MakeRow) -> None:
    found = compare(
        make_entries([make_row(p50=1.0, sha256="99" * 32), make_row("new", p50=1.0)]),
        make_entries([make_row(p50=1.0), make_row("gone", p50=1.0)]),
    )
    assert len(found.compared) == 1
    assert [name.split()[0] for name in (*found.gone, *found.added)] == ["gone", "new"]


@pytest.mark.parametrize(
    ("change", "what"),
    [({"accuracy": ()}, "accuracy, pairs"), ({"latency": None}, "p50 ms"), ({"memory": None}, "memory MB")],
)
def test_what_only_the_baseline_measured_is_lost(make_row: MakeRow, change: dict[str, Any], what: str) -> None:
    whole = make_row(p50=1.0, epe=BASE)
    found = compare(make_entries([dataclasses.replace(whole, **change)]), make_entries([whole]))
    assert what in [check.what for _, check in found.lost]
    assert not found.is_passed
    assert found.worse == []
    # The other way round something was added, which is no loss.
    assert compare(make_entries([whole]), make_entries([dataclasses.replace(whole, **change)])).is_passed


def test_lost_images_and_datasets_are_told(make_row: MakeRow) -> None:
    checks = judged([make_row(epe=BASE[:3])], [make_row(epe=BASE), make_row(epe=[1.0], dataset="clip")])
    images, clip = checks["accuracy, pairs"], checks["accuracy, clip"]
    assert (images.before, images.after, images.judgement) == ("5 images", "3 of them", "lost")
    assert (clip.before, clip.after, clip.judgement) == ("1 image", "not measured", "lost")
    assert checks["EPE px, pairs"].judgement == "same"


def test_interval_of_a_known_mean() -> None:
    """It is near that of the normal distribution, and holds the true mean about 95 times in 100."""
    draws = np.random.default_rng(0).normal(1.0, 2.0, (200, 40))
    held = 0
    for draw in draws:
        interval = mean_interval(draw.tolist())
        assert interval.low is not None
        assert interval.high is not None
        held += interval.low <= 1.0 <= interval.high
        assert interval.high - interval.low == pytest.approx(2 * 1.96 * draw.std() / np.sqrt(40), rel=0.2)
    # 200 draws of a 93-to-95 % interval: three standard deviations are 5 %.
    assert 0.88 < held / 200 <= 1.0
    assert mean_interval([1.0, 3.0], [3.0, 1.0]).mean == 1.5


def test_a_variant_that_is_gone_fails(tmp_path: Path, make_row: MakeRow) -> None:
    old, new = (str(tmp_path / name) for name in ("old.json", "new.json"))
    write_results(old, [make_row(p50=1.0), make_row("gone", p50=1.0)])
    write_results(new, [make_row(p50=1.0)])
    words = ["report", new, "--baseline", old, "--out", str(tmp_path / "report.html")]
    assert main([*words, "--fail-on-regression"]) == 3
    assert main(words) == 0


def test_command_line(
    tmp_path: Path, make_row: MakeRow, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for folder, errors in (("a", BASE), ("b", [value + 1 for value in BASE])):
        write_results(tmp_path / folder / "results.json", [make_row(epe=errors), make_row(p50=1.0)])
    files = [str(tmp_path / folder / "results.json") for folder in "ab"]
    out = str(tmp_path / "report.html")
    words = ["report", *files, "--baseline", str(tmp_path / "a"), "--out", out]
    assert main(words) == 0
    assert main([*words, "--fail-on-regression"]) == 3
    assert capsys.readouterr().out == f"{out}\n{out}\n"
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "## Against the baseline" in text
    assert "1 regression beyond noise in 1 variants." in text
    assert "| EPE px, pairs | 3.00 | 4.00 | +1.00 px (95 % interval +1.00 to +1.00, 5 images) | worse |" in text
    assert '<strong class="problem">1 regression.</strong>' in Path(out).read_text(encoding="utf-8")
    assert main([*words, "--references", "nano fp32"]) == 0
    assert '"role": "reference"' in Path(out).read_text(encoding="utf-8")
    write_results(files[1], [make_row(p50=1.0)])
    assert main([*words, "--fail-on-regression"]) == 3
    assert "only in the baseline: nano fp32 (openvino f32, 480x640), accuracy, pairs: 5 images" in caplog.text
    assert "Measurements only in the baseline: 1." in (tmp_path / "report.md").read_text(encoding="utf-8")
    lost = '<td>5 images</td><td>not measured</td><td class="name">only in the baseline</td>'
    assert f'{lost}<td class="judgement lost">lost</td>' in Path(out).read_text(encoding="utf-8")
    assert main(["report", files[0], files[1], "--baseline", files[1], "--fail-on-regression", "--out", out]) == 0


def test_nothing_to_compare_with(tmp_path: Path, make_row: MakeRow) -> None:
    path = str(tmp_path / "results.json")
    write_results(path, [make_row(epe=BASE)])
    with pytest.raises(UserError, match="only the baseline"):
        report(ReportConfig([path], baseline=path, out=str(tmp_path / "r.html")))
    with pytest.raises(UserError, match="nothing to be worse than"):
        report(ReportConfig([path], fail_on_regression=True, out=str(tmp_path / "r.html")))
