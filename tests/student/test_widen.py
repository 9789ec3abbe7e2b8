"""Widened students compute what the narrow ones do."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from deploy.models import shipped_students
from distill.scenes import render_scenes
from stereo.cli import main
from stereo.errors import UserError
from student.checkpoint import load_student, read_metadata, save_student
from student.model import StudentConfig, StudentStereo
from student.presets import PRESETS, build_student
from student.widen import uneven_shares, widen
from student.widening_map import in_groups, in_pairs, joined
from teacher.blocks import disparity_transformer

TINY = PRESETS["tiny"]
# Wider everywhere, by one half or by two, as small is than nano.
TWICE = dataclasses.replace(
    TINY, preset="twice", widths=(12, 24, 32, 24), matching_channels=12, volume_widths=(16, 16, 16),
    transformer_heads=4, hidden=32, context=16, motion=16,
)  # fmt: skip


def trained_like(config: StudentConfig) -> StudentStereo:
    """A student whose norms have statistics and whose biases are not zero, as a trained one's."""
    torch.manual_seed(1)
    student = StudentStereo(dataclasses.replace(config, max_disp=64)).train()
    with torch.no_grad():
        for name, weight in student.named_parameters():
            if weight.dim() == 1:
                weight.add_(0.2 * torch.rand_like(weight) if "norm" not in name else 0)
        for seed in range(3):
            student(*pair(seed))
    return student.eval()


def pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    left = torch.nn.functional.interpolate(255 * torch.rand(1, 3, 16, 32, generator=generator), scale_factor=4.0)
    return left, left.roll(-5, dims=3)


@pytest.fixture
def presets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "twice", TWICE)


@pytest.mark.usefixtures("presets")
def test_the_wide_student_computes_what_the_narrow_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without position codes, which depend on the width, the transformer is held to it too.
    monkeypatch.setattr(disparity_transformer, "sinusoidal_positions", torch.zeros)
    narrow = trained_like(TINY)
    wide = widen(narrow, "twice")
    with torch.no_grad():
        before, after = narrow.predict_sequence(*pair()), wide.predict_sequence(*pair())
    assert before.features is not None
    assert after.features is not None
    assert before.scores is not None
    for one, other in zip(before.features, after.features, strict=True):
        torch.testing.assert_close(other[:, : one.shape[1]], one, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after.scores, before.scores, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after.sequence[-1], before.sequence[-1], rtol=1e-4, atol=1e-3)
    assert before.scores.std() > 0.01  # scores and a map, not one number
    assert before.sequence[-1].std() > 0.1


@pytest.mark.skipif("nano" not in shipped_students(), reason="no nano ships")
def test_small_begins_where_the_shipped_nano_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disparity_transformer, "sinusoidal_positions", torch.zeros)
    nano = load_student("nano", max_disp=64)
    scene = render_scenes(1, (96, 192), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        before, after = nano(scene.left, scene.right), widen(nano, "small")(scene.left, scene.right)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-2)
    assert before.std() > 1


@pytest.mark.usefixtures("presets")
def test_position_codes_move_it_a_little() -> None:
    narrow = trained_like(TINY)
    wide = widen(narrow, "twice")
    narrow_scores, wide_scores = (student.predict_sequence(*pair()).scores for student in (narrow, wide))
    assert narrow_scores is not None
    assert wide_scores is not None
    moved = (wide_scores - narrow_scores).abs().mean()
    assert 0 < moved < 0.5 * narrow_scores.std()


@pytest.mark.usefixtures("presets")
def test_copies_part_in_training() -> None:
    narrow = trained_like(TINY)
    wide = widen(narrow, "twice").train()
    weight = wide.get_parameter("backbone.stem.0.weight")
    torch.testing.assert_close(weight[8:12], weight[:4])
    torch.optim.SGD(wide.parameters(), lr=1e-3).zero_grad()
    sum(step.mean() for step in wide.predict_sequence(*pair()).sequence).backward()  # type: ignore[union-attr]
    assert weight.grad is not None
    assert (weight.grad[8:12] - weight.grad[:4]).abs().max() > 0.1 * weight.grad.abs().max()


def test_shares_add_up() -> None:
    weight = torch.randn(3, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    channels = torch.tensor([0, 1, 2, 3, 0, 1, 0])
    shared = uneven_shares(weight, channels, torch.Generator().manual_seed(1))
    summed = torch.zeros_like(weight).index_add_(1, channels, shared)
    torch.testing.assert_close(summed, weight)
    torch.testing.assert_close(shared[:, 2:4], weight[:, 2:4])  # channels without a copy
    assert (shared[:, 0] - shared[:, 4]).abs().mean() > 0.1


def test_maps() -> None:
    assert in_groups(4, 6, 2).tolist() == [0, 1, 0, 2, 3, 2]
    assert in_pairs(4, 8).tolist() == [0, 1, 0, 1, 2, 3, 2, 3]
    assert joined((torch.tensor([0, 0]), 1), (torch.tensor([0, 1, 0]), 2)).tolist() == [0, 0, 1, 2, 1]


def test_small_is_a_wider_nano() -> None:
    nano = build_student("nano", max_disp=64, iterations=1).eval()
    small = widen(nano, "small")
    assert small.config.max_disp == 64
    assert small.config.iterations == 1
    assert {name: weight.shape for name, weight in small.state_dict().items()} == {
        name: weight.shape for name, weight in build_student("small").state_dict().items()
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"blocks": (1, 1, 2)}, "blocks"),
        ({"widths": (8, 16, 16, 8)}, "widths"),
        ({"hidden": 8}, "hidden"),
        ({"transformer_heads": 8}, "attention heads of different widths"),
        ({"volume_widths": (12, 8, 8), "transformer_heads": 3}, r"volume_widths\[0\] 12 is no multiple of 8"),
        ({"context": 12}, "context 12 is no multiple of 8"),
        ({}, "the same widths"),
    ],
)
def test_what_is_no_widening_is_refused(monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], reason: str) -> None:
    monkeypatch.setitem(PRESETS, "other", dataclasses.replace(TINY, preset="other", **change))
    with pytest.raises(UserError, match=reason):
        widen(StudentStereo(TINY), "other")


def test_unknown_preset() -> None:
    with pytest.raises(UserError, match="no student preset"):
        widen(StudentStereo(TINY), "huge")


@pytest.mark.usefixtures("presets")
def test_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = save_student(trained_like(TINY), tmp_path / "narrow.safetensors", training={"steps": 7})
    out = tmp_path / "wide.safetensors"
    assert main(["widen", str(source), "--preset", "twice", "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert load_student(out).config.preset == "twice"
    told = read_metadata(out)["training"]
    assert told["widened"] == {"preset": "tiny", "seed": 0}
    assert told["started_from"]["training"] == {"steps": 7}
    assert main(["widen", str(source), "--preset", "twice", "--out", str(tmp_path / "wide.onnx")]) == 2
    assert "does not end in .safetensors" in capsys.readouterr().err
