"""Disparity transformer (DT): self-attention along the disparity axis of the cost volume.

FoundationStereo (arXiv 2501.09898, section 3.3): the planes of one position are the tokens of one sequence, so that all
disparity hypotheses of a pixel are weighed against each other at once.

    B batch, C channels, D disparity planes, H height, W width, N sequences, L tokens
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

# What the tokens attend over. "disparity" is the paper's. "heads": every token attends over its own heads and the
# planes stay apart, which is what the published code does since June 2025, when its attention call changed.
AttentionAxis = Literal["disparity", "heads"]


def sinusoidal_positions(length: int, channels: int) -> torch.Tensor:
    """Sine and cosine position codes, even channels sine, odd cosine (arXiv 1706.03762, section 3.5).

    Returns: (length, channels), float32. Not learnt, so that the number of planes may change after training.
    """
    steps = torch.arange(length, dtype=torch.float32)[:, None]
    rates = torch.exp(torch.arange(0, channels, 2, dtype=torch.float32) * (-math.log(10000.0) / channels))
    return torch.stack([torch.sin(steps * rates), torch.cos(steps * rates)], dim=2).reshape(length, -1)[:, :channels]


class TransformerLayer(nn.Module):
    """Post-norm transformer layer. Input and output: (N, L, C)."""

    def __init__(
        self, channels: int, *, heads: int, feed_forward: int, axis: AttentionAxis = "disparity", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.heads = heads
        self.axis: AttentionAxis = axis
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, feed_forward)
        self.contract = nn.Linear(feed_forward, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens_NLC: torch.Tensor) -> torch.Tensor:
        sequences, length, channels = tokens_NLC.shape

        def split(projected: torch.Tensor) -> torch.Tensor:
            apart = projected.reshape(sequences, length, self.heads, channels // self.heads)
            return apart.transpose(1, 2) if self.axis == "disparity" else apart

        query, key, value = (split(layer(tokens_NLC)) for layer in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(query, key, value)
        if self.axis == "disparity":
            mixed = mixed.transpose(1, 2)
        attended = self.out(mixed.reshape(sequences, length, channels))
        tokens = self.norm1(tokens_NLC + self.dropout(attended))
        return self.norm2(tokens + self.dropout(self.contract(F.gelu(self.expand(tokens)))))


class DisparityTransformer(nn.Module):
    """Patchify the volume, attend along disparity, and bring the result back to the volume's size.

    Args:
        channels: C, divisible by `heads`.
        patch: edge of the cubic patches; divides D, H and W.
        layers, heads: depth and attention heads.
        feed_forward: hidden width of each layer's MLP; C when None.
        axis: what is attended over.
        dropout: share of each residual branch that is dropped in training.

    Input and output: (B, C, D, H, W).
    """

    def __init__(
        self,
        channels: int,
        *,
        patch: int = 4,
        layers: int = 4,
        heads: int = 4,
        feed_forward: int | None = None,
        axis: AttentionAxis = "disparity",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.patch = patch
        self.patchify = nn.Conv3d(channels, channels, patch, stride=patch, groups=channels)
        self.norm = nn.BatchNorm3d(channels)
        self.layers = nn.ModuleList(
            TransformerLayer(channels, heads=heads, feed_forward=feed_forward or channels, axis=axis, dropout=dropout)
            for _ in range(layers)
        )

    def forward(self, volume_BCDHW: torch.Tensor) -> torch.Tensor:
        return upsample_volume(self.attend(volume_BCDHW), self.patch)

    def attend(self, volume_BCDHW: torch.Tensor) -> torch.Tensor:
        """The transformer's answer at its own resolution, (B, C, D/patch, H/patch, W/patch)."""
        patches = self.norm(self.patchify(volume_BCDHW))
        batch, channels, planes, height, width = patches.shape
        tokens = patches.permute(0, 3, 4, 2, 1).reshape(batch * height * width, planes, channels)
        tokens = tokens + sinusoidal_positions(planes, channels).to(tokens)
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens.reshape(batch, height, width, planes, channels).permute(0, 4, 3, 1, 2)


def upsample_volume(volume_BCDHW: torch.Tensor, factor: int) -> torch.Tensor:
    """Trilinear enlargement (align_corners False) as two 4-D resizes: every runtime has those, few a 5-D one.

    Input: (B, C, D, H, W). Output: (B, C, factor*D, factor*H, factor*W).
    """
    batch, channels, planes, height, width = volume_BCDHW.shape
    images = volume_BCDHW.reshape(batch, channels * planes, height, width)
    images = F.interpolate(images, scale_factor=float(factor), mode="bilinear", align_corners=False)
    height, width = height * factor, width * factor
    rows = images.reshape(batch, channels, planes, height * width)
    rows = F.interpolate(rows, size=(planes * factor, height * width), mode="bilinear", align_corners=False)
    return rows.reshape(batch, channels, planes * factor, height, width)
