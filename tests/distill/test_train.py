"""Training: exact resume, interruption, refusals, and the record that stays with the student."""

from __future__ import annotations

import csv
import dataclasses
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from distill import train as train_room
from distill.config import QatOptions, TrainConfig
from distill.run_record import differences
from distill.validation import validation_scenes
from stereo.artifacts import plain
from stereo.cli import main
from stereo.errors import UserError
from stereo.metrics import errors_against_truth
from student.checkpoint import load_student, read_metadata
from student.runner import predict_pair

TINY = [
    "train", "--preset", "tiny", "--max_disp", "64", "--data.crop", "64x96", "--data.batch_size", "2",
    "--data.block", "4", "--data.workers", "0", "--validate_every", "0", "--precision", "32-true",
    "--trainer.accelerator", "cpu",
]  # fmt: skip


def run(out: Path, *more: str) -> int:
    return main([*TINY, "--out", str(out), *more])


def same_weights(one: Path, other: Path) -> bool:
    first, second = (load_file(path / "student.safetensors") for path in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_interrupted_run_resumes_to_the_very_same_weights(
    tmp_path: Path, interrupted: Callable[[subprocess.Popen[str], Path], str]
) -> None:
    steps = ["--steps", "60", "--checkpoint_every", "4", "--optimiser.ema", "0.99"]
    command = [sys.executable, "-m", "stereo.cli", *TINY, "--out", str(tmp_path / "cut"), *steps]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert "interrupted" in interrupted(process, tmp_path / "cut")
    assert not (tmp_path / "cut" / "student.safetensors").exists()

    # what there is can be had at once, and the run goes on all the same
    assert run(tmp_path / "cut", *steps, "--finish", "true") == 0
    early = read_metadata(tmp_path / "cut" / "student.safetensors")["training"]
    assert 0 < early["steps"] < early["planned_steps"] == 60
    assert early["samples"] == 2 * early["steps"]
    assert early["validation"]["step"] == early["steps"]
    assert early["seconds"] > 0
    assert early["device"]
    checkpoint = torch.load(tmp_path / "cut" / "last.ckpt", weights_only=True)
    averaged = load_file(tmp_path / "cut" / "student.safetensors")
    assert all(torch.equal(checkpoint["weight_average"]["average"][name], weight) for name, weight in averaged.items())

    assert run(tmp_path / "cut", *steps) == 0
    assert len(list((tmp_path / "cut" / "log").iterdir())) == 2  # it did resume
    assert run(tmp_path / "whole", *steps) == 0
    assert same_weights(tmp_path / "cut", tmp_path / "whole")


def test_a_run_of_an_earlier_version_goes_on_with_what_it_computed_with() -> None:
    now = plain(TrainConfig(out=Path("run")))
    earlier = {key: value for key, value in now.items() if key not in ("qat", "finish")}
    earlier["data"] = {key: value for key, value in now["data"].items() if key != "occluded_weight"}
    told = differences(earlier, now)
    assert told == ["data.occluded_weight was 1.0, now 0.2"]
    now["data"]["occluded_weight"] = 1.0
    assert differences(earlier, now) == []
    now["qat"]["graphs"] = "graphs"
    assert differences(earlier, now) == ["qat.graphs was None, now graphs"]


@pytest.mark.parametrize(("hints", "precision"), [(["f32"], "32-true"), (["f32", "bf16"], "bf16-mixed")])
def test_auto_is_what_the_processor_computes_in_or_what_the_run_began_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hints: list[str], precision: str
) -> None:
    monkeypatch.setattr(train_room, "precision_hints", lambda: hints)
    config = TrainConfig(preset="tiny", out=tmp_path)
    config.trainer.accelerator = "cpu"
    assert train_room.choose_precision(config) == precision
    torch.save({"precision": "16-mixed"}, tmp_path / "last.ckpt")
    assert train_room.choose_precision(config) == "16-mixed"
    assert train_room.choose_precision(dataclasses.replace(config, precision="32-true")) == "32-true"
    assert train_room.choose_precision(dataclasses.replace(config, restart=True)) == precision
    (tmp_path / "last.ckpt").write_bytes(b"damaged")
    assert train_room.choose_precision(config) == precision


@pytest.mark.parametrize("changes", [{"preset": "foundation_stereo_tiny"}, {"qat": QatOptions(graphs=Path("graphs"))}])
def test_long_3d_convolutions_train_in_float32_on_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr(train_room, "precision_hints", lambda: ["f32", "bf16"])
    config = TrainConfig(**{"preset": "tiny", "out": tmp_path, **changes})
    config.trainer.accelerator = "cpu"
    assert train_room.choose_precision(config) == "32-true"
    with pytest.raises(UserError, match="bf16 gradients of 3-D convolutions"):
        train_room.check(dataclasses.replace(config, precision="bf16-mixed"))


def test_nothing_to_finish_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "none", "--finish", "true") == 2
    assert "no run has been stopped here" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    assert run(tmp_path / "none", "--finish", "true", "--restart", "true") == 2


def test_result_carries_its_history_and_logs(tmp_path: Path) -> None:
    assert run(tmp_path, "--steps", "20") == 0
    training = read_metadata(tmp_path / "student.safetensors")["training"]
    assert (training["steps"], training["samples"]) == (20, 40)
    assert training["validation"]["scenes"]["mean"]["epe_px"] > 0
    assert training["tools"]["torch"]
    rows = list(csv.DictReader((tmp_path / "log" / "from_step_0" / "metrics.csv").open()))
    assert any(row["loss"] for row in rows)
    assert any(row["data_wait_share"] for row in rows)
    assert len(list((tmp_path / "pictures" / "step_0000020").glob("*.png"))) == 6


def test_training_makes_the_student_better(tmp_path: Path) -> None:
    """On crops of a single scene: the loss of other ones says more about their disparities than about the student."""
    one_scene = ["--data.block", "60", "--data.scene_reuse", "120", "--optimiser.learning_rate", "3e-3"]
    assert run(tmp_path, "--steps", "60", *one_scene) == 0
    rows = csv.DictReader((tmp_path / "log" / "from_step_0" / "metrics.csv").open())
    epe_px = [float(row["epe"]) for row in rows if row.get("epe")]
    assert len(epe_px) == 6
    assert epe_px[-1] < 0.6 * epe_px[0]


def test_averaged_weights_are_saved_and_validated(tmp_path: Path) -> None:
    assert run(tmp_path, "--steps", "6", "--optimiser.ema", "0.9") == 0
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    average, last = state["weight_average"]["average"], state["state_dict"]
    saved = load_student(tmp_path / "student.safetensors")
    assert all(torch.equal(tensor, average[name]) for name, tensor in saved.state_dict().items())
    assert not torch.equal(last["network.mask.0.weight"], average["mask.0.weight"])
    pair = validation_scenes(6, (256, 512), max_disp=64)[0]
    validation = read_metadata(tmp_path / "student.safetensors")["training"]["validation"]["scenes"]["images"]
    again = errors_against_truth(predict_pair(saved, pair), pair.disparity, mask=pair.noc)
    assert validation[pair.name]["epe_px"] == pytest.approx(again.epe_px, rel=1e-4)


def test_batch_statistics_can_be_frozen(tmp_path: Path) -> None:
    assert run(tmp_path / "a", "--steps", "2") == 0
    student = str(tmp_path / "a" / "student.safetensors")
    assert run(tmp_path / "b", "--steps", "2", "--init", student, "--batch_norm", "freeze") == 0
    before, after = (load_file(tmp_path / name / "student.safetensors") for name in "ab")
    assert all(torch.equal(before[name], after[name]) for name in before if "running_" in name)
    assert not torch.equal(before["mask.0.weight"], after["mask.0.weight"])


def test_compiled_network_is_what_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    def compile_(function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            compiled.append(function)
            return function(*arguments, **named)

        return counted

    monkeypatch.setattr(torch, "compile", compile_)
    assert run(tmp_path, "--steps", "3", "--trainer.compile", "true") == 0
    assert len(compiled) >= 3
    load_student(tmp_path / "student.safetensors")  # nothing of it is in the file


def test_other_settings_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--steps", "4") == 0
    assert run(tmp_path, "--steps", "4", "--seed", "9") == 2
    assert "seed was 0, now 9" in capsys.readouterr().err
    assert run(tmp_path, "--steps", "4", "--checkpoint_every", "1") == 0  # changes nothing that is computed
    assert run(tmp_path, "--steps", "4", "--seed", "9", "--restart", "true") == 0


def test_nan_loss_names_its_batch_and_writes_no_student(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(tmp_path, "--steps", "30", "--optimiser.learning_rate", "1e30", "--optimiser.warmup_share", "0.1")
    error = capsys.readouterr().err
    assert code == 2
    assert re.search(r"the (loss|gradient) is (nan|inf) at step \d+", error)
    assert "scene of block" in error
    assert not (tmp_path / "student.safetensors").exists()


def test_init_starts_from_another_student(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "a", "--steps", "4") == 0
    student = str(tmp_path / "a" / "student.safetensors")
    assert run(tmp_path / "b", "--steps", "1", "--init", student, "--optimiser.learning_rate", "1e-12") == 0
    before, after = (load_student(tmp_path / name / "student.safetensors").state_dict() for name in "ab")
    assert torch.allclose(before["mask.0.weight"], after["mask.0.weight"], atol=1e-6)
    assert run(tmp_path / "c", "--steps", "1", "--init", student, "--preset", "nano") == 2
    assert "is a 'tiny', not a 'nano'" in capsys.readouterr().err


def test_init_goes_on_training_batch_statistics(tmp_path: Path) -> None:
    """A loaded student is in evaluation mode, and Lightning leaves modes alone."""
    assert run(tmp_path / "a", "--steps", "2") == 0
    assert run(tmp_path / "b", "--steps", "2", "--init", str(tmp_path / "a" / "student.safetensors")) == 0
    before, after = (load_student(tmp_path / name / "student.safetensors").state_dict() for name in "ab")
    means = [name for name in before if name.endswith("running_mean")]
    assert means
    assert not [name for name in means if torch.equal(before[name], after[name])]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "steps 0"),
        (["--checkpoint_every", "0"], "--checkpoint_every: 0 is less than 1"),
        (["--data.labels", "[/nowhere]"], "no label set there"),
        (["--data.crop", "60x96"], "multiples of 32"),
        (["--optimiser.ema", "1"], "1.0 is not a decay"),
        (["--batch_norm", "sync"], "between GPUs alone"),
        (["--optimiser.learning_rat", "1"], "did you mean 'optimiser.learning_rate'"),
        (["--data.render_device", "cuda", "--data.workers", "1"], "--data.workers 0"),
    ],
)
def test_bad_settings(tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, *arguments) == 2
    assert message in capsys.readouterr().err
