"""Losses between predicted and reference disparity.

The sequence loss of RAFT-Stereo (arXiv 2109.07547) with FoundationStereo's smooth-L1 term on the initial disparity
(arXiv 2501.09898, eq. 5), each pixel weighted by the confidence of its label.

    B batch, H height, W width
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from distill.config import LossOptions
from student.model import StudentPredictions


class Losses(NamedTuple):
    """The loss and what it is made of, all scalars in px."""

    total: torch.Tensor
    sequence: torch.Tensor
    initial: torch.Tensor
    epe: torch.Tensor  # of the last prediction, unweighted, for the log


def pixel_weights(reference_B1HW: torch.Tensor, confidence_B1HW: torch.Tensor, *, max_disp: float) -> torch.Tensor:
    """Confidence where the reference can be learnt, 0 where it is missing, negative or beyond the network's range.

    Returns: (B, 1, H, W).
    """
    # Comparisons with NaN are false, so invalid pixels drop out here.
    learnable = (reference_B1HW >= 0) & (reference_B1HW < max_disp)
    return confidence_B1HW * learnable


def weighted_mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean of values under weights; 0 when all weights are 0, so that a batch without any trusted pixel is harmless."""
    return (values * weights).sum() / weights.sum().clamp(min=1e-6)


def sequence_loss(
    predictions: StudentPredictions,
    reference_B1HW: torch.Tensor,
    confidence_B1HW: torch.Tensor,
    *,
    max_disp: float,
    options: LossOptions,
) -> Losses:
    """Weighted L1 on every refinement step plus smooth-L1 on the initial disparity, both in full-resolution pixels.

    Args:
        reference_B1HW: disparity px, NaN invalid.
        confidence_B1HW: 0 to 1.
        max_disp: references at or beyond this are not trained on.
    """
    weights = pixel_weights(reference_B1HW, confidence_B1HW, max_disp=max_disp)
    reference = torch.nan_to_num(reference_B1HW, nan=0.0)
    errors = [(prediction - reference).abs() for prediction in predictions.sequence]
    last = len(errors) - 1
    sequence = torch.stack(
        [options.gamma ** (last - step) * weighted_mean(error, weights) for step, error in enumerate(errors)]
    ).sum()

    stride = reference.shape[-1] // predictions.initial.shape[-1]
    nearest = (slice(None), slice(None), slice(stride // 2, None, stride), slice(stride // 2, None, stride))
    initial_error = F.smooth_l1_loss(predictions.initial * stride, reference[nearest], reduction="none")
    initial = weighted_mean(initial_error, weights[nearest])
    epe = weighted_mean(errors[-1].detach(), (weights > 0).to(weights.dtype))
    return Losses(sequence + options.initial * initial, sequence, initial, epe)
