"""EdgeNeXt-small without its classifier (arXiv 2206.10589): the trainable half of the feature network.

Three stages of depthwise convolution blocks, the last block of stages 1 to 3 a split-transpose block: a chain of small
convolutions over channel groups, then attention between channels. Written here because timm would bring torchvision.

    B batch, C channels, H height, W width, N tokens = H * W
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from teacher.blocks.precision import full_precision

WIDTHS = (48, 96, 160, 304)
DEPTHS = (3, 3, 9, 3)
KERNELS = (3, 5, 7, 9)
# Channel groups of the split-transpose block of each stage; the first stage has none.
SPLITS = (0, 2, 3, 4)
XCA_HEADS = 8
FOURIER_FREQUENCIES = 32
# What blocks start with: a new block is nearly the identity.
INITIAL_GAMMA = 1e-6


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of a map. Input and output: (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Mlp(nn.Sequential):
    """Norm, C → 4C, GELU, 4C → C on the last axis."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.LayerNorm(channels, eps=1e-6),
            nn.Linear(channels, 4 * channels),
            nn.GELU(),
            nn.Linear(4 * channels, channels),
        )


class ConvBlock(nn.Module):
    """Depthwise convolution and an MLP over channels. Input and output: (B, C, H, W)."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.mlp = Mlp(channels)
        self.gamma = nn.Parameter(torch.full((channels,), INITIAL_GAMMA))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        mixed = self.mlp(self.conv_dw(features).permute(0, 2, 3, 1)) * self.gamma
        return features + mixed.permute(0, 3, 1, 2)


class FourierPosition(nn.Module):
    """Sines and cosines of row and column, projected to C channels. Returns (1, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.token_projection = nn.Conv2d(2 * FOURIER_FREQUENCIES, channels, 1)

    def codes(self, count: int, device: torch.device) -> torch.Tensor:
        """(count, 32): sine and cosine in turn, of places 1 to `count` spread over one period."""
        places = torch.arange(1, count + 1, dtype=torch.float32, device=device)
        places = places / (count + 1e-6) * (2 * math.pi)
        steps = torch.arange(FOURIER_FREQUENCIES // 2, dtype=torch.float32, device=device)
        angles = places[:, None] / 10000 ** (2 * steps / FOURIER_FREQUENCIES)
        return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)

    def forward(self, height: int, width: int) -> torch.Tensor:
        weight = self.token_projection.weight
        rows = self.codes(height, weight.device)[:, None].expand(-1, width, -1)
        columns = self.codes(width, weight.device)[None].expand(height, -1, -1)
        codes = torch.cat([rows, columns], dim=2).permute(2, 0, 1)[None]
        return self.token_projection(codes.to(weight.dtype))


class CrossCovarianceAttention(nn.Module):
    """Attention between channels: cost linear in the number of tokens (XCiT, arXiv 2106.09681).

    Input and output: (B, N, C).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(XCA_HEADS, 1, 1))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, tokens_BNC: torch.Tensor) -> torch.Tensor:
        batch, count, channels = tokens_BNC.shape
        parts = self.qkv(tokens_BNC).reshape(batch, count, 3, XCA_HEADS, channels // XCA_HEADS)
        query, key, value = parts.permute(2, 0, 3, 4, 1)
        # The squared length runs over all tokens and overflows float16.
        query, key = (F.normalize(full_precision(part), dim=-1) for part in (query, key))
        with torch.autocast(tokens_BNC.device.type, enabled=False):
            weights = torch.softmax(query @ key.transpose(2, 3) * full_precision(self.temperature), dim=-1)
        mixed = weights.to(value.dtype) @ value
        return self.proj(mixed.permute(0, 3, 1, 2).reshape(batch, count, channels))


class SplitTransposeBlock(nn.Module):
    """Chained convolutions over channel groups, then attention between channels and an MLP.

    Input and output: (B, C, H, W).

    Args:
        splits: groups of channels.
        position: whether Fourier position codes are added to the tokens.
    """

    def __init__(self, channels: int, splits: int, *, position: bool) -> None:
        super().__init__()
        self.splits = splits
        width = math.ceil(channels / splits)
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, groups=width) for _ in range(splits - 1))
        self.pos_embd = FourierPosition(channels) if position else None
        self.norm_xca = nn.LayerNorm(channels, eps=1e-6)
        self.xca = CrossCovarianceAttention(channels)
        self.gamma_xca = nn.Parameter(torch.full((channels,), INITIAL_GAMMA))
        self.mlp = Mlp(channels)
        self.gamma = nn.Parameter(torch.full((channels,), INITIAL_GAMMA))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = features.shape
        *chained, last = features.chunk(self.splits, dim=1)
        done: list[torch.Tensor] = []
        for conv, part in zip(self.convs, chained, strict=True):
            done.append(conv(part + done[-1] if done else part))
        mixed = torch.cat([*done, last], dim=1)
        if self.pos_embd is not None:
            mixed = mixed + self.pos_embd(height, width)
        tokens = mixed.flatten(2).transpose(1, 2)
        tokens = tokens + self.gamma_xca * self.xca(self.norm_xca(tokens))
        tokens = self.mlp(tokens) * self.gamma
        # The shortcut comes from before the split: the attention reaches the output through the MLP alone.
        return features + tokens.transpose(1, 2).reshape(batch, channels, height, width)


class EdgeNeXt(nn.Module):
    """Features at 1/4, 1/8, 1/16 and 1/32.

    Input: (B, 3, H, W), normalised. Output: four maps, finest first.

    Args:
        widths, depths: channels (multiples of 8 from the second on) and blocks of each stage.
    """

    def __init__(self, widths: tuple[int, int, int, int] = WIDTHS, depths: tuple[int, int, int, int] = DEPTHS) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], 4, stride=4), ChannelNorm(widths[0]))
        self.downsamples, self.stages = nn.ModuleList(), nn.ModuleList()
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            down = [ChannelNorm(widths[stage - 1]), nn.Conv2d(widths[stage - 1], width, 2, stride=2)] if stage else []
            self.downsamples.append(nn.Sequential(*down))
            convs = depth - 1 if SPLITS[stage] else depth
            blocks: list[nn.Module] = [ConvBlock(width, KERNELS[stage]) for _ in range(convs)]
            if SPLITS[stage]:
                blocks.append(SplitTransposeBlock(width, SPLITS[stage], position=stage == 1))
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, images_BCHW: torch.Tensor) -> list[torch.Tensor]:
        features, levels = self.stem(images_BCHW), []
        for down, stage in zip(self.downsamples, self.stages, strict=True):
            features = stage(down(features))
            levels.append(features)
        return levels
