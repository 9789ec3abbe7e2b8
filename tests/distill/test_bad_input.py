"""What may be wrong with a run's inputs: refused in one line, or left out and counted."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import distill.data
import distill.train
from distill.config import LossOptions
from distill.foundation_stereo import load_parts, save_parts
from distill.losses import beyond_pct, pixel_weights, sequence_loss
from distill.scenes_config import SceneOptions
from distill.validation import validation_scenes
from stereo.cli import main
from stereo.errors import UserError
from student.model import StudentPredictions
from teacher.foundation_stereo import FoundationStereo
from teacher.presets import PRESETS
from teacher.side_tuning import MonoBranch


@pytest.fixture(autouse=True)
def few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        distill.train, "validation_scenes", lambda *_, max_disp: validation_scenes(1, (64, 96), max_disp=max_disp)
    )


def run(out: Path, *more: str) -> int:
    return main(
        [
            "train", "--out", str(out), "--preset", "tiny", "--max_disp", "32", "--data.crop", "32x64",
            "--data.batch_size", "2", "--data.block", "4", "--data.workers", "0", "--validate_every", "0",
            "--precision", "32-true", "--trainer.accelerator", "cpu", "--steps", "10", *more,
        ]
    )  # fmt: skip


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(folder / name), np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, clip_labels: Path, photographs: Path) -> Path:
    """A run whose scenes reach beyond the 32 px of its student."""
    out = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distill.data, "SceneOptions", lambda **given: SceneOptions(**{**given, "max_disp": 96.0}))
        patch.setattr(
            distill.train, "validation_scenes", lambda *_, max_disp: validation_scenes(1, (64, 96), max_disp=max_disp)
        )
        assert run(out, "--data.labels", f"[{clip_labels}]", "--data.textures", str(photographs)) == 0
    return out


def test_disparities_beyond_the_range_are_counted(finished: Path) -> None:
    rows = list(csv.DictReader((finished / "log" / "from_step_0" / "metrics.csv").open()))
    assert next(float(row["beyond_max_disp_pct"]) for row in rows if row.get("beyond_max_disp_pct")) > 0


def test_share_beyond_the_range_is_of_the_known_pixels() -> None:
    reference = torch.tensor([math.nan, 3.0, 32.0, 50.0, 31.9]).reshape(1, 1, 1, 5)
    assert beyond_pct(reference, max_disp=32).item() == pytest.approx(50)
    assert beyond_pct(torch.full((1, 1, 2, 2), math.nan), max_disp=32).item() == 0


def test_values_that_are_not_numbers_weigh_nothing() -> None:
    reference = torch.tensor([math.nan, math.inf, -math.inf, 5.0, 5.0]).reshape(1, 1, 1, 5).repeat(1, 1, 8, 8)
    confidence = torch.tensor([1.0, 1.0, 1.0, math.nan, 0.5]).reshape(1, 1, 1, 5).repeat(1, 1, 8, 8)
    assert pixel_weights(reference, confidence, max_disp=32)[0, 0, 0, :5].tolist() == [0, 0, 0, 0, 0.5]
    prediction = torch.full_like(reference, 7.0).requires_grad_()
    scores = torch.zeros(1, 4, 1, 5, requires_grad=True)
    predictions = StudentPredictions(torch.full((1, 1, 1, 5), 0.875), [prediction], scores)
    losses = sequence_loss(predictions, reference, confidence, max_disp=32, options=LossOptions(robust_px=0.0))
    losses.total.backward()
    assert losses.sequence.item() == pytest.approx(2)
    for tensor in (prediction, scores):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()


def test_a_label_set_without_a_trusted_pixel_is_refused(
    tmp_path: Path, clip_labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "set"
    shutil.copytree(clip_labels, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "kept_pct": 0}))
    assert run(tmp_path / "out", "--data.labels", f"[{copy}]") == 2
    assert f"{copy}: the label set has no trusted pixel" in capsys.readouterr().err


def test_other_photographs_are_refused_by_name(
    tmp_path: Path, finished: Path, clip_labels: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished, tmp_path / "out")
    options = ["--data.labels", f"[{clip_labels}]", "--data.textures", str(photographs)]
    assert run(tmp_path / "out", *options) == 0
    before = (photographs / "b.png").read_bytes()
    (photographs / "b.png").write_bytes((photographs / "a.png").read_bytes() + b" ")
    try:
        assert run(tmp_path / "out", *options) == 2
    finally:
        (photographs / "b.png").write_bytes(before)
    assert f"{photographs} was " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda checkpoint: checkpoint.update(preset="nano"), "is a checkpoint of 'nano', not of 'tiny'"),
        (
            lambda checkpoint: checkpoint["state_dict"]["network.mask.0.bias"].fill_(math.nan),
            "weights are not finite: network.mask.0.bias",
        ),
        (lambda checkpoint: checkpoint.clear(), "is not a readable checkpoint"),
    ],
)
def test_checkpoints_that_cannot_go_on(
    tmp_path: Path,
    finished: Path,
    clip_labels: Path,
    photographs: Path,
    damage: Callable[[dict[str, Any]], object],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    (out / "student.safetensors").unlink()
    checkpoint = torch.load(out / "last.ckpt", weights_only=True)
    damage(checkpoint)
    torch.save(checkpoint, out / "last.ckpt")
    assert run(out, "--data.labels", f"[{clip_labels}]", "--data.textures", str(photographs)) == 2
    assert message in capsys.readouterr().err


def test_weights_that_are_not_numbers_are_refused(
    tmp_path: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = finished / "student.safetensors"
    tensors = load_file(source)
    tensors["mask.0.bias"].fill_(math.inf)
    with safe_open(source, framework="pt") as file:
        save_file(tensors, tmp_path / "broken.safetensors", metadata=file.metadata())
    assert run(tmp_path / "out", "--init", str(tmp_path / "broken.safetensors")) == 2
    assert "weights are not finite: mask.0.bias" in capsys.readouterr().err

    mono = MonoBranch("tiny")
    next(mono.parameters()).data.fill_(math.nan)
    parts = save_parts(mono, tmp_path / "mono.safetensors", prefix="features.mono.", training={})
    with pytest.raises(UserError, match=r"weights are not finite: features\.mono"):
        load_parts(FoundationStereo(PRESETS["foundation_stereo_tiny"].config), parts)
