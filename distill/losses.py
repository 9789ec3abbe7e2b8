"""Losses between predicted and reference disparity.

The sequence loss of RAFT-Stereo (arXiv 2109.07547) with FoundationStereo's smooth-L1 term on the initial disparity
(arXiv 2501.09898, eq. 5), each pixel weighted by the confidence of its label.

    B batch, H height, W width
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

from distill.collectives import mean_over_processes
from distill.config import LossOptions
from student.model import StudentPredictions
from teacher.foundation_stereo import Predictions

# Refinement steps that FoundationStereo's gamma is meant for.
GAMMA_STEPS = 16


class Losses(NamedTuple):
    """The loss and what it is made of, all scalars; px where nothing is said."""

    total: torch.Tensor
    sequence: torch.Tensor
    initial: torch.Tensor  # FoundationStereo's in quarter-resolution px
    epe: torch.Tensor  # of the last prediction, unweighted, for the log
    beyond_max_disp_pct: torch.Tensor  # see `beyond_pct`
    planes: torch.Tensor | None = None  # nats; None without this term
    features: torch.Tensor | None = None  # 1 - cosine; None without this term
    volume: torch.Tensor | None = None  # nats; None without this term
    difference: torch.Tensor | None = None  # between the rounded network and the one in float; None without

    def parts(self) -> dict[str, torch.Tensor]:
        """Everything there is, by its name in the log."""
        named = {"loss": self.total, **self._asdict()}
        return {name: value for name, value in named.items() if name != "total" and value is not None}


def pixel_weights(reference_B1HW: torch.Tensor, confidence_B1HW: torch.Tensor, *, max_disp: float) -> torch.Tensor:
    """Confidence where the reference can be learnt, 0 where it is missing, negative or beyond the network's range.

    Returns: (B, 1, H, W).
    """
    # Comparisons with NaN are false, so invalid pixels drop out here.
    learnable = (reference_B1HW >= 0) & (reference_B1HW < max_disp) & (confidence_B1HW > 0)
    return torch.where(learnable, confidence_B1HW, 0)


def beyond_pct(reference_B1HW: torch.Tensor, *, max_disp: float) -> torch.Tensor:
    """Share of the known references that the network's range does not reach, in percent; they are not trained on."""
    known = torch.isfinite(reference_B1HW).sum().clamp(min=1)
    return 100 * (reference_B1HW >= max_disp).sum() / known


def total_weight(weights: torch.Tensor) -> torch.Tensor:
    """Sum of weights, averaged over the processes that train together.

    Divided by it, the losses of several processes have the loss of one process with all pairs as their mean, however
    unevenly trusted pixels are spread: pixels count alike, not processes.
    """
    return mean_over_processes(weights.sum()).clamp(min=1e-6)


def weighted_mean(values: torch.Tensor, weights: torch.Tensor, total: torch.Tensor | None = None) -> torch.Tensor:
    """Mean of values under weights; 0 when all weights are 0, so that a batch without any trusted pixel is harmless.

    Args:
        total: `total_weight` of the weights, where it is known.
    """
    return (values * weights).sum() / (total_weight(weights) if total is None else total)


def softened(error: torch.Tensor, robust_px: float) -> torch.Tensor:
    """An error as it counts: robust_px * log(1 + error / robust_px), the error itself when robust_px is 0.

    Its slope falls from 1 at no error to a half at robust_px: a surface that is 50 px off, or a pixel whose match
    cannot be seen, does not drown what can be learnt now.
    """
    return robust_px * torch.log1p(error / robust_px) if robust_px else error


def refinement_term(
    sequence: Sequence[torch.Tensor], reference_B1HW: torch.Tensor, weights_B1HW: torch.Tensor, *, gamma: float,
    robust_px: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Weighted L1 of every refinement step, the last with weight 1 and each earlier one gamma times the next's.

    Args:
        robust_px: see `softened`.

    Returns: the sum over steps, and the EPE of the last step over all pixels with any weight.
    """
    errors = [(prediction - reference_B1HW).abs() for prediction in sequence]
    last, weight = len(errors) - 1, total_weight(weights_B1HW)
    total = torch.stack(
        [
            gamma ** (last - step) * weighted_mean(softened(error, robust_px), weights_B1HW, weight)
            for step, error in enumerate(errors)
        ]
    ).sum()
    return total, weighted_mean(errors[-1].detach(), (weights_B1HW > 0).to(weights_B1HW.dtype))


def plane_term(
    scores_BDHW: torch.Tensor, reference_B1HW: torch.Tensor, weights_B1HW: torch.Tensor, *, plane_px: int
) -> torch.Tensor:
    """Cross-entropy between the distribution over planes and the reference's (after PDS, arXiv 1806.01677).

    The reference's probability lies on the two planes around it, in shares whose expectation it is: the minimum is
    where the soft-argmin is right as well. An expectation alone can be right with two wrong peaks, and its gradient
    hardly tells a plane that is far off from one that is near; here every plane hears about itself.

    Args:
        scores_BDHW: higher is better; plane i stands for i * plane_px.
        reference_B1HW: disparity px at the scores' pixels.
        weights_B1HW: 0 where there is no reference.
    """
    with torch.autocast(scores_BDHW.device.type, enabled=False):
        logs = F.log_softmax(scores_BDHW.float(), dim=1)
        last = scores_BDHW.shape[1] - 1
        place = (reference_B1HW / plane_px).clamp(0, last)
        below = place.floor().clamp(max=last - 1).long()
        above_share = place - below
        entropy = -(1 - above_share) * logs.gather(1, below) - above_share * logs.gather(1, below + 1)
        return weighted_mean(entropy, weights_B1HW)


def sequence_loss(
    predictions: StudentPredictions,
    reference_B1HW: torch.Tensor,
    confidence_B1HW: torch.Tensor,
    *,
    max_disp: float,
    options: LossOptions,
) -> Losses:
    """The students' loss: disparities in full-resolution pixels, gamma from each step to the next.

    Args:
        reference_B1HW: disparity px, NaN invalid.
        confidence_B1HW: 0 to 1.
        max_disp: references at or beyond this are not trained on.
    """
    weights = pixel_weights(reference_B1HW, confidence_B1HW, max_disp=max_disp)
    beyond = beyond_pct(reference_B1HW, max_disp=max_disp)
    reference = torch.nan_to_num(reference_B1HW, nan=0.0)
    sequence, epe = refinement_term(
        predictions.sequence, reference, weights, gamma=options.gamma, robust_px=options.robust_px
    )

    stride = reference.shape[-1] // predictions.initial.shape[-1]
    nearest = (slice(None), slice(None), slice(stride // 2, None, stride), slice(stride // 2, None, stride))
    initial_error = F.smooth_l1_loss(predictions.initial * stride, reference[nearest], reduction="none")
    initial = weighted_mean(softened(initial_error, options.robust_px), weights[nearest])
    total = options.sequence * sequence + options.initial * initial
    if not options.planes:
        return Losses(total, sequence, initial, epe, beyond)
    assert predictions.scores is not None
    planes = plane_term(predictions.scores, reference[nearest], weights[nearest], plane_px=stride)
    return Losses(total + options.planes * planes, sequence, initial, epe, beyond, planes)


def foundation_stereo_loss(
    predictions: Predictions,
    reference_B1HW: torch.Tensor,
    confidence_B1HW: torch.Tensor,
    *,
    max_disp: float,
    options: LossOptions,
) -> Losses:
    """FoundationStereo's loss: L1 on every refinement step, smooth-L1 on the initial disparity in its own pixels.

    The paper leaves details open; they are those of NVIDIA's published training code for its own variant of the network
    (tao_pytorch_backend, Apache-2.0): the initial disparity is compared with every fourth pixel of the reference, and
    gamma is meant for 16 steps: any number of steps spans the same range of weights.

    Args:
        reference_B1HW: disparity px, NaN invalid.
        confidence_B1HW: 0 to 1.
        max_disp: references at or beyond this are not trained on.
    """
    weights = pixel_weights(reference_B1HW, confidence_B1HW, max_disp=max_disp)
    beyond = beyond_pct(reference_B1HW, max_disp=max_disp)
    reference = torch.nan_to_num(reference_B1HW, nan=0.0)
    steps = len(predictions.sequence)
    gamma = options.gamma ** ((GAMMA_STEPS - 1) / (steps - 1)) if steps > 1 else 1.0
    sequence, epe = refinement_term(predictions.sequence, reference, weights, gamma=gamma)

    every_fourth = (slice(None), slice(None), slice(None, None, 4), slice(None, None, 4))
    initial_error = F.smooth_l1_loss(predictions.initial, reference[every_fourth] / 4, reduction="none")
    initial = weighted_mean(initial_error, weights[every_fourth])
    return Losses(options.sequence * sequence + options.initial * initial, sequence, initial, epe, beyond)
