"""Vision transformer of DINOv2 (arXiv 2304.07193), as the encoder of Depth Anything V2 (arXiv 2406.09414).

Pre-norm blocks with layer scale, a class token, no registers. Its patch tokens after four of its blocks go to
`teacher.dpt_head`.

    B batch, C channels, H height, W width, R rows and K columns of patches, N = R * K tokens
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from teacher.blocks.precision import full_precision

PATCH = 14
# The position table was learnt on 518 px squares.
TABLE_EDGE = 37


@dataclass(frozen=True)
class VitSize:
    """Width, depth and heads of an encoder, the blocks whose output is used, and the widths of the head on it.

    Args:
        taps: 0-based numbers of the four blocks that the head reads.
        head_widths: channels of the head's four levels, finest first.
        head_features: channels of the head's fusion.
    """

    width: int
    depth: int
    heads: int
    taps: tuple[int, int, int, int]
    head_widths: tuple[int, int, int, int]
    head_features: int


VIT_SIZES = {
    "vits": VitSize(384, 12, 6, (2, 5, 8, 11), (48, 96, 192, 384), 64),
    "vitb": VitSize(768, 12, 12, (2, 5, 8, 11), (96, 192, 384, 768), 128),
    "vitl": VitSize(1024, 24, 16, (4, 11, 17, 23), (256, 512, 1024, 1024), 256),
    # For ablations and tests on small machines; no published weights.
    "tiny": VitSize(64, 4, 2, (0, 1, 2, 3), (16, 24, 32, 48), 32),
}


class LayerScale(nn.Module):
    """A learnt factor per channel (CaiT, arXiv 2103.17239). Input and output: (..., C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens * self.gamma


class SelfAttention(nn.Module):
    """Multi-head self-attention. Input and output: (B, N, C)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, tokens_BNC: torch.Tensor) -> torch.Tensor:
        batch, count, channels = tokens_BNC.shape
        parts = self.qkv(tokens_BNC).reshape(batch, count, 3, self.heads, channels // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(batch, count, channels))


class Block(nn.Module):
    """Pre-norm transformer block with layer scale. Input and output: (B, N, C)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = SelfAttention(channels, heads)
        self.ls1 = LayerScale(channels)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))
        self.ls2 = LayerScale(channels)

    def forward(self, tokens_BNC: torch.Tensor) -> torch.Tensor:
        tokens = tokens_BNC + self.ls1(self.attn(self.norm1(tokens_BNC)))
        return tokens + self.ls2(self.mlp(self.norm2(tokens)))


class VisionTransformer(nn.Module):
    """Patch tokens of four blocks.

    Args:
        size: see `VIT_SIZES`.

    Input: (B, 3, 14 R, 14 K), normalised. Output: four times (B, C, R, K), after the final norm.
    """

    def __init__(self, size: VitSize) -> None:
        super().__init__()
        self.size = size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size.width))
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + TABLE_EDGE**2, size.width) * 0.02)
        self.patch_embed = nn.Conv2d(3, size.width, PATCH, stride=PATCH)
        self.blocks = nn.ModuleList(Block(size.width, size.heads) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width, eps=1e-6)

    def positions(self, rows: int, columns: int) -> torch.Tensor:
        """The position table for a grid of patches, (1, 1 + rows * columns, C).

        The resize is told a scale factor a little too large (by 0.1 patch), not the size: so DINOv2 was published, and
        it moves the sampling grid.
        """
        if (rows, columns) == (TABLE_EDGE, TABLE_EDGE):
            return self.pos_embed
        table = full_precision(self.pos_embed)
        grid = table[:, 1:].reshape(1, TABLE_EDGE, TABLE_EDGE, -1).permute(0, 3, 1, 2)
        factors = ((rows + 0.1) / TABLE_EDGE, (columns + 0.1) / TABLE_EDGE)
        grid = F.interpolate(grid, scale_factor=factors, mode="bicubic", align_corners=False)
        return torch.cat([table[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)

    def forward(self, images_BCHW: torch.Tensor) -> list[torch.Tensor]:
        patches = self.patch_embed(images_BCHW)
        batch, channels, rows, columns = patches.shape
        tokens = patches.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.to(tokens).expand(batch, -1, -1), tokens], dim=1)
        tokens = tokens + self.positions(rows, columns).to(tokens)
        taps = []
        for number, block in enumerate(self.blocks):
            tokens = block(tokens)
            if number in self.size.taps:
                kept = self.norm(tokens)[:, 1:]
                taps.append(kept.transpose(1, 2).reshape(batch, channels, rows, columns))
        return taps
