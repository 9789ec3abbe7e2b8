"""Attentive hybrid cost filtering (AHCF): from features to a filtered volume and the initial disparity.

FoundationStereo (arXiv 2501.09898, sections 3.2 and 3.3): hybrid cost volume, an hourglass of axial-planar convolutions
gated by image features, and the disparity transformer beside it.

    B batch, C channels, D disparity planes, H height, W width (of the 1/4 map)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from teacher.blocks.axial_planar_convolution import AxialPlanarConv
from teacher.blocks.convolution import ConvNormAct, ResidualBlock, UpConvNormAct, leaky_relu, relu
from teacher.blocks.disparity_transformer import AttentionAxis, DisparityTransformer, upsample_volume
from teacher.blocks.feature_attention import FeatureAttention
from teacher.blocks.hybrid_cost_volume import FOUNDATION_STEREO_FLOOR, HybridCostVolume
from teacher.blocks.precision import full_precision
from teacher.blocks.soft_argmin import soft_argmin
from teacher.side_tuning import Features

# "apc", axial-planar convolutions; "3x3x3", plain ones in their place (the paper's ablation).
FilterKind = Literal["apc", "3x3x3"]
DROPOUT = 0.1


def gate(features: int, volume: int) -> FeatureAttention:
    """Feature attention as FoundationStereo has it."""
    return FeatureAttention(features, volume, activation=leaky_relu)


class VolumeFilter(nn.Module):
    """One filtering step: an axial-planar convolution, or a plain 3×3×3 one. Input and output: (B, C, D, H, W)."""

    def __init__(self, channels: int, *, kind: FilterKind, disparity_kernel: int) -> None:
        super().__init__()
        self.conv = (
            # On one CPU thread torch has no fast 3-D kernel for (K, 1, 1): it copies the volume K times.
            AxialPlanarConv(channels, channels, disparity_kernel=disparity_kernel, bias=True, form="conv2d")
            if kind == "apc"
            else ConvNormAct(3, channels, channels, bias=True, activation=relu)
        )

    def forward(self, volume_BCDHW: torch.Tensor) -> torch.Tensor:
        return self.conv(volume_BCDHW)


class UpStage(nn.Module):
    """Enlarge a filtered volume, merge it with the finer one, filter twice, gate.

    Input: (B, coarse, D/2, H/2, W/2), (B, fine, D, H, W) and features (B, F, H, W). Output: (B, fine, D, H, W).
    """

    def __init__(self, coarse: int, fine: int, features: int, *, kind: FilterKind, disparity_kernel: int) -> None:
        super().__init__()
        self.up = UpConvNormAct(3, coarse, fine)
        self.merge = nn.Sequential(
            ConvNormAct(3, 2 * fine, fine, kernel=1, activation=leaky_relu),
            VolumeFilter(fine, kind=kind, disparity_kernel=disparity_kernel),
            VolumeFilter(fine, kind=kind, disparity_kernel=disparity_kernel),
        )
        self.gate = gate(features, fine)

    def forward(self, coarse: torch.Tensor, fine: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return self.gate(self.merge(torch.cat([self.up(coarse), fine], dim=1)), features)


class CostHourglass(nn.Module):
    """FoundationStereo's hourglass: c → 2c → 4c → 6c and back, the disparity transformer added at the end.

    Args:
        width: c, channels of the volume.
        features: channels of the left features at 1/8, 1/16, 1/32.
        kind, disparity_kernel: of the filtering convolutions.
        transformer_layers: depth of the disparity transformer; 0 leaves it out.
        attention_axis: what it attends over.

    Input: volume (B, c, D, H, W), left features. Output: like the volume.
    """

    def __init__(
        self,
        width: int,
        features: Sequence[int],
        *,
        kind: FilterKind = "apc",
        disparity_kernel: int = 17,
        transformer_layers: int = 4,
        attention_axis: AttentionAxis = "disparity",
    ) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width, 6 * width)
        self.down = nn.ModuleList(
            nn.Sequential(
                ConvNormAct(3, fine, coarse, stride=2, activation=leaky_relu),
                VolumeFilter(coarse, kind=kind, disparity_kernel=disparity_kernel),
            )
            for fine, coarse in pairwise(widths)
        )
        self.gate_down = nn.ModuleList(gate(image, coarse) for image, coarse in zip(features, widths[1:], strict=True))
        self.up_stages = nn.ModuleList(
            UpStage(coarse, fine, image, kind=kind, disparity_kernel=disparity_kernel)
            for coarse, fine, image in ((widths[2], widths[1], features[0]), (widths[3], widths[2], features[1]))
        )
        self.up = UpConvNormAct(3, widths[1], width)
        self.transformer = (
            DisparityTransformer(width, layers=transformer_layers, axis=attention_axis, dropout=DROPOUT)
            if transformer_layers
            else None
        )
        self.finish = nn.Sequential(
            VolumeFilter(width, kind=kind, disparity_kernel=disparity_kernel),
            VolumeFilter(width, kind=kind, disparity_kernel=disparity_kernel),
        )

    def forward(self, volume_BCDHW: torch.Tensor, features: Features) -> torch.Tensor:
        # The transformer's answer is kept small until it is needed: a fine volume is the largest tensor there is.
        attended = None if self.transformer is None else self.transformer.attend(volume_BCDHW)
        images = (features.eighth, features.sixteenth, features.thirtysecond)
        levels = []
        for down, weigh, image in zip(self.down, self.gate_down, images, strict=True):
            volume_BCDHW = weigh(down(volume_BCDHW), image)
            levels.append(volume_BCDHW)
        eighth, sixteenth, filtered = levels
        filtered = self.up_stages[1](filtered, sixteenth, features.sixteenth)
        filtered = self.up_stages[0](filtered, eighth, features.eighth)
        filtered = self.up(filtered)
        if attended is not None and self.transformer is not None:
            filtered = filtered + upsample_volume(attended, self.transformer.patch)
        return self.finish(filtered)


class ScoreConv(nn.Conv3d):
    """Cubic convolution to one channel, its taps along disparity computed as channels of 2-D convolutions.

    One output channel leaves vector units nearly idle; one per tap fills them, and their sum over shifted planes is
    the same but for rounding.

    Args:
        channels: C.
        kernel: K, odd.

    Input: (B, C, D, H, W). Output: (B, 1, D, H, W).
    """

    def __init__(self, channels: int, *, kernel: int) -> None:
        super().__init__(channels, 1, kernel, padding=kernel // 2)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        batch, channels, planes, height, width = input.shape
        taps = self.kernel_size[0]
        images = input.transpose(1, 2).reshape(batch * planes, channels, height, width)
        kernels = self.weight[0].transpose(0, 1)  # (K, C, K, K), the taps along disparity first
        parts = F.conv2d(images, kernels, padding=taps // 2).reshape(batch, planes, taps, height, width)
        # Tap k of plane d looks at plane d + k - K // 2.
        parts = F.pad(parts, (0, 0, 0, 0, 0, 0, taps // 2, taps // 2))
        # A half type would round after every tap, where one 3-D convolution rounds once.
        scores = full_precision(parts[:, :planes, 0])
        for tap in range(1, taps):
            scores = scores + parts[:, tap : tap + planes, tap]
        if self.bias is not None:
            scores = scores + self.bias
        return scores[:, None]


class CostFiltering(nn.Module):
    """Volume, filtering and classifier.

    Args:
        features: channels of the features at 1/4, 1/8, 1/16, 1/32.
        width, groups, concat_channels: of the volume.
        others: see `CostHourglass`.
    """

    def __init__(
        self,
        features: Sequence[int],
        *,
        width: int = 28,
        groups: int = 8,
        concat_channels: int = 12,
        kind: FilterKind = "apc",
        disparity_kernel: int = 17,
        transformer_layers: int = 4,
        attention_axis: AttentionAxis = "disparity",
    ) -> None:
        super().__init__()
        self.cost_volume = HybridCostVolume(
            features[0], groups=groups, concat_channels=concat_channels, floor=FOUNDATION_STEREO_FLOOR
        )
        self.stem = nn.Sequential(
            nn.Conv3d(self.cost_volume.outputs, width, 1),
            ConvNormAct(3, width, width, activation=leaky_relu),
            ResidualBlock(3, width),
            ResidualBlock(3, width),
        )
        self.stem_gate = gate(features[0], width)
        self.hourglass = CostHourglass(
            width,
            features[1:],
            kind=kind,
            disparity_kernel=disparity_kernel,
            transformer_layers=transformer_layers,
            attention_axis=attention_axis,
        )
        self.classifier = nn.Sequential(
            ConvNormAct(3, width, width // 2, activation=leaky_relu),
            ResidualBlock(3, width // 2),
            ScoreConv(width // 2, kernel=7),
        )

    def forward(self, left: Features, right: Features, *, planes: int) -> torch.Tensor:
        """The filtered volume, (B, width, D, H, W), D = planes at 1/4 resolution."""
        volume = self.stem(self.cost_volume(left.quarter, right.quarter, planes=planes))
        volume = self.stem_gate(volume, left.quarter)
        return self.hourglass(volume, left)

    def initial_disparity(self, volume_BCDHW: torch.Tensor) -> torch.Tensor:
        """Soft-argmin of the filtered volume, (B, 1, H, W), quarter-resolution pixels."""
        return soft_argmin(self.classifier(volume_BCDHW).squeeze(1))
