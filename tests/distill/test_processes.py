"""Several processes that train one network do what one process does, and end together."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distill.config import TrainerOptions
from distill.processes import processes
from stereo.errors import UserError


def start(out: Path, clip_labels: Path, devices: int, *more: str) -> subprocess.Popen[str]:
    """Half of each batch are labels, whose trusted pixels are spread unevenly over the processes."""
    command = [
        sys.executable, "-m", "stereo.cli", "train", "--out", str(out), "--preset", "tiny", "--max_disp", "32",
        "--data.crop", "32x64", "--data.batch_size", "4", "--data.block", "4", "--data.workers", "0", "--data.lanes",
        "2", "--data.labels", f"[{clip_labels}]", "--validate_every", "0", "--precision", "32-true",
        "--trainer.accelerator", "cpu", "--trainer.devices", str(devices), *more,
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def loss_curve(out: Path) -> list[dict[str, float]]:
    names = ("loss", "sequence", "initial", "epe")
    with next((out / "log").glob("*/metrics.csv")).open() as file:
        return [{name: float(row[name]) for name in names} for row in csv.DictReader(file) if row.get("loss")]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "student.safetensors")


def test_two_processes_give_the_loss_curve_of_one(tmp_path: Path, clip_labels: Path) -> None:
    """Tolerance: the processes sum 4 pairs in another order, which moves a gradient by some float32 roundings (1e-6 of
    it). AdamW divides by the gradient's size, so a weight whose gradient is all rounding may move either way by the
    learning rate, here at most 1e-4, 20 times: 2e-3 of a weight of size 1. A batch of other pairs, or means of
    processes instead of pixels, differ by more than 1e-2 in the loss.
    """
    options = ["--steps", "20", "--batch_norm", "freeze", "--optimiser.learning_rate", "1e-4"]
    runs = [start(tmp_path / str(devices), clip_labels, devices, *options) for devices in (1, 2)]
    for devices, process in enumerate(runs, 1):
        stdout, stderr = process.communicate(timeout=580)
        assert process.returncode == 0, stderr
        assert stdout == f"{tmp_path / str(devices) / 'student.safetensors'}\n"
    one, two = (loss_curve(tmp_path / name) for name in "12")
    assert len(one) == len(two) == 2
    for row, other in zip(one, two, strict=True):
        assert other == pytest.approx(row, rel=1e-3)
    first, second = (weights(tmp_path / name) for name in "12")
    assert max((first[name] - second[name]).abs().max().item() for name in first) < 2e-3


@pytest.mark.slow
def test_ctrl_c_in_one_process_ends_both_at_the_same_step_and_resumes_exactly(
    tmp_path: Path, clip_labels: Path, interrupted: Callable[[subprocess.Popen[str], Path], str]
) -> None:
    options = ["--steps", "40", "--checkpoint_every", "3", "--optimiser.ema", "0.9"]
    process = start(tmp_path / "cut", clip_labels, 2, *options)
    interrupted(process, tmp_path / "cut")
    for out in ("cut", "whole"):
        _, errors = (again := start(tmp_path / out, clip_labels, 2, *options)).communicate(timeout=580)
        assert again.returncode == 0, errors
    assert len(list((tmp_path / "cut" / "log").iterdir())) == 2
    one, other = weights(tmp_path / "cut"), weights(tmp_path / "whole")
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_an_error_of_all_processes_is_told_once(tmp_path: Path, clip_labels: Path) -> None:
    process = start(tmp_path / "a", clip_labels, 2, "--steps", "2")
    assert process.communicate(timeout=580)[1] is not None
    process = start(tmp_path / "a", clip_labels, 2, "--steps", "2", "--seed", "5")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert errors.count("seed was 0, now 5") == 1
    assert "Traceback" not in errors


def test_numbers_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS"):
        monkeypatch.delenv(key, raising=False)
    assert processes(TrainerOptions()) == (1, 1)
    assert processes(TrainerOptions(devices=4, num_nodes=2)) == (4, 2)
    with pytest.raises(UserError, match="0 is less than 1"):
        processes(TrainerOptions(devices=0))
    for key, value in (("TORCHELASTIC_RUN_ID", "x"), ("WORLD_SIZE", "8"), ("LOCAL_WORLD_SIZE", "4")):
        monkeypatch.setenv(key, value)
    assert processes(TrainerOptions()) == (4, 2)
    with pytest.raises(UserError, match="the launcher started 4"):
        processes(TrainerOptions(devices=3))
