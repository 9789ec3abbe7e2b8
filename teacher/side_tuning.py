"""Feature network: a frozen monocular foundation model side by side with a trainable CNN (STA).

FoundationStereo (arXiv 2501.09898, section 3.1): Depth Anything V2 knows what things look like at a distance, from far
more images than stereo has; EdgeNeXt learns to match; their maps meet at 1/4.

    B batch, C channels, H height, W width of the images
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from teacher.blocks.convolution import ConvNormAct, EncoderBlock, ResidualBlock, UpConvNormAct, leaky_relu
from teacher.dpt_head import DptHead, resize_aligned
from teacher.edgenext import DEPTHS, WIDTHS, EdgeNeXt
from teacher.vision_transformer import VIT_SIZES, VisionTransformer

# Smallest common multiple of the ViT's patch (14) and of the finest stride that its size shall be divisible by (16).
VIT_MULTIPLE = 112
VIT_LONGEST = 1344

# How the monocular network takes part: side_tuned, beside the CNN, as published; features_only, its pyramid instead of
# the CNN; none, the CNN alone.
MonoUse = Literal["side_tuned", "features_only", "none"]


class Features(NamedTuple):
    """Features of a batch of images."""

    quarter: torch.Tensor  # (B, C4, H/4, W/4)
    eighth: torch.Tensor  # (B, C8, H/8, W/8)
    sixteenth: torch.Tensor  # (B, C16, H/16, W/16)
    thirtysecond: torch.Tensor  # (B, C32, H/32, W/32)
    mono: torch.Tensor | None  # (B, M, H/4, W/4): what the monocular network says

    @staticmethod
    def of(levels: Sequence[torch.Tensor], mono: torch.Tensor | None) -> Features:
        """Four levels, finest first, and the monocular features."""
        quarter, eighth, sixteenth, thirtysecond = levels
        return Features(quarter, eighth, sixteenth, thirtysecond, mono)

    @property
    def levels(self) -> tuple[torch.Tensor, ...]:
        """The four levels, finest first."""
        return self.quarter, self.eighth, self.sixteenth, self.thirtysecond

    def halves(self) -> tuple[Features, Features]:
        """The features of the first and of the second half of the batch."""
        pairs = [level.chunk(2) for level in self.levels]
        first, second = (None, None) if self.mono is None else self.mono.chunk(2)
        return Features.of([pair[0] for pair in pairs], first), Features.of([pair[1] for pair in pairs], second)

    def mirrored(self) -> Features:
        """Flipped left to right."""
        mono = None if self.mono is None else self.mono.flip(3)
        return Features.of([level.flip(3) for level in self.levels], mono)

    @staticmethod
    def joined(first: Features, second: Features) -> Features:
        """Two batches as one."""
        levels = [torch.cat(pair) for pair in zip(first.levels, second.levels, strict=True)]
        mono = None if first.mono is None or second.mono is None else torch.cat([first.mono, second.mono])
        return Features.of(levels, mono)


def vit_size(height: int, width: int) -> tuple[int, int]:
    """Size that the ViT sees an image of height × width at: multiples of 112 px, the longer side at most 1344."""

    def up(value: float) -> int:
        return math.ceil(value / VIT_MULTIPLE) * VIT_MULTIPLE

    tall, wide = up(height), up(width)
    if max(tall, wide) <= VIT_LONGEST:
        return tall, wide
    # Multiplied before divided: a quotient that is a whole multiple comes out exact.
    if tall >= wide:
        return VIT_LONGEST, up(wide * VIT_LONGEST / tall)
    return up(tall * VIT_LONGEST / wide), VIT_LONGEST


class MonoBranch(nn.Module):
    """Depth Anything V2 up to its last feature map.

    Input: (B, 3, H, W), normalised. Output: (B, M, 14 R, 14 K), at the ViT's input size.
    """

    def __init__(self, size: str) -> None:
        super().__init__()
        self.size = VIT_SIZES[size]
        self.channels = self.size.head_features // 2
        self.vit = VisionTransformer(self.size)
        self.head = DptHead(self.size)

    def resized(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """The images at the size the ViT takes."""
        size = vit_size(*images_BCHW.shape[2:])
        return F.interpolate(images_BCHW, size=size, mode="bicubic", align_corners=False)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return self.head(self.vit(self.resized(images_BCHW)))

    def pyramid(self, images_BCHW: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """The head's fused levels, finest first, and the output of `forward`."""
        taps = self.vit(self.resized(images_BCHW))
        paths = self.head.pyramid(taps)
        return paths, self.head.finish(paths[0], *taps[0].shape[2:])


class DecoderStage(nn.Module):
    """Bring a coarse map up and merge it with a finer one.

    Input: (B, inputs, H, W) and (B, skip, 2H, 2W). Output: (B, 2 * skip, 2H, 2W).
    """

    def __init__(self, inputs: int, skip: int) -> None:
        super().__init__()
        self.up = UpConvNormAct(2, inputs, skip, norm="instance")
        self.merge = ResidualBlock(2, 2 * skip, norm="instance")

    def forward(self, coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        return self.merge(torch.cat([self.up(coarse), fine], dim=1))


class FeatureNetwork(nn.Module):
    """Features at four scales, the finest of them informed by the monocular network.

    Args:
        vit: size of the ViT, a key of `VIT_SIZES`.
        mono: how it takes part.
        mono_trainable: train it too; otherwise it is frozen and stays in evaluation mode, as published.
        widths, depths: of the CNN.

    Input: (B, 3, H, W), normalised, H and W multiples of 32. Output: `Features`.
    """

    def __init__(
        self,
        vit: str,
        *,
        mono: MonoUse = "side_tuned",
        mono_trainable: bool = False,
        widths: tuple[int, int, int, int] = WIDTHS,
        depths: tuple[int, int, int, int] = DEPTHS,
    ) -> None:
        super().__init__()
        self.mono_trainable = mono_trainable
        self.mono = None if mono == "none" else MonoBranch(vit)
        mono_channels = 0 if self.mono is None else self.mono.channels
        decoded = (2 * widths[0], 2 * widths[1], 2 * widths[2], widths[3])
        self.channels = (decoded[0] + mono_channels, *decoded[1:])
        if mono == "features_only":
            features = VIT_SIZES[vit].head_features
            self.cnn = None
            self.decoder = nn.ModuleList()
            self.pyramid = nn.ModuleList(nn.Conv2d(features, width, 1) for width in decoded)
        else:
            self.cnn = EdgeNeXt(widths, depths)
            inputs = (2 * widths[1], 2 * widths[2], widths[3])
            self.decoder = nn.ModuleList(
                DecoderStage(wide, skip) for wide, skip in zip(inputs, widths[:3], strict=True)
            )
            self.pyramid = nn.ModuleList()
        width = self.channels[0]
        self.fuse = nn.Sequential(
            ConvNormAct(2, width, width, norm="instance", activation=leaky_relu),
            EncoderBlock(width, width, norm="instance"),
            EncoderBlock(width, width, norm="instance"),
        )
        if self.mono is not None:
            self.mono.requires_grad_(mono_trainable)

    def train(self, mode: bool = True) -> FeatureNetwork:
        """A frozen monocular network stays in evaluation mode."""
        super().train(mode)
        if self.mono is not None and not self.mono_trainable:
            self.mono.eval()
        return self

    def forward(self, images_BCHW: torch.Tensor) -> Features:
        quarter_size = (images_BCHW.shape[2] // 4, images_BCHW.shape[3] // 4)
        if self.cnn is None:
            levels, mono = self._from_pyramid(images_BCHW, quarter_size)
        else:
            levels, mono = self._from_cnn(images_BCHW), self._mono_feature(images_BCHW, quarter_size)
        quarter = levels[0] if mono is None else torch.cat([levels[0], mono], dim=1)
        return Features.of([self.fuse(quarter), *levels[1:]], mono)

    def _mono_feature(self, images_BCHW: torch.Tensor, size: tuple[int, int]) -> torch.Tensor | None:
        if self.mono is None:
            return None
        with torch.set_grad_enabled(self.mono_trainable and torch.is_grad_enabled()):
            return resize_aligned(self.mono(images_BCHW), size)

    def _from_cnn(self, images_BCHW: torch.Tensor) -> list[torch.Tensor]:
        assert self.cnn is not None
        levels = self.cnn(images_BCHW)
        for level in (2, 1, 0):
            levels[level] = self.decoder[level](levels[level + 1], levels[level])
        return levels

    def _from_pyramid(
        self, images_BCHW: torch.Tensor, quarter_size: tuple[int, int]
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        assert self.mono is not None
        with torch.set_grad_enabled(self.mono_trainable and torch.is_grad_enabled()):
            paths, mono = self.mono.pyramid(images_BCHW)
            mono = resize_aligned(mono, quarter_size)
        height, width = quarter_size
        levels = [
            conv(resize_aligned(path, (height >> level, width >> level)))
            for level, (conv, path) in enumerate(zip(self.pyramid, paths, strict=True))
        ]
        return levels, mono
