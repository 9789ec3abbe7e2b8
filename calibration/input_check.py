"""Do calibration frames look like what the student was trained on? Asked of its own batch statistics.

The first batch norm remembers, channel by channel, the mean and variance of the first convolution's output over the
training. Frames of another range (0–1, or 16 bits cut to 8) give another spread; frames with red and blue exchanged
give other means, as far as the training was not colour-blind itself: that only shows where exchanging them back brings
the statistics clearly nearer. An exchange in one eye alone shows without the student: then the eyes' colours differ.

    # C channels of the first convolution, H height, W width
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from calibration.frames import FittedFrame, read_fitted
from stereo.errors import UserError
from stereo.label_set import LabelSet
from student.model import StudentStereo

# Frames that are looked at: statistics settle long before all of them.
LOOKED_AT = 16
# Spreads relative to the training's: real cameras lie between 0.6 and 1.3 of the shipped student's, images of 0 to 1
# taken for 0 to 255 at 0.004.
USUAL_SPREAD = (0.2, 4.0)
LEAST_SPREAD = 0.02
# The exchange must explain at least half of a distance that is worth speaking of, in squared standard deviations.
COLOUR_SHARE, COLOUR_DISTANCE = 0.5, 0.1
# Levels of 255 by which the eyes' mean colours differ less when red and blue of one are exchanged.
EYES_LEVELS = 4.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InputFacts:
    """What was found.

    Args:
        spread: median over channels of the frames' standard deviation by the training's; 1 is the training's own.
        distance: mean over channels of the squared difference of the means, in the training's standard deviations.
        distance_exchanged: the same with red and blue exchanged.
        eyes_levels: mean difference of the eyes' mean colours, in levels of 255.
        eyes_levels_exchanged: the same with red and blue of the right eye exchanged.
        frames: how many were looked at.
    """

    spread: float
    distance: float
    distance_exchanged: float
    eyes_levels: float
    eyes_levels_exchanged: float
    frames: int


def check_inputs(student: StudentStereo, labels: LabelSet, indices: Sequence[int], size: tuple[int, int]) -> InputFacts:
    """Compare calibration frames with the student's training; warns of what looks wrong.

    Args:
        indices: of the calibration frames in the label set.
        size: (H, W) of the graph.

    Raises:
        UserError: the frames are next to black for the student.
    """
    chosen = list(indices)[:: max(1, len(indices) // LOOKED_AT)][:LOOKED_AT]
    facts = input_facts(student, (read_fitted(labels, index, size) for index in chosen))
    if facts.spread < LEAST_SPREAD:
        raise UserError(
            f"the calibration frames have {100 * facts.spread:.2g} % of the contrast that the student was trained on",
            where=labels.path, fix="images must be RGB from 0 to 255, not 0 to 1: label the original footage",
        )  # fmt: skip
    if not USUAL_SPREAD[0] <= facts.spread <= USUAL_SPREAD[1]:
        log.warning("the calibration frames have %.2g times the contrast that the student was trained on: are they "
                    "RGB from 0 to 255?", facts.spread)  # fmt: skip
    if (
        facts.distance - facts.distance_exchanged > COLOUR_DISTANCE
        and facts.distance_exchanged < COLOUR_SHARE * facts.distance
    ):
        log.warning("the calibration frames look more like the training with red and blue exchanged (%.2f squared "
                    "standard deviations away, %.2f exchanged): are they BGR?",
                    facts.distance, facts.distance_exchanged)  # fmt: skip
    if facts.eyes_levels - facts.eyes_levels_exchanged > EYES_LEVELS:
        log.warning("the eyes' mean colours differ by %.1f levels, by %.1f with red and blue of the right exchanged: "
                    "is one eye BGR?", facts.eyes_levels, facts.eyes_levels_exchanged)  # fmt: skip
    return facts


def input_facts(student: StudentStereo, frames: Iterable[FittedFrame]) -> InputFacts:
    """The statistics of some frames, padding left out."""
    convolution, norm = first_layers(student)
    mean, deviation = norm.running_mean, norm.running_var
    assert mean is not None
    assert deviation is not None
    deviation = torch.sqrt(deviation + norm.eps)
    sums = [Moments(), Moments()]
    eyes = []
    for frame in frames:
        left, right = (
            np.stack([frame.without_padding(channel) for channel in view[0]]) for view in (frame.left, frame.right)
        )
        for moments, order in zip(sums, ([0, 1, 2], [2, 1, 0]), strict=True):
            image = torch.from_numpy(np.ascontiguousarray(left[order])[None])
            with torch.no_grad():
                seen = convolution((image - student.mean) / student.std)[0]
                moments.add(seen[:, 1:-1, 1:-1].flatten(1))  # at the border it sees zeros too
        colours = [view.mean((1, 2)) for view in (left, right)]
        eyes.append([float(np.abs(colours[0] - colours[1][order]).mean()) for order in ([0, 1, 2], [2, 1, 0])])
    distances = [float((((moments.mean() - mean) / deviation) ** 2).mean()) for moments in sums]
    spread = float((sums[0].deviation() / deviation).median())
    straight, exchanged = np.mean(eyes, axis=0)
    return InputFacts(
        spread=spread, distance=distances[0], distance_exchanged=distances[1], eyes_levels=float(straight),
        eyes_levels_exchanged=float(exchanged), frames=len(eyes),
    )  # fmt: skip


def first_layers(student: StudentStereo) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """The convolution that sees the image, and its batch norm."""
    layers = list(student.backbone.stem.modules())
    convolution = next(layer for layer in layers if isinstance(layer, nn.Conv2d))
    norm = next(layer for layer in layers if isinstance(layer, nn.BatchNorm2d))
    return convolution, norm


class Moments:
    """Mean and standard deviation of each channel over all that was added."""

    def __init__(self) -> None:
        self.count = 0
        self.total: torch.Tensor = torch.zeros(())
        self.squares: torch.Tensor = torch.zeros(())

    def add(self, values: torch.Tensor) -> None:
        """Add values (C, N)."""
        values = values.double()
        self.count += values.shape[1]
        self.total = self.total + values.sum(1)
        self.squares = self.squares + (values**2).sum(1)

    def mean(self) -> torch.Tensor:
        """(C,)"""
        return self.total / self.count

    def deviation(self) -> torch.Tensor:
        """(C,)"""
        return torch.sqrt((self.squares / self.count - self.mean() ** 2).clamp(min=0))
