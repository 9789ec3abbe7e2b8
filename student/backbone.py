"""The student's feature network: dense 3×3 convolutions with batch norm and ReLU, to 1/16 and back to 1/4.

Dense 3×3 convolutions have integer kernels in every runtime, so the encoder is a plain residual network; a light
top-down path brings context back to 1/8 and 1/4.

    B batch, C channels, H height, W width
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from teacher.blocks.convolution import ConvNormAct, ResidualBlock


class Features(NamedTuple):
    """Feature maps of one or several images, (B, C, H/s, W/s)."""

    quarter: torch.Tensor
    eighth: torch.Tensor
    sixteenth: torch.Tensor


class TopDown(nn.Module):
    """Add coarse context to a finer map: 1×1 convolution, enlargement, addition, 3×3 convolution."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.lateral = nn.Conv2d(coarse, fine, 1)
        self.smooth = ConvNormAct(2, fine, fine)

    def forward(self, coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        enlarged = F.interpolate(self.lateral(coarse), scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.smooth(fine + enlarged)


class Backbone(nn.Module):
    """Residual encoder with a top-down path.

    Args:
        widths: channels at 1/2, 1/4, 1/8 and 1/16.
        blocks: residual blocks at 1/4, 1/8 and 1/16.

    Input: normalised images (B, 3, H, W), H and W multiples of 16.
    """

    def __init__(self, widths: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = widths
        self.stem = ConvNormAct(2, 3, half, stride=2)
        self.stage_quarter = self._stage(half, quarter, blocks[0])
        self.stage_eighth = self._stage(quarter, eighth, blocks[1])
        self.stage_sixteenth = self._stage(eighth, sixteenth, blocks[2])
        self.to_eighth = TopDown(sixteenth, eighth)
        self.to_quarter = TopDown(eighth, quarter)

    @staticmethod
    def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
        return nn.Sequential(
            ConvNormAct(2, inputs, outputs, stride=2), *(ResidualBlock(2, outputs) for _ in range(blocks))
        )

    def forward(self, images: torch.Tensor) -> Features:
        quarter = self.stage_quarter(self.stem(images))
        eighth = self.stage_eighth(quarter)
        sixteenth = self.stage_sixteenth(eighth)
        eighth = self.to_eighth(sixteenth, eighth)
        return Features(self.to_quarter(eighth, quarter), eighth, sixteenth)


class MatchingProjections(nn.Module):
    """What is compared between the eyes: linear projections of the features.

    Free to be negative: behind a ReLU no cosine is, and what differs looks alike.

    Args:
        quarter, eighth: channels of the features; those at 1/8 keep their number.
        outputs: channels at 1/4.
    """

    def __init__(self, quarter: int, eighth: int, *, outputs: int) -> None:
        super().__init__()
        self.quarter = nn.Conv2d(quarter, outputs, 1)
        self.eighth = nn.Conv2d(eighth, eighth, 1)

    def forward(self, features: Features) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns: at 1/4 and at 1/8."""
        return self.quarter(features.quarter), self.eighth(features.eighth)
