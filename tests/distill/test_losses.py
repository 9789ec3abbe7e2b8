"""The losses against hand-computed values."""

from __future__ import annotations

import math

import pytest
import torch

from distill.config import LossOptions
from distill.losses import foundation_stereo_loss, plane_term, sequence_loss, weighted_mean
from student.model import StudentPredictions
from teacher.blocks.soft_argmin import soft_argmin
from teacher.foundation_stereo import Predictions


def constant(value: float) -> torch.Tensor:
    return torch.full((1, 1, 8, 16), value)


def test_sequence_is_weighted_by_gamma_and_the_initial_term_is_smooth() -> None:
    predictions = StudentPredictions(torch.full((1, 1, 1, 2), 1.0), [constant(6.0), constant(9.0)])
    losses = sequence_loss(
        predictions,
        constant(10.0),
        constant(1.0),
        max_disp=64,
        options=LossOptions(gamma=0.5, initial=2.0, planes=0.0, robust_px=0.0),
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
        options=LossOptions(initial=0.0, planes=0.0, robust_px=0.0),
    )
    # 16 columns: three are out, one has weight 0.5 and error 2
    assert losses.total.item() == pytest.approx(0.5 * 2 / (12 + 0.5), rel=1e-5)


def test_a_batch_without_any_trusted_pixel_gives_zero_and_finite_gradients() -> None:
    prediction = constant(3.0).requires_grad_()
    initial = torch.ones(1, 1, 1, 2, requires_grad=True)
    losses = sequence_loss(
        StudentPredictions(initial, [prediction], torch.zeros(1, 8, 1, 2)),
        constant(float("nan")),
        constant(1.0),
        max_disp=64,
        options=LossOptions(),
    )
    losses.total.backward()
    assert losses.total.item() == 0
    assert prediction.grad is not None
    assert torch.isfinite(prediction.grad).all()


def test_robust_errors_are_the_hand_computed_ones() -> None:
    predictions = StudentPredictions(torch.full((1, 1, 1, 2), 1.0), [constant(6.0)])
    options = LossOptions(planes=0.0, robust_px=4.0)
    losses = sequence_loss(predictions, constant(10.0), constant(1.0), max_disp=64, options=options)
    assert losses.sequence.item() == pytest.approx(4 * math.log(2), rel=1e-6)
    assert losses.initial.item() == pytest.approx(4 * math.log(1 + 1.5 / 4), rel=1e-6)
    assert losses.epe.item() == pytest.approx(4)  # the log's EPE stays one


def test_plane_term_is_the_hand_computed_cross_entropy() -> None:
    scores = torch.tensor([math.log(weight) for weight in (1.0, 2.0, 5.0, 2.0)]).reshape(1, 4, 1, 1)
    # 10 px on planes 8 px apart: three quarters on plane 1, a quarter on plane 2
    term = plane_term(scores, torch.full((1, 1, 1, 1), 10.0), torch.ones(1, 1, 1, 1), plane_px=8)
    assert term.item() == pytest.approx(-0.75 * math.log(0.2) - 0.25 * math.log(0.5), rel=1e-6)


def test_plane_term_is_least_where_the_expectation_is_the_reference() -> None:
    reference = torch.tensor([0.0, 3.0, 8.0, 19.5, 24.0, 30.0]).reshape(1, 1, 1, 6)  # the last is beyond the last plane
    scores = torch.zeros(1, 4, 1, 6, requires_grad=True)
    optimiser = torch.optim.Adam([scores], lr=0.3)
    for _ in range(300):
        optimiser.zero_grad()
        plane_term(scores, reference, torch.ones_like(reference), plane_px=8).backward()
        optimiser.step()
    expectation = 8 * soft_argmin(scores.detach())
    assert torch.allclose(expectation, reference.clamp(max=24), atol=0.05)


def test_plane_term_leaves_out_pixels_without_weight() -> None:
    scores = torch.randn(1, 4, 1, 2, generator=torch.Generator().manual_seed(0))
    reference, weights = torch.tensor([[[[10.0, 500.0]]]]), torch.tensor([[[[1.0, 0.0]]]])
    both = plane_term(scores, reference, weights, plane_px=8)
    assert both.item() == pytest.approx(
        plane_term(scores[..., :1], reference[..., :1], weights[..., :1], plane_px=8).item()
    )


def test_plane_term_joins_the_total() -> None:
    predictions = StudentPredictions(torch.full((1, 1, 1, 2), 1.25), [constant(10.0)], torch.zeros(1, 8, 1, 2))
    losses = sequence_loss(predictions, constant(10.0), constant(1.0), max_disp=64, options=LossOptions(planes=0.5))
    assert losses.planes is not None
    assert losses.planes.item() == pytest.approx(math.log(8), rel=1e-6)
    assert losses.total.item() == pytest.approx(0.5 * math.log(8), rel=1e-6)


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
