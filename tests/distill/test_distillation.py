"""Distillation terms against hand-computed cases, and the teacher in the loop of a training."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import distill.train
from distill.batches import Batch
from distill.config import LossOptions, OnlineTeacherOptions
from distill.distillation import Distillation, feature_term, rebinning, teacher_distribution, volume_term
from distill.networks import TrainedStudent
from distill.online_teacher import OnlineTeacher, left_right_confidence
from distill.scenes import render_scenes
from distill.scenes_config import SceneOptions
from distill.validation import validation_scenes
from stereo.cli import main
from student.presets import build_student
from teacher.checkpoints import save_foundation_stereo
from teacher.consistency import consistency_confidence, left_right_difference
from teacher.foundation_stereo import FoundationStereo
from teacher.inference import BothViews
from teacher.presets import PRESETS


@pytest.fixture(scope="module")
def network() -> FoundationStereo:
    torch.manual_seed(0)
    return FoundationStereo(PRESETS["foundation_stereo_tiny"].config).eval()


@pytest.fixture(scope="module")
def batch() -> Batch:
    scenes = render_scenes(2, (64, 96), generator=torch.Generator().manual_seed(3), options=SceneOptions(max_disp=64))
    names = ["scene of block 0, lane 0, seed 0", "labels/frame_1"]
    return Batch(scenes.left, scenes.right, scenes.disparity, torch.ones_like(scenes.disparity), names)


def teacher(network: FoundationStereo, **options: object) -> OnlineTeacher:
    chosen = OnlineTeacherOptions(checkpoint="x", iterations=2, **options)  # type: ignore[arg-type]
    return OnlineTeacher(network, chosen, min_confidence=0.0)


def test_rebinning_by_hand() -> None:
    # Planes 4 px apart onto planes 8 px apart: even ones stay, odd ones are halved; 20 and more has no place.
    expected = [[1, 0.5, 0, 0, 0, 0, 0], [0, 0.5, 1, 0.5, 0, 0, 0], [0, 0, 0, 0.5, 1, 0, 0]]
    assert rebinning([0, 4, 8, 12, 16, 20, 24], [0, 8, 16]).tolist() == expected
    # A place a quarter of the way, the target's ends, and a target of one plane.
    assert rebinning([2, 8], [0, 8]).tolist() == [[0.75, 0], [0.25, 1]]
    assert rebinning([0, 4], [0]).tolist() == [[1, 0]]


def test_rebinning_keeps_the_expectation_of_what_is_in_range() -> None:
    source, target = torch.arange(24) * 4.0, torch.arange(8) * 8.0
    shares = torch.softmax(torch.randn(24, generator=torch.Generator().manual_seed(0)) * 3, 0)
    shares[source > target[-1]] = 0
    rebinned = rebinning(source.tolist(), target.tolist()) @ shares
    assert rebinned.sum().item() == pytest.approx(shares.sum().item(), rel=1e-6)
    assert (rebinned * target).sum().item() == pytest.approx((shares * source).sum().item(), rel=1e-6)


def peaks(*planes: int, count: int) -> torch.Tensor:
    """Scores (1, D, 2, 2), all on one plane in each of four pixels."""
    scores = torch.full((1, count, 4), -1e4)
    for pixel, plane in enumerate(planes):
        scores[0, plane, pixel] = 0
    return scores.reshape(1, count, 2, 2)


def test_teacher_distribution_by_hand() -> None:
    # Four pixels at 0, 4, 8 and 40 px become one: 8·2 = 16 px is the student's last plane, so 40 px is out of range.
    shares, inside = teacher_distribution(peaks(0, 1, 2, 10, count=12), planes=3, temperature=1.0)
    assert inside.flatten().tolist() == pytest.approx([0.75])
    assert shares.flatten().tolist() == pytest.approx([0.375 / 0.75, 0.375 / 0.75, 0])


def test_volume_term_by_hand() -> None:
    """The teacher is on 4 px for certain: half and half on the student's 0 and 8 px, whose student says 1/4 and 3/4."""
    student = torch.tensor([0.25, 0.75]).log().reshape(1, 2, 1, 1)
    assert volume_term(student, peaks(1, 1, 1, 1, count=3), temperature=1.0).item() == pytest.approx(
        0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75), rel=1e-5
    )
    same = torch.zeros(1, 2, 1, 1)
    assert volume_term(same, peaks(1, 1, 1, 1, count=3), temperature=1.0).item() == pytest.approx(0, abs=1e-6)
    # At temperature 2 the student's odds of 3 become √3; the sure teacher stays sure; all times 4.
    odds = math.sqrt(3)
    assert volume_term(student, peaks(1, 1, 1, 1, count=3), temperature=2.0).item() == pytest.approx(
        4 * (0.5 * math.log(0.5 * (1 + odds)) + 0.5 * math.log(0.5 * (1 + odds) / odds)), rel=1e-5
    )


def test_pixels_out_of_range_teach_nothing_and_do_no_harm() -> None:
    student = torch.zeros(1, 2, 1, 1, requires_grad=True)
    loss = volume_term(student, peaks(5, 5, 5, 5, count=6), temperature=1.0)
    loss.backward()
    assert loss.item() == 0
    assert student.grad is not None
    assert student.grad.abs().max() == 0


def test_feature_term_is_one_minus_cosine() -> None:
    one = torch.tensor([[3.0, 0.0, 1.0]]).reshape(1, 1, 1, 3).repeat(1, 2, 1, 1)
    other = torch.tensor([[2.0, 2.0, 1.0], [2.0, 0.0, -1.0]]).reshape(1, 2, 1, 3)
    # (3,3)·(2,2): 1; a zero vector: 0; (1,1)·(1,-1): 0
    assert feature_term(one, other).item() == pytest.approx((0 + 1 + 1) / 3, rel=1e-6)


def test_confidence_is_that_of_the_numpy_reference() -> None:
    generator = torch.Generator().manual_seed(0)
    left = torch.rand(2, 1, 20, 40, generator=generator) * 12
    right = left.roll(-6, -1) + torch.randn(left.shape, generator=generator)
    left[0, 0, 3, 5:9] = math.nan
    right[1, 0, 7, 2:30] = math.nan
    found = left_right_confidence(left, right)
    for index in range(2):
        views = [np.ascontiguousarray(view[index, 0].numpy()) for view in (left, right)]
        expected = consistency_confidence(left_right_difference(views[0], views[1]))
        np.testing.assert_allclose(found[index, 0].numpy(), expected, atol=1e-6)
    assert 0.1 < (found > 0).float().mean() < 0.9


@pytest.mark.parametrize("replaces", ["nothing", "labels", "everything"])
def test_teacher_answers_what_the_network_says(network: FoundationStereo, batch: Batch, replaces: str) -> None:
    relabelled, answer = teacher(network, replaces=replaces).look(batch, features=True, scores=True)
    with torch.no_grad():
        images = network.normalised(torch.cat([batch.left, batch.right]))
        features = network.features(images)
        left, right = features.halves()
        scores = network.filtering.classifier(network.filtering(left, right, planes=network.planes)).squeeze(1)
        disparity = network.predict(batch.left, batch.right, iterations=2)
    assert torch.allclose(answer.features["eighth"], features.eighth, atol=1e-5)
    assert answer.scores is not None
    assert answer.scores.shape == (2, 32, 16, 24)
    # Rounding: with both views in one batch, convolutions sum in another order.
    assert torch.allclose(answer.scores, scores, rtol=1e-3, atol=1e-4)
    for index, changed in enumerate({"nothing": (0, 0), "labels": (0, 1), "everything": (1, 1)}[replaces]):
        expected = disparity[index] if changed else batch.disparity[index]
        known = torch.isfinite(relabelled.disparity[index])
        assert known.any()
        assert torch.allclose(relabelled.disparity[index][known], expected[known], atol=1e-2)
        assert torch.equal(relabelled.confidence[index], batch.confidence[index]) != bool(changed)


def test_gradient_reaches_student_and_projections_and_not_the_teacher(network: FoundationStereo, batch: Batch) -> None:
    student = build_student("tiny", max_disp=64)
    options = LossOptions(sequence=0, initial=0, planes=0, features=1.0, volume=1.0)
    distillation = Distillation(student, teacher(network, replaces="nothing"), options)
    trained = TrainedStudent(student, distillation=distillation)
    losses = trained.losses(batch, options)
    assert losses.features is not None
    assert losses.volume is not None
    assert losses.total.item() == pytest.approx(losses.features.item() + losses.volume.item(), rel=1e-5)
    losses.total.backward()
    assert set(distillation.projections) == {"quarter", "eighth", "sixteenth"}
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in distillation.parameters())
    assert student.backbone.stem[0].weight.grad.abs().sum() > 0
    assert student.classifier.weight.grad.abs().sum() > 0  # type: ignore[union-attr]
    assert not any(weight.requires_grad for weight in network.parameters())
    assert not [name for name in distillation.state_dict() if not name.startswith("projections.")]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, network: FoundationStereo) -> Path:
    return save_foundation_stereo(network, tmp_path_factory.mktemp("teacher") / "tiny.safetensors")


def run(out: Path, *more: str) -> int:
    return main(
        [
            "train", "--out", str(out), "--preset", "tiny", "--max_disp", "64", "--data.crop", "64x96",
            "--data.batch_size", "1", "--data.block", "4", "--data.workers", "0", "--validate_every", "0",
            "--precision", "32-true", "--trainer.accelerator", "cpu", *more,
        ]
    )  # fmt: skip


@pytest.fixture
def few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        distill.train, "validation_scenes", lambda *_, max_disp: validation_scenes(1, (64, 96), max_disp=max_disp)
    )


@pytest.mark.usefixtures("few_scenes")
def test_training_with_a_teacher_resumes_exactly_and_its_student_is_a_plain_one(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [
        "--steps", "10", "--teacher.checkpoint", str(weights), "--teacher.replaces", "everything",
        "--teacher.iterations", "1", "--teacher.max_disp", "96", "--loss.features", "0.5", "--loss.volume", "0.5",
        "--loss.temperature", "2", "--optimiser.ema", "0.9",
    ]  # fmt: skip
    original = distill.train.Checkpoints.on_train_batch_end

    def cut(self: distill.train.Checkpoints, trainer: object, *rest: object) -> None:
        if trainer.global_step == 6:  # type: ignore[attr-defined]
            self._on_interrupt(2, None)
        original(self, trainer, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(distill.train.Checkpoints, "on_train_batch_end", cut)
    assert run(tmp_path / "cut", *options) == 130
    monkeypatch.setattr(distill.train.Checkpoints, "on_train_batch_end", original)
    assert run(tmp_path / "cut", *options) == 0
    assert run(tmp_path / "whole", *options) == 0
    one, other = (load_file(tmp_path / name / "student.safetensors") for name in ("cut", "whole"))
    assert one.keys() == build_student("tiny").state_dict().keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    rows = list(csv.DictReader((tmp_path / "whole" / "log" / "from_step_0" / "metrics.csv").open()))
    assert [row for row in rows if row.get("features") and row.get("volume")]
    state = torch.load(tmp_path / "whole" / "last.ckpt", weights_only=True)["state_dict"]
    assert "distillation.projections.quarter.weight" in state
    assert len(state) == len(one) + 6  # nothing of the teacher


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--loss.features", "1"], "--loss.features needs a teacher on line"),
        (["--loss.volume", "1"], "linked from github.com/NVlabs/FoundationStereo"),
        (["--teacher.replaces", "nothing"], "needs weights"),
        (["--teacher.checkpoint", "/nowhere.pth"], "no such file"),
        (["--teacher.checkpoint", "WEIGHTS", "--teacher.replaces", "nothing"], "nothing to teach"),
        (["--teacher.checkpoint", "WEIGHTS", "--teacher.iterations", "0"], "0 is less than 1"),
        (["--teacher.checkpoint", "WEIGHTS", "--teacher.max_disp", "100"], "the next one is 128"),
        (["--teacher.checkpoint", "WEIGHTS", "--teacher.device", "cuda:1"], "no CUDA device"),
        (["--teacher.checkpoint", "WEIGHTS", "--preset", "foundation_stereo_tiny"], "is no student"),
        (["--loss.temperature", "0"], "no temperature"),
        (["--loss.sequence", "-1"], "out of range"),
    ],
)
def test_bad_settings(
    tmp_path: Path, weights: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(weights) if argument == "WEIGHTS" else argument for argument in arguments]
    assert run(tmp_path, "--steps", "1", *arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("few_scenes")
def test_a_teacher_that_answers_nonsense_stops_the_training_by_name(
    tmp_path: Path, network: FoundationStereo, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = save_foundation_stereo(network, tmp_path / "tiny.safetensors")
    seen = OnlineTeacher.look

    def broken(self: OnlineTeacher, batch: Batch, **asked: bool) -> object:
        batch, answer = seen(self, batch, **asked)
        return batch, answer._replace(features={name: value * math.nan for name, value in answer.features.items()})

    monkeypatch.setattr(OnlineTeacher, "look", broken)
    options = ["--teacher.checkpoint", str(weights), "--teacher.replaces", "nothing", "--loss.features", "1"]
    assert run(tmp_path / "out", "--steps", "2", *options) == 2
    error = capsys.readouterr().err
    assert "the loss is nan at step 0" in error
    assert "scene of block 0" in error


def test_disparities_that_are_not_numbers_get_no_confidence(network: FoundationStereo, batch: Batch) -> None:
    both = BothViews(torch.full_like(batch.disparity, math.nan), torch.ones_like(batch.disparity))
    relabelled = teacher(network, replaces="everything")._relabelled(batch, both, [True, True])
    assert relabelled.confidence.abs().max() == 0
