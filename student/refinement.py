"""The student's iterative refinement at 1/4 resolution: context, motion encoder, selective GRU, heads.

One GRU level where FoundationStereo has three: the coarse levels cost little but buy little at two iterations. The
lookup reads the filtered volume at 1/8, where it costs a ninth of one at 1/4, and a single-group correlation at 1/4
for detail.

    B batch, C channels, H height, W width (of the 1/4 map)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from teacher.blocks.geometry_lookup import lookup_correlation, lookup_volume
from teacher.blocks.selective_gru import ChannelAttention, SelectiveConvGRU, SpatialAttention

# Disparities enter a convolution divided by this, so that its input has the range of the other features.
DISPARITY_SCALE = 32.0
# Brings the cosines, which are at most 1, to the size of the features that join them.
CORRELATION_SCALE = 8.0
# Channels that each of the motion encoder's inputs is encoded in.
ENCODED = 16


class Context(NamedTuple):
    """What the left image tells the GRU."""

    state: torch.Tensor  # (B, hidden, H, W), in (-1, 1)
    inputs: torch.Tensor  # (B, context, H, W), not negative
    attention: torch.Tensor  # (B, 1, H, W), in (0, 1): weight of the small kernel


class ContextNetwork(nn.Module):
    """Initial state, constant inputs and attention map from the left features at 1/4."""

    def __init__(self, features: int, *, hidden: int, context: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.conv = nn.Conv2d(features, hidden + context, 3, padding=1)
        self.cam = ChannelAttention(context, reduction=4)
        self.sam = SpatialAttention()

    def forward(self, features: torch.Tensor) -> Context:
        state, inputs = self.conv(features).split([self.hidden, self.conv.out_channels - self.hidden], dim=1)
        inputs = F.relu(inputs)
        inputs = inputs * self.cam(inputs)
        return Context(torch.tanh(state), inputs, self.sam(inputs))


class Geometry(NamedTuple):
    """What the lookup reads."""

    volume: torch.Tensor  # (B, C, D, H/2, W/2): filtered volume at 1/8
    correlation: torch.Tensor  # (B, 1, H, W, W): all-pairs row correlation at 1/4


class MotionEncoder(nn.Module):
    """Encode the cost around the current disparity, and the disparity itself.

    Args:
        volume_channels: C of the volume that is looked up.
        radius: taps on each side.
        outputs: channels of the result.
    """

    def __init__(self, volume_channels: int, *, radius: int, outputs: int) -> None:
        super().__init__()
        self.radius = radius
        taps = 2 * radius + 1
        self.volume_conv = nn.Conv2d(volume_channels * taps, ENCODED, 1)
        self.correlation_conv = nn.Conv2d(taps, ENCODED, 1)
        self.disparity_conv = nn.Conv2d(1, ENCODED, 3, padding=1)
        self.merge = nn.Conv2d(3 * ENCODED, outputs, 3, padding=1)

    def forward(self, geometry: Geometry, disparity_B1HW: torch.Tensor) -> torch.Tensor:
        coarse = F.avg_pool2d(disparity_B1HW, 2) / 2
        from_volume = F.relu(self.volume_conv(lookup_volume(geometry.volume, coarse, radius=self.radius)))
        from_volume = F.interpolate(from_volume, scale_factor=2.0, mode="bilinear", align_corners=False)
        taps = CORRELATION_SCALE * lookup_correlation(geometry.correlation, disparity_B1HW, radius=self.radius)
        from_correlation = F.relu(self.correlation_conv(taps))
        from_disparity = F.relu(self.disparity_conv(disparity_B1HW / DISPARITY_SCALE))
        return F.relu(self.merge(torch.cat([from_volume, from_correlation, from_disparity], dim=1)))


class Refinement(nn.Module):
    """One refinement step, shared by all iterations.

    Args:
        volume_channels: C of the volume that is looked up.
        hidden, context, motion: channels of the state, the context and the motion features.
        radius: taps of the lookup on each side.
    """

    def __init__(self, volume_channels: int, *, hidden: int, context: int, motion: int, radius: int) -> None:
        super().__init__()
        self.motion_encoder = MotionEncoder(volume_channels, radius=radius, outputs=motion)
        self.gru = SelectiveConvGRU(hidden, context + motion, width=motion)
        self.disparity_head = nn.Sequential(
            nn.Conv2d(hidden, hidden, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(hidden, 1, 3, padding=1)
        )

    def forward(
        self, state: torch.Tensor, context: Context, geometry: Geometry, disparity_B1HW: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns: the new state and the correction of the disparity, in quarter-resolution pixels, float32."""
        motion = self.motion_encoder(geometry, disparity_B1HW)
        state = self.gru(state, torch.cat([context.inputs, motion], dim=1), context.attention)
        return state, self.disparity_head(state).float()
