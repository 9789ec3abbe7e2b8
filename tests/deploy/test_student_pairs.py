"""benchmarks/student_pairs.py: its numbers are those of the metrics by hand, its sheet shows what it says."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from deploy.run_pair import run_pair
from deploy.runners.registry import open_runner
from stereo.benchmarks import load_pairs

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark as a module."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("student_pairs")


@pytest.fixture(scope="module")
def any_size(tmp_path_factory: pytest.TempPathFactory, make_network: Callable[..., Path]) -> Path:
    """The toy network for images of any size."""
    return make_network(tmp_path_factory.mktemp("any") / "toy.onnx", size=None)


def cells(text: str, row: str) -> list[str]:
    """The cells of a table's row."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {row}") or line.startswith(f"| **{row}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table_and_sheet(
    script: ModuleType, pairs_folder: Path, any_size: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.png"
    words = [str(pairs_folder), "--model", str(any_size), "--sgbm", "--peer", str(any_size), "--picture", str(sheet)]
    assert script.main(words) == 0
    text = capsys.readouterr().out
    assert cells(text, "EPE px")[2:] == ["toy", "SGBM", "onnx"]
    expected = []
    runner = open_runner(any_size)
    for pair in load_pairs(pairs_folder):
        assert pair.disparity is not None
        error = np.abs(run_pair(runner, pair).disparity - pair.disparity)
        error = error[pair.noc] if pair.noc is not None else error.ravel()
        expected.append((error.mean(), 100 * (error > 1).mean(), 100 * (error > 2).mean()))
        row = cells(text, pair.name)
        assert row[1] == ("all" if pair.noc is None else "noc")
        assert row[2] == row[4] == "{:.2f} / {:.1f} / {:.1f}".format(*expected[-1])
    assert expected[1][1] > 1  # the wide pair has wrong pixels, so the numbers are no zeros
    mean = cells(text, "mean of 2, all")
    assert mean[2] == "{:.2f} / {:.1f} / {:.1f}".format(*np.mean(expected, axis=0))
    assert "judged" not in text
    picture = cv2.imread(str(sheet))
    assert picture.shape == (2 * (18 + 180) + 4, 8 * 270 + 7 * 4, 3)
    assert len(np.unique(picture[18:198, :270].reshape(-1, 3), axis=0)) > 1000  # left: a textured view
    assert len(np.unique(picture[18:198, 274:544].reshape(-1, 3), axis=0)) == 1  # truth: one disparity


def test_times_of_all_networks_in_both_runtimes(
    script: ModuleType, pairs_folder: Path, any_size: Path, network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openvino")
    words = [str(pairs_folder), "--only", "near", "--model", str(network), "--peer", str(any_size)]
    assert script.main([*words, "--time", "--rounds", "3"]) == 0
    text = capsys.readouterr().out
    assert "median ms of 3 rounds in turn, 1 thread(s)" in text
    networks = [f"{name} {runtime}" for name in ("toy", "onnx") for runtime in ("onnxruntime", "openvino")]
    head, row = cells(text, "pair"), cells(text, "near 96x64")
    assert head[1:] == [*networks, "toy / onnx"]
    assert len(row) == len(head)
    (mean,) = re.findall(r"toy: mean ratio (\d+\.\d+), largest", text)
    assert float(mean) == pytest.approx(float(row[-1]), abs=0.006)


def test_faster_runtime_counts(script: ModuleType) -> None:
    times = importlib.import_module("student_pair_times")
    found = {("a", "x"): np.array([3.0, 4.0, 5.0]), ("a", "y"): np.array([2.0, 9.0, 3.0]), ("b", "x"): np.ones(3)}
    np.testing.assert_array_equal(times.faster(found, "a"), [2, 9, 3])


def test_holes_are_filled_from_the_farther_side(script: ModuleType) -> None:
    nan = np.nan
    disparity = np.array([[nan, 5, nan, nan, 2, nan], [nan] * 6, [1, 2, 3, 4, 5, 6]], np.float32)
    expected = np.array([[5, 5, 2, 2, 2, 2], [0] * 6, [1, 2, 3, 4, 5, 6]], np.float32)
    np.testing.assert_array_equal(script.filled(disparity), expected)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--model", "gone"], "gone: no such model file"),
        (["--model", "network", "--only", "nothing"], "no pair of such a name"),
        (["--model", "network", "--peer", "gone.onnx"], "gone.onnx: no such ONNX file"),
    ],
)
def test_one_line_of_what_is_wrong(
    script: ModuleType, pairs_folder: Path, network: Path, words: list[str], told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert script.main([str(pairs_folder), *(str(network) if word == "network" else word for word in words)]) == 2
    assert told in capsys.readouterr().err
