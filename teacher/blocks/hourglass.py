"""Hourglass of axial-planar convolutions: the filtering of the cost volume (AHCF).

FoundationStereo (arXiv 2501.09898, section 3.3): an encoder-decoder over the volume in which axial-planar convolutions
work at every level and image features gate the coarser ones, with a disparity transformer on the side whose output is
added at the end.

    B batch, C channels, D disparity planes, H height, W width
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from teacher.blocks.axial_planar_convolution import AxialPlanarConv
from teacher.blocks.convolution import ConvNormAct
from teacher.blocks.disparity_transformer import DisparityTransformer, upsample_volume
from teacher.blocks.feature_attention import FeatureAttention


class Hourglass(nn.Module):
    """Filter a cost volume over several scales.

    Enlargement is by interpolation and a 1×1×1 convolution: transposed 3-D convolutions have no integer kernels in
    TensorRT and quantise badly.

    Args:
        widths: channels of the volume at each level, finest first; each level halves D, H and W.
        features: channels of the left image features at each level below the finest; 0 where a level has no gate.
        disparity_kernel: K of the axial-planar convolutions.
        transformer_layers, transformer_heads: disparity transformer on the finest volume; 0 layers leaves it out.
        transformer_patch: edge of its patches.

    Input: volume (B, widths[0], D, H, W), features: one (B, C, H, W) per level below the finest, None where
    there is no gate.
    Output: like the volume.
    """

    def __init__(
        self,
        widths: Sequence[int],
        features: Sequence[int],
        *,
        disparity_kernel: int = 9,
        transformer_layers: int = 2,
        transformer_heads: int = 2,
        transformer_patch: int = 2,
    ) -> None:
        super().__init__()
        kernel = disparity_kernel
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(ConvNormAct(3, fine, coarse, stride=2) for fine, coarse in pairs)
        self.filter_down = nn.ModuleList(
            AxialPlanarConv(coarse, coarse, disparity_kernel=kernel) for coarse in widths[1:]
        )
        self.gate_down = nn.ModuleList(
            FeatureAttention(image, coarse) if image else nn.Identity()
            for image, coarse in zip(features, widths[1:], strict=True)
        )
        self.reduce = nn.ModuleList(ConvNormAct(3, coarse, fine, kernel=1) for fine, coarse in pairs)
        self.merge = nn.ModuleList(ConvNormAct(3, 2 * fine, fine, kernel=1) for fine, _ in pairs)
        self.filter_up = nn.ModuleList(AxialPlanarConv(fine, fine, disparity_kernel=kernel) for fine in widths[:-1])
        self.transformer = (
            DisparityTransformer(widths[0], patch=transformer_patch, layers=transformer_layers, heads=transformer_heads)
            if transformer_layers
            else None
        )

    def forward(self, volume_BCDHW: torch.Tensor, features: Sequence[torch.Tensor | None]) -> torch.Tensor:
        levels = [volume_BCDHW]
        for down, apply_filter, gate, image in zip(self.down, self.filter_down, self.gate_down, features, strict=True):
            coarse = apply_filter(down(levels[-1]))
            levels.append(gate(coarse, image) if image is not None else coarse)
        filtered = levels.pop()
        for level in reversed(range(len(levels))):
            # Channels are reduced before the enlargement, where the volume is eight times smaller.
            enlarged = upsample_volume(self.reduce[level](filtered), 2)
            merged = self.merge[level](torch.cat([enlarged, levels[level]], dim=1))
            if level == 0 and self.transformer is not None:
                merged = merged + self.transformer(volume_BCDHW)
            filtered = self.filter_up[level](merged)
        return filtered
