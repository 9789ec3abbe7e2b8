"""What a student learns from the teacher beside its disparity: features, and the distribution over disparities.

Feature distillation (FitNets, arXiv 1412.6550) compares directions of feature vectors after a linear projection, both
eyes in one batch. Volume distillation (after Hinton et al., arXiv 1503.02531) compares the distributions over
disparity planes that the initial disparities are expectations of. Projections serve the training alone: they are in its
checkpoint and not in the student's file.

    B batch, C channels, D disparity planes, H height, W width
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from distill.batches import Batch
from distill.config import LossOptions
from distill.losses import weighted_mean
from distill.online_teacher import OnlineTeacher, TeacherAnswer
from student.model import StudentPredictions, StudentStereo

# Of the levels that FoundationStereo has too.
LEVELS = ("quarter", "eighth", "sixteenth", "thirtysecond")
TEACHER_STRIDE, STUDENT_STRIDE = 4, 8


def rebinning(source_px: Sequence[float], target_px: Sequence[float]) -> torch.Tensor:
    """How probability on some disparities becomes probability on others with the same expectation.

    What lies between two target planes is split so that its mean stays. What lies outside the target's range has no
    place there and is dropped.

    Args:
        source_px, target_px: disparities of the planes, ascending.

    Returns: (target planes, source planes), columns sum to 1 inside the range and to 0 outside.
    """
    source, target = torch.tensor(source_px, dtype=torch.float64), torch.tensor(target_px, dtype=torch.float64)
    matrix = torch.zeros(len(target), len(source), dtype=torch.float64)
    for column, place in enumerate(source.tolist()):
        if not target[0] <= place <= target[-1]:
            continue
        below = min(int(torch.searchsorted(target, place, right=True)) - 1, len(target) - 1)
        above = min(below + 1, len(target) - 1)
        width = (target[above] - target[below]).item()
        share = (place - target[below].item()) / width if width else 0.0
        matrix[below, column] += 1 - share
        matrix[above, column] += share
    return matrix.float()


@functools.lru_cache(maxsize=8)
def plane_rebinning(source: int, target: int, device: torch.device) -> torch.Tensor:
    """`rebinning` from the teacher's planes to the student's, made once and kept on the device that needs it."""
    teacher_px = [TEACHER_STRIDE * plane for plane in range(source)]
    return rebinning(teacher_px, [STUDENT_STRIDE * plane for plane in range(target)]).to(device)


def teacher_distribution(
    scores_BDHW: torch.Tensor, *, planes: int, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The teacher's distribution on the student's planes and pixels.

    A student's pixel covers several of the teacher's, whose distributions are averaged: at an edge it has two peaks.

    Args:
        scores_BDHW: at 1/4, planes 4 px apart, higher is better.
        planes: of the student, 8 px apart.

    Returns:
        (B, planes, H/2, W/2), sums to 1 over the planes where any is in the student's range.
        (B, 1, H/2, W/2), the share of the teacher's distribution that is in the student's range.
    """
    shares = torch.softmax(scores_BDHW.float() / temperature, dim=1)
    matrix = plane_rebinning(shares.shape[1], planes, shares.device)
    pooled = F.avg_pool2d(shares, STUDENT_STRIDE // TEACHER_STRIDE)
    rebinned = torch.einsum("ts,bshw->bthw", matrix, pooled)
    inside = rebinned.sum(dim=1, keepdim=True)
    return rebinned / inside.clamp(min=1e-6), inside


def volume_term(student_BDHW: torch.Tensor, teacher_BDHW: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """KL divergence from the teacher's distribution to the student's, weighted by the teacher's share in range.

    Times the squared temperature, so that the gradient's size does not depend on it (Hinton et al., section 2).

    Args:
        student_BDHW: scores at 1/8, planes 8 px apart.
        teacher_BDHW: scores at 1/4, planes 4 px apart.
    """
    with torch.autocast(student_BDHW.device.type, enabled=False):
        wanted, inside = teacher_distribution(teacher_BDHW, planes=student_BDHW.shape[1], temperature=temperature)
        found = torch.log_softmax(student_BDHW.float() / temperature, dim=1)
        divergence = (torch.xlogy(wanted, wanted) - wanted * found).sum(dim=1, keepdim=True)
        return temperature**2 * weighted_mean(divergence, inside)


def feature_term(student_BCHW: torch.Tensor, teacher_BCHW: torch.Tensor) -> torch.Tensor:
    """Mean of 1 - cosine between feature vectors, 0 to 2; lengths are each network's own business."""
    cosine = F.cosine_similarity(student_BCHW.float(), teacher_BCHW.float(), dim=1)
    return (1 - cosine).mean()


class Distillation(nn.Module):
    """The terms that need the teacher, and the projections of one of them.

    Args:
        student: whose features are projected.
        teacher: looks at every batch; no part of this module's state.
        options: weights; a term of weight 0 is not computed.
    """

    def __init__(self, student: StudentStereo, teacher: OnlineTeacher, options: LossOptions) -> None:
        super().__init__()
        self._teacher = (teacher,)  # in a tuple, for torch would take its network for a part of this one
        self.options = options
        projections: dict[str, nn.Module] = {}
        if options.features:
            wide = teacher.channels
            narrow = dict(zip(LEVELS, student.config.widths[1:], strict=False))
            projections = {level: nn.Conv2d(narrow[level], wide[level], 1) for level in narrow if level in wide}
        self.projections = nn.ModuleDict(projections)

    def look(self, batch: Batch) -> tuple[Batch, TeacherAnswer]:
        """The teacher's answer, and the batch with its labels in place of those that it replaces."""
        return self._teacher[0].look(
            batch, features=bool(self.options.features), scores=bool(self.options.volume)
        )  # fmt: skip

    def terms(self, predictions: StudentPredictions, answer: TeacherAnswer) -> Mapping[str, torch.Tensor]:
        """The terms that are switched on, without their weights."""
        found = {}
        if self.options.features:
            seen = {level: getattr(predictions.features, level) for level in self.projections}
            compared = [
                feature_term(projection(seen[level]), answer.features[level])
                for level, projection in self.projections.items()
            ]
            found["features"] = torch.stack(compared).mean()
        if self.options.volume:
            assert predictions.scores is not None
            assert answer.scores is not None
            found["volume"] = volume_term(
                predictions.scores, answer.scores, temperature=self.options.temperature
            )  # fmt: skip
        return found
