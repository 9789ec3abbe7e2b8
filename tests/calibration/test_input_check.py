"""Frames of another range or colour order than the student was trained on are told, ordinary ones are not."""

import dataclasses
import logging

import numpy as np
import pytest
import torch

from calibration.input_check import check_inputs, first_layers
from stereo.errors import UserError
from stereo.label_set import LabelledFrame, LabelSet
from stereo.label_set_writer import LabelSetWriter
from student.presets import build_student

SIZE = (64, 96)
ORDER = [2, 1, 0]


def warm_views(seed):
    """A left and a right view with more red than blue, as lamps and wood have."""
    noise = np.random.default_rng(seed).uniform(-40, 40, (*SIZE, 3))
    image = np.clip(np.array([190, 120, 50]) + noise, 0, 255).astype(np.uint8)
    return image, np.roll(image, -3, axis=1)


@pytest.fixture(scope="module")
def student():
    """A student whose batch norms have seen warm images, and nothing else."""
    torch.manual_seed(0)
    student = build_student("tiny", max_disp=64).train()
    _, norm = first_layers(student)
    norm.momentum = None  # a plain average
    with torch.no_grad():
        for seed in range(4):
            left, right = (torch.from_numpy(view.transpose(2, 0, 1)[None].copy()).float() for view in warm_views(seed))
            student.predict_sequence(left, right)
    return student.eval()


def labelled(index, left, right):
    return LabelledFrame(
        f"{index:03d}", np.ascontiguousarray(left), np.ascontiguousarray(right), np.full(SIZE, 3, np.float32),
        np.ones(SIZE, np.float32),
    )  # fmt: skip


@pytest.fixture
def labels(tmp_path):
    """labels(change) → a label set of warm frames, each view changed by change(image, is_left)."""

    def make(change):
        writer = LabelSetWriter(tmp_path / "set", identity={"source": {}, "teacher": {}}, max_disp=64)
        for index in range(3):
            views = [
                change(view, is_left) for view, is_left in zip(warm_views(100 + index), (True, False), strict=True)
            ]
            writer.add(index, labelled(index, *views))
        return LabelSet.open(writer.finish())

    return make


def check(student, labels, caplog, size=SIZE):
    with caplog.at_level(logging.WARNING):
        facts = check_inputs(student, labels, [0, 1, 2], size)
    return facts, caplog.text


def test_frames_like_the_training_pass(student, labels, caplog):
    facts, said = check(student, labels(lambda image, is_left: image), caplog)
    assert not said
    assert facts.frames == 3
    assert facts.spread == pytest.approx(1, abs=0.1)
    assert facts.distance < 0.01 < facts.distance_exchanged


def test_padding_does_not_count(student, labels, caplog):
    made = labels(lambda image, is_left: image)
    plain, _ = check(student, made, caplog)
    padded, said = check(student, made, caplog, size=(96, 160))
    assert not said
    assert dataclasses.astuple(padded) == pytest.approx(dataclasses.astuple(plain), rel=1e-3)


def test_exchanged_colours_are_told(student, labels, caplog):
    _, said = check(student, labels(lambda image, is_left: image[..., ORDER]), caplog)
    assert "are they BGR?" in said
    assert "one eye" not in said


def test_one_eye_with_exchanged_colours_is_told(student, labels, caplog):
    facts, said = check(student, labels(lambda image, is_left: image if is_left else image[..., ORDER]), caplog)
    assert "is one eye BGR?" in said
    assert facts.eyes_levels > 50 > 4 > facts.eyes_levels_exchanged


def test_weak_contrast_is_told(student, labels, caplog):
    _, said = check(student, labels(lambda image, is_left: (image / 10).astype(np.uint8)), caplog)
    assert "contrast" in said


def test_images_of_0_to_1_are_refused(student, labels):
    with pytest.raises(UserError, match=r"contrast that the student was trained on.*RGB from 0 to 255"):
        check_inputs(student, labels(lambda image, is_left: (image / 255).round().astype(np.uint8)), [0, 1, 2], SIZE)
