"""Convolution + normalisation + activation, and residual blocks, in 2-D and 3-D.

The plainest layers of the networks; everything larger in `teacher.blocks` is put together from them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

Activation = Callable[[], nn.Module]
Norm = Literal["batch", "instance"]


def relu() -> nn.Module:
    """The students' activation: it folds into integer kernels."""
    return nn.ReLU(inplace=True)


def leaky_relu() -> nn.Module:
    """FoundationStereo's activation outside its residual and axial-planar blocks (slope 0.01)."""
    return nn.LeakyReLU(0.01, inplace=True)


def same_padding(kernel: int | tuple[int, ...]) -> int | tuple[int, ...]:
    """Padding that keeps the size at stride 1, for odd kernels."""
    return kernel // 2 if isinstance(kernel, int) else tuple(size // 2 for size in kernel)


def norm_layer(dimensions: int, channels: int, norm: Norm) -> nn.Module:
    """Batch norm, or instance norm without weights or statistics."""
    if norm == "batch":
        return {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dimensions](channels)
    return {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dimensions](channels)


class ConvNormAct(nn.Sequential):
    """Convolution, norm, activation. Batch norm folds into the convolution at export.

    Args:
        dimensions: 2 for (B, C, H, W), 3 for (B, C, D, H, W).
        kernel: odd kernel size, padded to keep the size at stride 1.
        bias: FoundationStereo gives some convolutions a bias before their norm, where it changes nothing learnable.
        norm: batch or instance.
        activation: constructor of the activation, None for a linear output.
    """

    def __init__(
        self,
        dimensions: int,
        inputs: int,
        outputs: int,
        *,
        kernel: int | tuple[int, ...] = 3,
        stride: int | tuple[int, ...] = 1,
        bias: bool = False,
        norm: Norm = "batch",
        activation: Activation | None = relu,
    ) -> None:
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
        layers = [
            conv(inputs, outputs, kernel, stride=stride, padding=same_padding(kernel), bias=bias),
            norm_layer(dimensions, outputs, norm),
        ]
        super().__init__(*layers, *([activation()] if activation else []))


class UpConvNormAct(nn.Sequential):
    """Transposed convolution (kernel 4, stride 2) that doubles every axis, norm, activation; FoundationStereo's.

    Args:
        dimensions: 2 for (B, C, H, W), 3 for (B, C, D, H, W).
    """

    def __init__(self, dimensions: int, inputs: int, outputs: int, *, norm: Norm = "batch") -> None:
        conv = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[dimensions]
        super().__init__(
            conv(inputs, outputs, 4, stride=2, padding=1, bias=False),
            norm_layer(dimensions, outputs, norm),
            leaky_relu(),
        )


class ResidualBlock(nn.Module):
    """Two convolutions with a shortcut: ReLU(x + conv-norm(relu-conv-norm(x))) (ResNet, arXiv 1512.03385).

    Input and output: (B, C, [D,] H, W).
    """

    def __init__(self, dimensions: int, channels: int, *, norm: Norm = "batch") -> None:
        super().__init__()
        self.conv1 = ConvNormAct(dimensions, channels, channels, norm=norm)
        self.conv2 = ConvNormAct(dimensions, channels, channels, norm=norm, activation=None)
        self.activation = relu()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.activation(self.conv2(self.conv1(features)) + features)


class EncoderBlock(nn.Module):
    """RAFT's residual block: ReLU(shortcut(x) + relu-conv-norm(relu-conv-norm(x))) (arXiv 2003.12039).

    Its branch ends in a ReLU of its own and its convolutions have biases.

    Args:
        stride: of the first convolution; with it comes a 1×1 convolution on the shortcut.

    Input: (B, inputs, H, W). Output: (B, outputs, H/stride, W/stride).
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, norm: Norm = "batch") -> None:
        super().__init__()
        self.conv1 = ConvNormAct(2, inputs, outputs, stride=stride, bias=True, norm=norm)
        self.conv2 = ConvNormAct(2, outputs, outputs, bias=True, norm=norm)
        plain = stride == 1 and inputs == outputs
        self.shortcut = (
            nn.Identity()
            if plain
            else ConvNormAct(2, inputs, outputs, kernel=1, stride=stride, bias=True, norm=norm, activation=None)
        )
        self.activation = relu()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.activation(self.conv2(self.conv1(features)) + self.shortcut(features))
