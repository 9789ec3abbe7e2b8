"""DPT head of Depth Anything V2: tokens of four ViT blocks → one fine feature map (arXiv 2103.13413, 2406.09414).

The layers after `output_conv1`, which make a depth map of it, are left out: FoundationStereo uses the features.

    B batch, C channels, R rows and K columns of patches
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from teacher.vision_transformer import PATCH, VitSize


def resize_aligned(features: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Bilinear, corners on corners."""
    return F.interpolate(features, size=tuple(size), mode="bilinear", align_corners=True)


class ResidualUnit(nn.Module):
    """x + conv(ReLU(conv(ReLU(x)))). Input and output: (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.conv2(F.relu(self.conv1(F.relu(features))))


class FusionBlock(nn.Module):
    """Take in one level, refine, and resize to the next finer one.

    Args:
        merges: whether a coarser path comes in; the coarsest level starts without.
    """

    def __init__(self, channels: int, *, merges: bool) -> None:
        super().__init__()
        self.skip_unit = ResidualUnit(channels) if merges else None
        self.unit = ResidualUnit(channels)
        self.out_conv = nn.Conv2d(channels, channels, 1)

    def forward(self, level: torch.Tensor, path: torch.Tensor | None, size: Sequence[int]) -> torch.Tensor:
        if self.skip_unit is not None and path is not None:
            level = path + self.skip_unit(level)
        # The 1×1 convolution commutes with the resize and costs a quarter before it.
        return resize_aligned(self.out_conv(self.unit(level)), size)


class DptHead(nn.Module):
    """Fuse four taps into features at the ViT's input size.

    Input: four (B, C, R, K). Output of `forward`: (B, F/2, 14 R, 14 K); of `pyramid`: four fused levels, finest first,
    F channels at 8, 4, 2 and 1 times (R, K).
    """

    def __init__(self, size: VitSize) -> None:
        super().__init__()
        widths, features = size.head_widths, size.head_features
        self.projects = nn.ModuleList(nn.Conv2d(size.width, width, 1) for width in widths)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(widths[0], widths[0], 4, stride=4),
                nn.ConvTranspose2d(widths[1], widths[1], 2, stride=2),
                nn.Identity(),
                nn.Conv2d(widths[3], widths[3], 3, stride=2, padding=1),
            ]
        )
        self.level_convs = nn.ModuleList(nn.Conv2d(width, features, 3, padding=1, bias=False) for width in widths)
        self.fusion = nn.ModuleList(FusionBlock(features, merges=level < 3) for level in range(4))
        self.output_conv1 = nn.Conv2d(features, features // 2, 3, padding=1)

    def pyramid(self, taps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The fused path after every level, finest first."""
        levels = [
            conv(resize(project(tap)))
            for tap, project, resize, conv in zip(
                taps, self.projects, self.resize_layers, self.level_convs, strict=True
            )
        ]
        path, paths = None, []
        for number in (3, 2, 1, 0):
            height, width = levels[number].shape[2:]
            size = levels[number - 1].shape[2:] if number else (2 * height, 2 * width)
            path = self.fusion[number](levels[number], path, size)
            paths.insert(0, path)
        return paths

    def finish(self, path: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """The finest path at the ViT's input size, (B, F/2, 14 R, 14 K)."""
        return resize_aligned(self.output_conv1(path), (PATCH * rows, PATCH * columns))

    def forward(self, taps: Sequence[torch.Tensor]) -> torch.Tensor:
        return self.finish(self.pyramid(taps)[0], *taps[0].shape[2:])
