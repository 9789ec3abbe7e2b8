"""Every benchmark's numbers, worked out by hand, on two pairs in its own layout: masks, limits and reductions."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy import evaluate as verb
from deploy.config import EvaluateConfig, ReportConfig
from deploy.evaluate import counting_of, evaluate, score_all
from deploy.report.entries import make_entries
from deploy.report.report import report
from deploy.results import ModelFacts, ResultRow, read_results, write_results
from deploy.runners.protocol import NativeMethod
from deploy.scores import Scores
from deploy.summary import METRICS, mean_of
from stereo.cli import main
from stereo.errors import UserError
from stereo.pair import StereoPair
from stereo.truth_set import open_truth_set

# Truths: 10 20 30 40 | 50 100 200 -, and 8 - - - | - - - 16. The pixel with truth 50 is occluded.
# Errors: 0 0.5 1.5 2.5 | 4 4 20, and 0 | 5. Of the three above 3 px, 4 of 100 is within 5 %.
PREDICTIONS = {
    10: np.array([[10, 20.5, 31.5, 42.5], [54, 104, 180, 7]], np.float32),
    20: np.array([[8, 1, 2, 3], [4, 5, 6, 21]], np.float32),
}
# EPE, bad-1, bad-2, bad-3, D1 in pixels; and how many pixels.
FIRST_ALL = (32.5 / 7, 5, 4, 3, 2, 7)
FIRST_NOC = (28.5 / 6, 4, 3, 2, 1, 6)
FIRST_BELOW_192 = (12.5 / 6, 4, 3, 2, 1, 6)
SECOND = (2.5, 1, 1, 1, 1, 2)


def average(first: tuple[float, ...], second: tuple[float, ...], pooled: set[str]) -> dict[str, float]:
    """EPE averaged; of the counts, a share of both images' pixels, or the mean of two shares."""
    expected = {"epe_px": (first[0] + second[0]) / 2}
    for index, metric in enumerate(("bad1_pct", "bad2_pct", "bad3_pct", "d1_pct"), 1):
        share = (first[index] + second[index]) / (first[-1] + second[-1])
        mean = (first[index] / first[-1] + second[index] / second[-1]) / 2
        expected[metric] = 100 * (share if metric in pooled else mean)
    return expected


PER_IMAGE, KITTI, SCENEFLOW = {"d1_pct"}, {"d1_pct", "bad3_pct"}, {"d1_pct", "bad1_pct", "bad2_pct", "bad3_pct"}
EXPECTED: dict[str, dict[str, tuple[str, dict[str, float]]]] = {
    "middlebury": {
        "Middlebury v3 trainingQ, noc": ("noc", average(FIRST_NOC, SECOND, PER_IMAGE)),
        "Middlebury v3 trainingQ, all": ("all", average(FIRST_ALL, SECOND, PER_IMAGE)),
    },
    "eth3d": {
        "ETH3D training, noc": ("noc", average(FIRST_NOC, SECOND, PER_IMAGE)),
        "ETH3D training, all": ("all", average(FIRST_ALL, SECOND, PER_IMAGE)),
    },
    "kitti2012": {
        "KITTI 2012 training, noc": ("noc", average(FIRST_NOC, SECOND, KITTI)),
        "KITTI 2012 training, all": ("all", average(FIRST_ALL, SECOND, KITTI)),
    },
    "kitti2015": {
        "KITTI 2015 training, noc": ("noc", average(FIRST_NOC, SECOND, KITTI)),
        "KITTI 2015 training, all": ("all", average(FIRST_ALL, SECOND, KITTI)),
    },
    "sceneflow": {
        "FlyingThings3D finalpass TEST, all, disparity < 192": (
            "all, disparity < 192", average(FIRST_BELOW_192, SECOND, SCENEFLOW),
        ),
    },
    "fsd": {"FSD, all": ("all", average(FIRST_ALL, SECOND, PER_IMAGE))},
    "pairs": {"toy": ("noc", average(FIRST_NOC, SECOND, PER_IMAGE))},
}  # fmt: skip


def known_method() -> NativeMethod:
    """Predicts what this file works out by hand; the colour of the left image tells which pair it is."""

    def predict(pair: StereoPair) -> np.ndarray:
        return PREDICTIONS[10 * round(float(pair.left.mean()) / 10)]

    return NativeMethod(predict, "numpy", "2", "f32", 1)


def scored(folder: Path, out: Path, **options: Any) -> list[ResultRow]:
    truth = open_truth_set(folder, images=options.pop("images", 0))
    counting = counting_of(truth, EvaluateConfig(["none"], data=str(folder), out=str(out), **options))
    scores = Scores(known_method(), ModelFacts("known"), counting)
    return score_all(scores, truth, out, title="known")


def test_the_sums_of_this_file_by_hand() -> None:
    """A few of the expectations as plain numbers, so that a wrong formula above shows too."""
    noc = EXPECTED["kitti2015"]["KITTI 2015 training, noc"][1]
    assert noc == {"epe_px": 3.625, "bad1_pct": pytest.approx(100 * 7 / 12), "bad2_pct": 50.0,
                   "bad3_pct": 37.5, "d1_pct": 25.0}  # fmt: skip
    assert EXPECTED["middlebury"]["Middlebury v3 trainingQ, noc"][1]["bad3_pct"] == pytest.approx(100 * 5 / 12)
    limited = EXPECTED["sceneflow"]["FlyingThings3D finalpass TEST, all, disparity < 192"][1]
    assert limited == {"epe_px": pytest.approx(55 / 24), "bad1_pct": 62.5, "bad2_pct": 50.0, "bad3_pct": 37.5,
                       "d1_pct": 25.0}  # fmt: skip


@pytest.mark.parametrize("layout", EXPECTED)
def test_numbers_of_every_benchmark(tmp_path: Path, tiny_benchmarks: Any, layout: str) -> None:
    folder = tiny_benchmarks.write(layout, tmp_path / "toy")
    scored(folder, tmp_path / "results.json")
    rows = {row.accuracy[0].dataset: row for row in read_results(tmp_path / "results.json")}
    assert list(rows) == list(EXPECTED[layout])
    for dataset, (mask, expected) in EXPECTED[layout].items():
        accuracy = rows[dataset].accuracy
        assert accuracy[0].mask == mask
        assert {metric: mean_of(accuracy, metric) for metric in METRICS} == pytest.approx(expected)
    benchmark = next(iter(rows.values())).accuracy[0].benchmark
    assert (benchmark is None) == (layout == "pairs")


def test_results_name_benchmark_split_and_mask(tmp_path: Path, tiny_benchmarks: Any) -> None:
    scored(tiny_benchmarks.write("kitti2015", tmp_path), tmp_path / "results.json")
    first = json.loads((tmp_path / "results.json").read_text())["rows"][0]["accuracy"][0]
    told = {name: first[name] for name in ("dataset", "benchmark", "split", "mask", "image", "valid_pixels")}
    assert told == {
        "dataset": "KITTI 2015 training, noc", "benchmark": "KITTI 2015", "split": "training", "mask": "noc",
        "image": "000000_10", "valid_pixels": 6,
    }  # fmt: skip


def test_limit_of_disparity_can_be_set_and_taken_away(tmp_path: Path, tiny_benchmarks: Any) -> None:
    folder = tiny_benchmarks.write("sceneflow", tmp_path / "toy")
    (row,) = scored(folder, tmp_path / "r.json", max_disp=0.0)
    assert (row.accuracy[0].dataset, row.accuracy[0].mask) == ("FlyingThings3D finalpass TEST, all", "all")
    assert row.accuracy[0].valid_pixels == 8, "the pixel of 500 px and that of 200 px count too"
    (row,) = scored(folder, tmp_path / "r.json", max_disp=45.0, images=1)
    assert row.accuracy[0].dataset == "FlyingThings3D finalpass TEST, 1 of 2 images, all, disparity < 45"
    assert len(row.accuracy) == 1


def test_an_image_of_which_no_pixel_counts_is_left_out_and_told(tmp_path: Path, tiny_benchmarks: Any) -> None:
    folder = tiny_benchmarks.write("kitti2015", tmp_path / "toy")
    (row, other) = scored(folder, tmp_path / "r.json", max_disp=8.5)
    assert [entry.image for entry in row.accuracy] == ["000001_10"]
    assert row.problems == ("1 image left out, because no pixel of theirs counts: 000000_10",)
    assert other.accuracy[0].dataset == "KITTI 2015 training, all, disparity < 8.5"
    with pytest.raises(UserError, match="no pixel of any image has truth that counts"):
        scored(folder, tmp_path / "r.json", max_disp=1.0)


def test_what_was_finished_is_kept(tmp_path: Path, tiny_benchmarks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C and a bad pair alike; an older complete row stays until a complete one takes its place."""
    folder, out = tiny_benchmarks.write("kitti2015", tmp_path / "toy"), tmp_path / "r.json"
    complete = scored(folder, out)
    real, calls = verb.Scores.add, iter(range(9))

    def interrupted(self: Scores, pair: StereoPair, **options: Any) -> None:
        if next(calls) == 1:
            raise KeyboardInterrupt
        real(self, pair, **options)

    monkeypatch.setattr(verb.Scores, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        scored(folder, out)
    rows = read_results(out)
    assert [len(row.accuracy) for row in rows] == [2, 2, 1, 1]
    assert rows[2].problems == ("stopped after 1 of 2 images",)
    assert rows[2].accuracy == complete[0].accuracy[:1]
    monkeypatch.setattr(verb.Scores, "add", real)
    (folder / "training/disp_occ_0/000001_10.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"000001_10\.png"):
        scored(folder, out)
    assert [len(row.accuracy) for row in read_results(out)] == [2, 2, 1, 1]
    tiny_benchmarks.kitti2015(folder, 1)
    scored(folder, out)
    assert [len(row.accuracy) for row in read_results(out)] == [2, 2]


def test_another_limit_on_own_pairs_continues_nothing(tmp_path: Path, tiny_benchmarks: Any) -> None:
    """Their name does not tell the limit, so the stamp must."""
    folder, out = tiny_benchmarks.write("pairs", tmp_path / "toy"), tmp_path / "r.json"
    (folder / "b/right.png").write_bytes(b"broken")
    with pytest.raises(UserError):
        scored(folder, out)
    tiny_benchmarks.pairs(folder, 1)
    (row,) = scored(folder, out, max_disp=150.0)
    assert [entry.mask for entry in row.accuracy] == ["noc, disparity < 150", "all, disparity < 150"]


@pytest.mark.parametrize(("change", "again"), [("nothing", 1), ("limit", 2), ("file", 2), ("precision", 2)])
def test_interrupted_work_is_continued_where_it_would_come_out_alike(
    tmp_path: Path, tiny_benchmarks: Any, monkeypatch: pytest.MonkeyPatch, change: str, again: int
) -> None:
    folder, out = tiny_benchmarks.write("kitti2015", tmp_path / "toy"), tmp_path / "r.json"
    (folder / "training/image_3/000001_10.png").write_bytes(b"broken")
    with pytest.raises(UserError, match="000001_10"):
        scored(folder, out)
    tiny_benchmarks.kitti2015(folder, 1)
    run: list[str] = []
    real = verb.Scores.add

    def counted(self: Scores, pair: StereoPair, **options: Any) -> None:
        run.append(pair.name)
        real(self, pair, **options)

    monkeypatch.setattr(verb.Scores, "add", counted)
    if change == "file":
        os.utime(folder / "training/disp_noc_0/000000_10.png", ns=(1, 1))
    if change == "precision":
        rows = [dataclasses.replace(row, place=dataclasses.replace(row.place, threads=2)) for row in read_results(out)]
        write_results(out, rows)
    rows = scored(folder, out, **({"max_disp": 150.0} if change == "limit" else {}))
    assert len(run) == again
    if change != "limit":
        for row in rows:
            expected = EXPECTED["kitti2015"][row.accuracy[0].dataset][1]
            assert {metric: mean_of(row.accuracy, metric) for metric in METRICS} == pytest.approx(expected)
            assert [entry.image for entry in row.accuracy] == ["000000_10", "000001_10"]
            assert (row.of_images, row.problems) == (None, ())
    if change == "nothing":
        assert [row.of_images for row in read_results(out)] == [None, None]
        scored(folder, out)
        assert len(run) == 3, "complete work is done again when asked for"


def test_long_work_is_kept_now_and_then(tmp_path: Path, tiny_benchmarks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed process loses what it did since; here it saves after every image."""
    folder, out = tiny_benchmarks.write("kitti2015", tmp_path / "toy"), tmp_path / "r.json"
    monkeypatch.setattr(verb, "KEEP_EVERY_S", 0.0)
    seen: list[list[int]] = []
    real = verb.Scores.add

    def looks(self: Scores, pair: StereoPair, **options: Any) -> None:
        seen.append([len(row.accuracy) for row in read_results(out)] if out.exists() else [])
        real(self, pair, **options)

    monkeypatch.setattr(verb.Scores, "add", looks)
    scored(folder, out)
    assert seen == [[], [1, 1]]
    assert [row.problems for row in read_results(out)] == [(), ()]


def test_pairs_do_not_pile_up(tmp_path: Path, tiny_benchmarks: Any) -> None:
    """While the last pair runs, no earlier one is in memory."""
    import gc
    import weakref

    folder = tiny_benchmarks.write("kitti2015", tmp_path)
    alive: list[weakref.ref[StereoPair]] = []
    most = 0

    def predict(pair: StereoPair) -> np.ndarray:
        nonlocal most
        alive.append(weakref.ref(pair))
        gc.collect()
        most = max(most, sum(each() is not None for each in alive))
        return np.zeros((2, 4), np.float32)

    truth = open_truth_set(folder)
    truth = dataclasses.replace(truth, files=truth.files * 5, of_all=10)
    scores = Scores(NativeMethod(predict, "numpy", "2", "f32", 1), ModelFacts("zero"), counting_of(
        truth, EvaluateConfig(["none"], data=str(folder), out="r.json")))  # fmt: skip
    score_all(scores, truth, tmp_path / "r.json", title="zero")
    assert len(alive) == 10
    # The loop's own name holds one while the next is read.
    assert most <= 2


@pytest.mark.parametrize("layout", EXPECTED)
def test_command_line_runs_a_graph_on_every_benchmark(
    tmp_path: Path, network: Path, tiny_benchmarks: Any, layout: str, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    pytest.importorskip("onnxruntime")
    caplog.set_level("INFO")
    folder, out = tiny_benchmarks.write(layout, tmp_path / "toy"), tmp_path / "results.json"
    assert main(["evaluate", str(network), "--data", str(folder), "--out", str(out)]) == 0
    rows = read_results(out)
    assert [row.accuracy[0].dataset for row in rows] == list(EXPECTED[layout])
    assert [len(row.accuracy) for row in rows] == [2] * len(rows)
    assert [len(row.pictures) for row in rows] == [2, 0][: len(rows)]
    assert f"2 pairs of {' and of '.join(EXPECTED[layout])}" in caplog.text
    told = capsys.readouterr().err
    assert "2/2" in told, "progress"
    assert all(dataset in told for dataset in EXPECTED[layout]), "a table for each"


def test_report_names_benchmark_and_mask_and_tells_the_reduction(
    tmp_path: Path, network: Path, tiny_benchmarks: Any
) -> None:
    for name in ("onnxruntime", "plotly", "jinja2"):
        pytest.importorskip(name)
    out = str(tmp_path / "results.json")
    for layout in ("kitti2015", "sceneflow", "pairs"):
        folder = tiny_benchmarks.write(layout, tmp_path / layout)
        evaluate(EvaluateConfig([str(network)], data=str(folder), out=out))
    report(ReportConfig([out], out=str(tmp_path / "report.html")))
    text = (tmp_path / "report.md").read_text()
    note = "Per-image numbers averaged over 2 images; bad-3 and D1 over all their pixels; noc pixels on 2 images."
    assert f"## Accuracy on KITTI 2015 training, noc\n\n{note}" in text
    assert "## Accuracy on FlyingThings3D finalpass TEST, all, disparity &lt; 192" in text
    assert "bad-1 and bad-2 and bad-3 and D1 over all their pixels; all, disparity &lt; 192 pixels on 2 images" in text
    assert "## Accuracy on pairs\n\nPer-image numbers averaged over 2 images; D1 over all" in text
    page = (tmp_path / "report.html").read_text()
    assert "Error on KITTI 2015 training, all, lower is better." in page
    assert "KITTI 2015,training,2,noc pixels on 2 images" in (tmp_path / "results.csv").read_text().replace('"', "")


def test_pictures_are_of_a_few_images(
    tmp_path: Path, network: Path, tiny_benchmarks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    for number in range(20):
        tiny_benchmarks.sceneflow(tmp_path / "toy", number)
    out = tmp_path / "results.json"
    evaluate(EvaluateConfig([str(network)], data=str(tmp_path / "toy"), out=str(out)))
    (row,) = read_results(out)
    assert len(row.accuracy) == 20
    assert len(row.pictures) == 8
    assert (row.pictures[0].image, row.pictures[-1].image) == ("TEST/A/0000/0006", "TEST/A/0000/0025")
    (entry,) = make_entries([row])
    dataset = "FlyingThings3D finalpass TEST, all, disparity < 192"
    assert entry.pictures == {(dataset, pictures.image): pictures for pictures in row.pictures}


@pytest.mark.parametrize(("arguments", "message"), [
    (["--layout", "fsd"], "no pairs with truth in a known layout (looked for fsd: SCENE/dataset"),
    (["--split", "validation"], "no split 'validation' (--split: training)"),
    (["--layout", "kitty"], "unknown layout 'kitty'"),
])  # fmt: skip
def test_bad_choices_are_one_line_and_write_nothing(
    tmp_path: Path, network: Path, tiny_benchmarks: Any, capsys: pytest.CaptureFixture[str], arguments: list[str],
    message: str,
) -> None:  # fmt: skip
    folder = tiny_benchmarks.write("kitti2015", tmp_path / "toy")
    words = ["evaluate", str(network), "--data", str(folder), "--out", str(tmp_path / "r.json"), *arguments]
    assert main(words) == 2
    told = capsys.readouterr().err.strip()
    assert message in told
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "r.json").exists()


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., EvaluateConfig]:
    return lambda folder, **options: EvaluateConfig(["x"], data=str(folder), out=str(tmp_path / "r.json"), **options)


def test_a_name_of_ones_own_keeps_the_mask(
    tmp_path: Path, tiny_benchmarks: Any, make_config: Callable[..., EvaluateConfig]
) -> None:
    truth = open_truth_set(tiny_benchmarks.write("eth3d", tmp_path))
    counting = counting_of(truth, make_config(tmp_path, dataset="ours"))
    assert [counting.dataset(mask) for mask in truth.masks] == ["ours, noc", "ours, all"]
