"""Iterative refinement: geometry lookup, motion encoder, three levels of selective GRU, disparity head.

FoundationStereo (arXiv 2501.09898, section 3.4), after RAFT-Stereo (arXiv 2109.07547), IGEV (arXiv 2303.06615) and
Selective-Stereo (arXiv 2403.00486).

    B batch, C channels, D disparity planes, H height, W width (of the 1/4 map), T taps of the lookup
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from teacher.blocks.geometry_lookup import lookup_correlation, lookup_volume
from teacher.blocks.hybrid_cost_volume import FOUNDATION_STEREO_FLOOR, row_correlation
from teacher.blocks.precision import full_precision
from teacher.blocks.selective_gru import SelectiveConvGRU
from teacher.context_network import LevelContext
from teacher.dpt_head import resize_aligned

LEVELS = 2
RADIUS = 4
# The upsampling mask's features leave damped, which keeps their gradient small beside the disparity's.
MASK_SCALE = 0.25


class Geometry:
    """What the lookup reads: the filtered volume and the all-pairs row correlation, each at two resolutions.

    Args:
        volume_BCDHW: filtered volume, (B, C, D, H, W).
        left_BCHW, right_BCHW: features at 1/4.
    """

    def __init__(self, volume_BCDHW: torch.Tensor, left_BCHW: torch.Tensor, right_BCHW: torch.Tensor) -> None:
        volume = full_precision(volume_BCDHW)
        correlation = row_correlation(left_BCHW, right_BCHW, floor=FOUNDATION_STEREO_FLOOR)
        self.levels = [(volume, correlation)]
        for _ in range(LEVELS - 1):
            volume, correlation = halved(volume, axis=2), halved(correlation, axis=4)
            self.levels.append((volume, correlation))

    def half(self) -> Geometry:
        """The geometry of the first half of the batch."""
        first = object.__new__(Geometry)
        first.levels = [(volume.chunk(2)[0], correlation.chunk(2)[0]) for volume, correlation in self.levels]
        return first

    def lookup(self, disparity_B1HW: torch.Tensor) -> torch.Tensor:
        """Costs around the disparity, (B, LEVELS * (C + 1) * T, H, W), full precision.

        Args:
            disparity_B1HW: quarter-resolution pixels.
        """
        taps = []
        for level, (volume, correlation) in enumerate(self.levels):
            stride = 2**level
            taps.append(lookup_volume(volume, disparity_B1HW / stride, radius=RADIUS))
            taps.append(lookup_correlation(correlation, disparity_B1HW, radius=RADIUS, stride=stride))
        return torch.cat(taps, dim=1)


def halved(rows: torch.Tensor, *, axis: int) -> torch.Tensor:
    """Averages of neighbouring pairs along an axis; an odd last entry is dropped.

    Not by torch's pooling in three dimensions, which copies channels-last volumes and is slow on CPUs.
    """
    pairs = rows.shape[axis] // 2
    first, second = rows.narrow(axis, 0, 2 * pairs).unflatten(axis, (pairs, 2)).unbind(axis + 1)
    return (first + second) / 2


class MotionEncoder(nn.Module):
    """Encode the costs around the current disparity, and the disparity itself.

    Args:
        costs: channels of the lookup.
        outputs: channels of the result, the disparity among them.
        widths: inner channels for the costs and for the disparity.
    """

    def __init__(self, costs: int, outputs: int, *, widths: tuple[int, int] = (256, 64)) -> None:
        super().__init__()
        wide, narrow = widths
        self.convc1 = nn.Conv2d(costs, wide, 1)
        self.convc2 = nn.Conv2d(wide, wide, 3, padding=1)
        self.convd1 = nn.Conv2d(1, narrow, 7, padding=3)
        self.convd2 = nn.Conv2d(narrow, narrow, 3, padding=1)
        self.conv = nn.Conv2d(wide + narrow, outputs - 1, 3, padding=1)

    def forward(self, costs: torch.Tensor, disparity_B1HW: torch.Tensor) -> torch.Tensor:
        from_costs = F.relu(self.convc2(F.relu(self.convc1(costs))))
        from_disparity = F.relu(self.convd2(F.relu(self.convd1(disparity_B1HW))))
        motion = F.relu(self.conv(torch.cat([from_costs, from_disparity], dim=1)))
        return torch.cat([motion, disparity_B1HW.to(motion.dtype)], dim=1)


class HeadBlock(nn.Module):
    """ConvNeXt block without norm (arXiv 2201.03545): depthwise 7×7, MLP over channels, scaled, added.

    Input and output: (B, C, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))
        self.gamma = nn.Parameter(torch.full((channels,), 1e-6))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        mixed = self.mlp(self.dwconv(features).permute(0, 2, 3, 1)) * self.gamma
        return features + mixed.permute(0, 3, 1, 2)


class UpdateBlock(nn.Module):
    """One refinement step, shared by all iterations.

    Args:
        costs: channels of the lookup.
        hidden: channels of the states.
        encoder_widths: inner widths of the motion encoder.
        mask_width: channels of the upsampling mask's features; twice as many inside.
    """

    def __init__(
        self, costs: int, *, hidden: int = 128, encoder_widths: tuple[int, int] = (256, 64), mask_width: int = 32
    ) -> None:
        super().__init__()
        self.encoder = MotionEncoder(costs, hidden, widths=encoder_widths)
        # Inputs: context, then (finest) motion or (coarser) nothing, then states of the neighbouring levels.
        self.grus = nn.ModuleList(SelectiveConvGRU(hidden, parts * hidden) for parts in (3, 3, 2))
        self.disp_head = nn.Sequential(
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.ReLU(),
            HeadBlock(hidden),
            HeadBlock(hidden),
            nn.Conv2d(hidden, 1, 3, padding=1),
        )
        self.mask = nn.Sequential(
            nn.Conv2d(hidden, 2 * mask_width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * mask_width, mask_width, 3, padding=1),
            nn.ReLU(),
        )

    def prepare(self, contexts: Sequence[LevelContext]) -> list[torch.Tensor]:
        """The contexts' part of every GRU's first convolution: the same in every iteration, so computed once."""
        prepared = []
        for gru, context in zip(self.grus, contexts, strict=True):
            assert isinstance(gru, SelectiveConvGRU)
            prepared.append(gru.prepare(context.inputs))
        return prepared

    def forward(
        self,
        states: Sequence[torch.Tensor],
        attentions: Sequence[torch.Tensor],
        prepared: Sequence[torch.Tensor],
        costs: torch.Tensor,
        disparity_B1HW: torch.Tensor,
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """One step, coarse to fine.

        Args:
            states, attentions, prepared: one per level, finest first.
            costs: of the lookup.
            disparity_B1HW: quarter-resolution pixels.

        Returns: the new states and the correction of the disparity, (B, 1, H, W).
        """
        fine, middle, coarse = states
        coarse = self.grus[2](coarse, pooled(middle), attentions[2], prepared[2])
        around = torch.cat([pooled(fine), resize_aligned(coarse, middle.shape[2:])], dim=1)
        middle = self.grus[1](middle, around, attentions[1], prepared[1])
        motion = self.encoder(costs, disparity_B1HW)
        around = torch.cat([motion, resize_aligned(middle, fine.shape[2:])], dim=1)
        fine = self.grus[0](fine, around, attentions[0], prepared[0])
        return [fine, middle, coarse], self.disp_head(fine)

    def mask_features(self, state: torch.Tensor) -> torch.Tensor:
        """Features of the upsampling mask from the finest state, (B, mask_width, H, W)."""
        return MASK_SCALE * self.mask(state)


def pooled(state: torch.Tensor) -> torch.Tensor:
    """A state for the next coarser level: 3×3 average with stride 2, the padding counted."""
    return F.avg_pool2d(state, 3, stride=2, padding=1)


class Upsampling(nn.Module):
    """Nine weights per full-resolution pixel from mask features and the left image.

    Args:
        width: channels of the mask features and of the image's.
    """

    def __init__(self, *, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False),
            nn.InstanceNorm2d(width),
            nn.LeakyReLU(0.01),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.InstanceNorm2d(width),
            nn.ReLU(),
        )
        self.up = nn.ConvTranspose2d(width, width, 4, stride=2, padding=1, bias=False)
        self.merge = nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False)
        self.logits = nn.ConvTranspose2d(2 * width, 9, 4, stride=2, padding=1)

    def forward(self, mask_features: torch.Tensor, image_half: torch.Tensor) -> torch.Tensor:
        """Logits, (B, 9, 4H, 4W).

        Args:
            mask_features: (B, width, H, W).
            image_half: `stem` of the normalised left image, (B, width, 2H, 2W).
        """
        grown = F.leaky_relu(self.up(mask_features), 0.01)
        merged = F.leaky_relu(self.merge(torch.cat([grown, image_half], dim=1)), 0.01)
        return self.logits(merged)
