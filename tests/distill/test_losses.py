"""The losses against hand-computed values."""

from __future__ import annotations

import pytest
import torch

from distill.config import LossOptions
from distill.losses import foundation_stereo_loss, sequence_loss, weighted_mean
from student.model import StudentPredictions
from teacher.foundation_stereo import Predictions


def constant(value: float) -> torch.Tensor:
    return torch.full((1, 1, 8, 16), value)


def test_sequence_is_weighted_by_gamma_and_the_initial_term_is_smooth() -> None:
    predictions = StudentPredictions(torch.full((1, 1, 1, 2), 1.0), [constant(6.0), constant(9.0)])
    losses = sequence_loss(
        predictions, constant(10.0), constant(1.0), max_disp=64, options=LossOptions(gamma=0.5, initial=2.0)
    )
    assert losses.sequence.item() == pytest.approx(0.5 * 4 + 1)
    # one eighth-resolution pixel stands for 8 px: error 2 px, smooth-L1 with beta 1 gives 1.5
    assert losses.initial.item() == pytest.approx(1.5)
    assert losses.total.item() == pytest.approx(3 + 2 * 1.5)
    assert losses.epe.item() == pytest.approx(1)


def test_invalid_far_and_untrusted_pixels_do_not_count() -> None:
    reference = constant(10.0)
    reference[..., 0] = float("nan")
    reference[..., 1] = 64.0  # beyond the range
    confidence = constant(1.0)
    confidence[..., 2] = 0
    confidence[..., 3] = 0.5
    prediction = constant(10.0)
    prediction[..., :3] = 1e6
    prediction[..., 3] = 12.0
    losses = sequence_loss(
        StudentPredictions(torch.full((1, 1, 1, 2), 1.25), [prediction]),
        reference,
        confidence,
        max_disp=64,
        options=LossOptions(initial=0.0),
    )
    # 16 columns: three are out, one has weight 0.5 and error 2
    assert losses.total.item() == pytest.approx(0.5 * 2 / (12 + 0.5), rel=1e-5)


def test_a_batch_without_any_trusted_pixel_gives_zero_and_finite_gradients() -> None:
    prediction = constant(3.0).requires_grad_()
    initial = torch.ones(1, 1, 1, 2, requires_grad=True)
    losses = sequence_loss(
        StudentPredictions(initial, [prediction]),
        constant(float("nan")),
        constant(1.0),
        max_disp=64,
        options=LossOptions(),
    )
    losses.total.backward()
    assert losses.total.item() == 0
    assert prediction.grad is not None
    assert torch.isfinite(prediction.grad).all()


def test_weighted_mean_of_nothing_is_zero() -> None:
    assert weighted_mean(torch.ones(3), torch.zeros(3)).item() == 0


def test_foundation_stereo_loss_is_the_literal_one() -> None:
    """Pixel by pixel, with invalid, far and negative references and three predictions."""
    generator = torch.Generator().manual_seed(0)
    reference = torch.rand(1, 1, 8, 16, generator=generator) * 80 - 4
    reference[0, 0, 4, 8] = float("nan")
    sequence = [torch.randn(1, 1, 8, 16, generator=generator) * 9 + 30 for _ in range(3)]
    initial = torch.rand(1, 1, 2, 4, generator=generator) * 16
    valid = [(y, x) for y in range(8) for x in range(16) if 0 <= reference[0, 0, y, x] < 64]
    assert 0 < len(valid) < 8 * 16
    expected = 0.0
    for step, prediction in enumerate(sequence):
        mean = sum(abs(prediction[0, 0, y, x].item() - reference[0, 0, y, x].item()) for y, x in valid) / len(valid)
        expected += (0.8 ** (15 / 2)) ** (2 - step) * mean
    smooth = []
    for y, x in valid:
        if y % 4 == 0 and x % 4 == 0:
            error = abs(initial[0, 0, y // 4, x // 4].item() - reference[0, 0, y, x].item() / 4)
            smooth.append(0.5 * error**2 if error < 1 else error - 0.5)
    expected += 2 * sum(smooth) / len(smooth)
    losses = foundation_stereo_loss(
        Predictions(initial, sequence),
        reference,
        torch.ones_like(reference),
        max_disp=64,
        options=LossOptions(gamma=0.8, initial=2.0),
    )
    assert losses.total.item() == pytest.approx(expected, rel=1e-5)


def test_foundation_stereo_loss_takes_a_single_step() -> None:
    losses = foundation_stereo_loss(
        Predictions(torch.full((1, 1, 2, 4), 2.5), [constant(12.0)]),
        constant(10.0),
        constant(1.0),
        max_disp=64,
        options=LossOptions(),
    )
    assert losses.total.item() == pytest.approx(2)
