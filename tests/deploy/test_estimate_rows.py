"""`profile --estimate`: rows that say what they are, from the command line to the report."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.report.entries import make_entries
from deploy.report.markdown import markdown
from deploy.report.spreadsheet import spreadsheet
from deploy.report.text import number
from deploy.results import Latency, read_results
from stereo.cli import main

BOARDS = "orin-nx-16gb@MAXN,orin-nx-16gb@25W"


@pytest.fixture
def results(tmp_path: Path, network: Path) -> Path:
    """A results file with estimates of the toy network on two boards."""
    out = tmp_path / "results.json"
    assert main(["profile", str(network), "--estimate", BOARDS, "--out", str(out)]) == 0
    return out


def test_the_command_says_that_it_estimates(tmp_path: Path, network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results.json"
    assert main(["profile", str(network), "--estimate", BOARDS, "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{out}\n"
    assert captured.err.count("ESTIMATED") == 2
    assert "not measured" in captured.err


def test_rows_are_estimates_of_a_board_with_an_error_bar(results: Path) -> None:
    rows = read_results(results)
    assert [(row.kind, row.place.device, row.place.power_mode) for row in rows] == [
        ("estimated", "Jetson Orin NX 16 GB", "MAXN"), ("estimated", "Jetson Orin NX 16 GB", "25W"),
    ]  # fmt: skip
    for row in rows:
        latency = row.latency
        assert isinstance(latency, Latency)
        assert latency.low_ms is not None
        assert latency.high_ms is not None
        assert 0 < latency.low_ms < latency.p50_ms < latency.high_ms
        assert (latency.p90_ms, latency.p99_ms, latency.mean_ms, latency.n) == (None, None, None, 0)
        assert (row.memory, row.place.height, row.place.width) == (None, 64, 96)
        assert "published latencies" in row.place.notes["runtime.error_bar"]


def test_the_same_estimate_again_replaces_the_old_one(results: Path, network: Path) -> None:
    assert main(["profile", str(network), "--estimate", "orin-nx-16gb@25W", "--out", str(results)]) == 0
    assert sorted(row.place.power_mode or "" for row in read_results(results)) == ["25W", "MAXN"]


def test_reports_never_show_an_estimate_as_a_measurement(results: Path) -> None:
    entries = make_entries(read_results(results))
    text = markdown("title", entries)
    assert text.count("estimated, not measured: the fastest is") == 2
    assert "error bar" in text
    latency = entries[0].latency
    assert latency is not None
    assert latency.low_ms is not None
    assert latency.high_ms is not None
    assert f"{number(latency.p50_ms)} ({number(latency.low_ms)} to {number(latency.high_ms)})" in text
    lines = list(csv.DictReader(spreadsheet(entries).splitlines()))
    assert {line["kind"] for line in lines} == {"estimated"}
    assert float(lines[0]["low_ms"]) == latency.low_ms
    assert lines[0]["p90_ms"] == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--estimate", "orin-nx-17gb@25W"], "did you mean 'orin-nx-16gb'"),
        (["--estimate", "orin-nx-16gb@25W", "--size", "480x640"], "was exported for 64x96"),
        (["--estimate", "orin-nx-16gb@25W", "--runtime", "openvino"], "--runtime: nothing is run for an estimate"),
        (["--estimate", "orin-nx-16gb@25W", "--minutes", "30"], "--minutes: nothing is run"),
    ],
)
def test_what_cannot_be_estimated_is_told(
    tmp_path: Path, network: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    out = tmp_path / "results.json"
    assert main(["profile", str(network), *words, "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_graph_of_open_size_is_told_how_to_fix_it(
    tmp_path: Path, make_network: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    graph = make_network(tmp_path / "open.onnx", size=None)
    words = ["profile", str(graph), "--estimate", BOARDS, "--size", "64x96", "--out", str(tmp_path / "r.json")]
    assert main(words) == 2
    assert "export it for one size" in capsys.readouterr().err
