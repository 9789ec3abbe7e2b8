"""Image features gate the cost volume: one weight per pixel and channel, the same for all planes.

CoEx (arXiv 2108.05773, guided cost volume excitation), used throughout FoundationStereo's filtering.

    B batch, C channels, D disparity planes, H height, W width
"""

from __future__ import annotations

import torch
from torch import nn

from teacher.blocks.convolution import Activation, ConvNormAct, relu


class FeatureAttention(nn.Module):
    """Multiply a volume by the sigmoid of what a small 2-D network says of the left features.

    Args:
        features: channels of the image features.
        volume: channels of the volume.

    Input: volume (B, volume, D, H, W) and left features (B, features, H, W). Output: like the volume.
    """

    def __init__(self, features: int, volume: int, *, activation: Activation = relu) -> None:
        super().__init__()
        self.reduce = ConvNormAct(2, features, features // 2, kernel=1, activation=activation)
        self.weigh = nn.Conv2d(features // 2, volume, 1)

    def forward(self, volume_BCDHW: torch.Tensor, features_BCHW: torch.Tensor) -> torch.Tensor:
        gate = torch.sigmoid(self.weigh(self.reduce(features_BCHW)))
        return volume_BCDHW * gate[:, :, None]
