"""Context network: what the left image alone tells the refinement, at 1/4, 1/8 and 1/16.

RAFT-Stereo's multi-scale encoder (arXiv 2109.07547) with the monocular features joined in at 1/4 (FoundationStereo,
arXiv 2501.09898, section 3.4) and the attention of Selective-Stereo (arXiv 2403.00486).

    B batch, C channels, H height, W width
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from teacher.blocks.convolution import ConvNormAct, EncoderBlock, leaky_relu
from teacher.blocks.selective_gru import ChannelAttention, SpatialAttention


class LevelContext(NamedTuple):
    """What one level of the refinement starts from."""

    state: torch.Tensor  # (B, hidden, H, W), in (-1, 1)
    inputs: torch.Tensor  # (B, hidden, H, W), not negative
    attention: torch.Tensor  # (B, 1, H, W), in (0, 1): weight of the GRU with the small kernel


def stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Two residual blocks, the first with the stride."""
    return nn.Sequential(EncoderBlock(inputs, outputs, stride=stride), EncoderBlock(outputs, outputs))


class Head(nn.Module):
    """From features to the raw state and the raw inputs of one level."""

    def __init__(self, features: int, hidden: int, *, block: bool) -> None:
        super().__init__()

        def branch() -> nn.Sequential:
            conv = nn.Conv2d(features, hidden, 3, padding=1)
            return nn.Sequential(EncoderBlock(features, features), conv) if block else nn.Sequential(conv)

        self.state = branch()
        self.inputs = branch()


class ContextNetwork(nn.Module):
    """Contexts of three levels, finest first.

    Args:
        mono: channels of the monocular features, 0 for none.
        hidden: channels of state and inputs.
        widths: of the encoder at 1/1, 1/2 and 1/4; the last one at all coarser levels too.

    Input: left images (B, 3, H, W), normalised, and monocular features (B, mono, H/4, W/4).
    """

    def __init__(self, mono: int, *, hidden: int = 128, widths: Sequence[int] = (64, 96, 128)) -> None:
        super().__init__()
        full, half, quarter = widths
        self.stem = nn.Sequential(
            ConvNormAct(2, 3, full, kernel=7, bias=True),
            stage(full, full, 1),
            stage(full, half, 2),
            stage(half, quarter, 2),
        )
        self.join = ConvNormAct(2, quarter + mono, quarter, activation=leaky_relu)
        self.down = nn.ModuleList([stage(quarter, quarter, 2), stage(quarter, quarter, 2)])
        self.heads = nn.ModuleList(Head(quarter, hidden, block=level < 2) for level in range(3))
        self.cam = ChannelAttention(hidden)
        self.sam = SpatialAttention()

    def features(self, images_BCHW: torch.Tensor, mono: torch.Tensor | None) -> list[torch.Tensor]:
        """Encoder features at 1/4, 1/8, 1/16."""
        quarter = self.stem(images_BCHW)
        if mono is not None:
            quarter = torch.cat([quarter, mono], dim=1)
        levels = [self.join(quarter)]
        for down in self.down:
            levels.append(down(levels[-1]))
        return levels

    def forward(self, images_BCHW: torch.Tensor, mono: torch.Tensor | None) -> list[LevelContext]:
        contexts = []
        for head, features in zip(self.heads, self.features(images_BCHW, mono), strict=True):
            assert isinstance(head, Head)
            inputs = F.relu(head.inputs(features))
            inputs = inputs * self.cam(inputs)
            contexts.append(LevelContext(torch.tanh(head.state(features)), inputs, self.sam(inputs)))
        return contexts
