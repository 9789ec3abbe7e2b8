"""deploy.results: what is written comes back, and what is not a results file is told apart."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from deploy.profile_records import CrossCheck, Interval, Layers, LayerTime, Power, Sample, Soak
from deploy.results import (
    Difference,
    ImageAccuracy,
    Latency,
    Memory,
    ModelFacts,
    Pictures,
    Place,
    ResultRow,
    make_row,
    read_all,
    read_results,
    update_results,
    write_results,
)
from stereo.error_regions import RegionErrors
from stereo.errors import UserError

LATENCY = Latency(p50_ms=10.5, p90_ms=11.0, p99_ms=14.25, mean_ms=10.75, n=50, warmup=5, ratio_to_fp32=0.5)
ERRORS = ImageAccuracy("pairs", "teddy", "noc", 375, 450, 1.0, 0.5, 4.0, 2.0, 1.5, 1.25, 9.0, 4.5, 1000, 99.5, 3,
                       regions=(RegionErrors("texture", "textured", 900, 800, 0.5, 1.5),))  # fmt: skip
DIFFERENCE = Difference("nano fp32", "cd" * 32, 2, 100, 0.01, 0.02, (-0.5, 0.0, 0.5), (1, 49, 48, 2))

POWER = Power(
    "tegrastats", ("VDD_IN",), 9.5, 12.25, 5.0, 0.5, 61.5, 97.0, None, False, (), 10.0, 190, 40,
    (Sample(0.0, 9.5, 60.0, None, 97.0, 1020.0), Sample(5.0)),
)  # fmt: skip
SOAK = Soak(30.0, 1800.5, 19.0, 4.5, (Interval(0.0, 50.0, 55.0, 600), Interval(30.0, 52.5, 60.0, 570)))
LAYERS = Layers(48.5, 120, 10, (LayerTime("conv1", "Convolution", 3.5),))
CHECK = CrossCheck("trtexec", "trtexec --loadEngine=a", 9.5, 10.25, 105.0, 1.5)


def row(**changes: Any) -> ResultRow:
    place = Place("openvino", "2026.4", "f32", "a board", 1, None, 480, 640, {"runtime.kernels": "3"})
    base = make_row(ModelFacts("nano", "nano.onnx", "ab" * 32, 100, "nano", "fp32", 192, 2), place)
    return dataclasses.replace(base, **changes)


def full_row() -> ResultRow:
    pictures = Pictures("teddy", "p/left.png", "p/truth.png", "p/d.png", "p/e.png")
    return row(
        latency=LATENCY, memory=Memory(200.5, 120.25), accuracy=(ERRORS,), pictures=(pictures,), problems=("careful",),
        difference=DIFFERENCE,
        latency_without_copies=LATENCY, power=POWER, soak=SOAK, layers=LAYERS, cross_check=CHECK,
    )  # fmt: skip


def test_rows_come_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    rows = [full_row(), row(model=ModelFacts("SGBM", role="reference"))]
    write_results(path, rows)
    assert read_results(path) == rows


def test_files_of_version_1_are_read(tmp_path: Path) -> None:
    """They lack what came later."""
    path = tmp_path / "results.json"
    write_results(path, [full_row()])

    def age(content: Any) -> None:
        content["schema_version"] = 1
        del content["rows"][0]["difference"]
        del content["rows"][0]["accuracy"][0]["regions"]

    (read,) = read_results(alter(path, age))
    assert read == dataclasses.replace(
        full_row(), difference=None, accuracy=(dataclasses.replace(ERRORS, regions=()),), made_at=read.made_at
    )


def test_an_estimate_has_an_error_bar_and_no_percentiles(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    latency = Latency(10.0, None, None, None, 0, 0, low_ms=4.0, high_ms=20.0)
    write_results(path, [row(kind="estimated", latency=latency)])
    (found,) = read_results(path)
    assert found.latency == latency
    assert found.latency.spread_ms == (4.0, 20.0)
    assert found.latency.pairs_per_s is None
    assert LATENCY.spread_ms == (10.5, 11.0)


def test_files_without_error_bars_are_read(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    written = full_row()
    write_results(path, [written])
    content = json.loads(path.read_text())
    for name in ("low_ms", "high_ms"):
        del content["rows"][0]["latency"][name]
    path.write_text(json.dumps(content))
    assert read_results(path) == [written]


def test_what_was_not_measured_is_null(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(path, [row()])
    written = json.loads(path.read_text())["rows"][0]
    assert written["latency"] is None
    assert written["memory"] is None
    assert written["accuracy"] == []


def test_files_of_before_the_newer_fields_are_read(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    old = row(latency=LATENCY)
    write_results(path, [old])
    names = ("latency_without_copies", "power", "soak", "layers", "cross_check")
    alter(path, lambda content: [content["rows"][0].pop(name) for name in names])
    assert read_results(path) == [old]


def test_row_is_stamped() -> None:
    stamped = row()
    assert stamped.tools["numpy"]
    assert stamped.made_at.endswith("+00:00")
    assert stamped.command


def test_nan_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_results(tmp_path / "r.json", [row(latency=dataclasses.replace(LATENCY, p50_ms=float("nan")))])


def alter(path: Path, change: Any) -> Path:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c.update(schema_version=3), "results of schema version 3, this program reads 1 and 2"),
        (lambda c: c.update(schema="other"), "is not a results file"),
        (lambda c: c.update(rows={}), "no list of rows"),
        (lambda c: c["rows"][0].update(colour="red"), "row 0: unknown field 'colour'"),
        (lambda c: c["rows"][0].pop("place"), "row 0: missing field 'place'"),
        (lambda c: c["rows"][0]["latency"].update(p50_ms="fast"), "row 0.latency.p50_ms: expected float"),
        (lambda c: c["rows"][0]["latency"].update(p50_ms=float("nan")), "expected float, found nan"),
        (lambda c: c["rows"][0]["latency"].update(n=True), "latency.n: expected int"),
        (lambda c: c["rows"][0].update(kind="guessed"), "expected 'measured' or 'estimated', found 'guessed'"),
        (lambda c: c["rows"][0]["accuracy"].append(7), r"accuracy\[1\]: expected the fields of a ImageAccuracy"),
        (lambda c: c["rows"][0].update(problems="all fine"), "problems: expected"),
        (lambda c: c["rows"][0]["power"].update(throttled=1), "power.throttled: expected bool, found 1"),
        (lambda c: c["rows"][0]["power"]["samples"][1].update(t_s="late"), r"samples\[1\].t_s: expected float"),
    ],
)
def test_altered_files_are_refused_by_field(tmp_path: Path, change: Any, told: str) -> None:
    path = tmp_path / "results.json"
    write_results(path, [full_row()])
    with pytest.raises(UserError, match=told):
        read_results(alter(path, change))


@pytest.mark.parametrize("content", ["[]", '"results"', "{}"])
def test_json_that_is_no_results_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(UserError, match="is not a results file"):
        read_results(path)


def test_missing_and_torn_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such results file"):
        read_results(tmp_path / "none.json")
    (tmp_path / "torn.json").write_text('{"schema": "stereodis')
    with pytest.raises(UserError, match="is not a results file"):
        read_results(tmp_path / "torn.json")


def test_update_replaces_the_same_measurement_and_keeps_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    timed, scored = row(latency=LATENCY), row(accuracy=(ERRORS,))
    update_results(path, [timed])
    update_results(path, [scored])
    faster = row(latency=dataclasses.replace(LATENCY, p50_ms=5.0))
    two_threads = row(latency=LATENCY, place=dataclasses.replace(timed.place, threads=2))
    update_results(path, [faster, two_threads])
    assert read_results(path) == [scored, faster, two_threads]


def test_a_quick_measurement_leaves_a_soak_run_alone(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    update_results(path, [row(latency=LATENCY)])
    long = row(latency=LATENCY, soak=SOAK)
    update_results(path, [long])
    assert read_results(path) == [long]
    quick = row(latency=dataclasses.replace(LATENCY, p50_ms=5.0))
    update_results(path, [quick])
    assert read_results(path) == [long, quick]


def test_update_leaves_a_foreign_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "package.json"
    path.write_text('{"name": "mine"}')
    with pytest.raises(UserError, match="is not a results file"):
        update_results(path, [row()])
    assert path.read_text() == '{"name": "mine"}'


def test_read_all_makes_picture_paths_absolute(tmp_path: Path) -> None:
    write_results(tmp_path / "a" / "r.json", [full_row()])
    write_results(tmp_path / "b" / "r.json", [full_row()])
    first, second = read_all([tmp_path / "a" / "r.json", tmp_path / "b" / "r.json"])
    assert first.pictures[0].left == str(tmp_path.resolve() / "a" / "p" / "left.png")
    assert second.pictures[0].left == str(tmp_path.resolve() / "b" / "p" / "left.png")
