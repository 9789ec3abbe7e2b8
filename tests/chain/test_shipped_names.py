"""Every verb that takes a student takes the name of a shipped one, and what it makes is of that file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from calibration.quantize import refuse_graphs
from deploy.models import resolve_model
from deploy.onnx_stereo import read_stereo_graph
from deploy.results import read_results
from distill.config import DemoConfig
from distill.demo import training
from stereo.artifacts import sha256_file
from stereo.benchmarks import write_pair
from stereo.cli import main
from stereo.errors import UserError
from stereo.pair import StereoPair
from student.checkpoint import find_student, load_student, read_metadata


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, so that no file there is called as the student is."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def test_evaluate_and_profile(shipped_nano: Path, elsewhere: Path) -> None:
    view = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    truth = np.full((64, 96), 5, np.float32)
    write_pair(elsewhere / "pairs" / "one", StereoPair(view, np.roll(view, -5, axis=1), "one", disparity=truth))
    results = ["--out", "results.json"]
    assert main(["evaluate", "nano", "--data", "pairs", *results]) == 0
    timing = ["--runs", "2", "--warmup", "0", "--memory", "false", "--size", "64x96"]
    assert main(["profile", "nano", *timing, *results]) == 0
    rows = read_results("results.json")
    assert [(row.model.variant, row.model.sha256) for row in rows] == [("nano", sha256_file(shipped_nano))] * 2
    assert [bool(row.accuracy) for row in rows] == [True, False]


def test_export_and_summary(shipped_nano: Path, elsewhere: Path) -> None:
    assert main(["export", "nano", "--size", "64x96", "--out", "nano.onnx"]) == 0
    graph = read_stereo_graph(Path("nano.onnx"))
    assert graph.metadata["stereodistill.source_sha256"] == sha256_file(shipped_nano)
    assert main(["summary", "nano", "--size", "64x96"]) == 0


def test_train_goes_on_from_it(shipped_nano: Path, elsewhere: Path) -> None:
    options = ["--preset", "tiny", "--max_disp", "64", "--data.crop", "64x96", "--data.batch_size", "1", "--data.block",
               "1", "--data.workers", "0", "--validate_every", "0",
               "--trainer.accelerator", "cpu"]  # fmt: skip
    rate = ["--optimiser.learning_rate", "1e-12", "--steps", "1"]
    assert main(["train", "--init", "nano", *options, *rate, "--out", "run"]) == 0
    before, after = load_student(shipped_nano), load_student("run/student.safetensors")
    for name, value in before.named_parameters():
        torch.testing.assert_close(after.get_parameter(name), value)
    record = read_metadata("run/student.safetensors")["training"]
    assert list(record["made_from"].values()) == [sha256_file(shipped_nano)]
    assert record["device"]


def test_demo_starts_from_it_unless_told_otherwise(shipped_nano: Path) -> None:
    def settings(**changes: str) -> tuple[str | None, float]:
        made = training(DemoConfig(**changes), Path("labels"))  # type: ignore[arg-type]
        return made.init, made.optimiser.learning_rate

    assert settings() == ("nano", 2e-4)
    assert settings(init="fresh") == (None, 1e-3)
    assert settings(preset="tiny") == (None, 1e-3)
    assert settings(init="mine.safetensors") == ("mine.safetensors", 2e-4)


def test_files_win_over_names_and_empty_folders_do_not(shipped_nano: Path, elsewhere: Path) -> None:
    (elsewhere / "nano").mkdir()
    assert resolve_model("nano") == [shipped_nano]
    assert find_student("nano") == shipped_nano
    refuse_graphs("nano")
    (elsewhere / "nano" / "fp32.onnx").write_bytes(b"")
    assert resolve_model("nano") == [Path("nano/fp32.onnx")]
    (elsewhere / "other").mkdir()
    with pytest.raises(UserError, match="is a folder, not a student file"):
        refuse_graphs("other")


def test_manifest_of_predict_names_it(shipped_nano: Path, elsewhere: Path, shared_data: Path) -> None:
    folder = shared_data / "video" / "kitti_odom_seq_1"
    pair = [str(folder / side / "000000.png") for side in ("left", "right")]
    assert main(["predict", *pair, "--calibration", str(folder / "calib.txt"), "--out", "seen"]) == 0
    manifest = json.loads(Path("seen/manifest.json").read_text())
    assert manifest["model"]["variant"] == "nano"
    assert manifest["points"] > 0
