"""Convolution + normalisation + activation, and residual blocks, in 2-D and 3-D.

The plainest layers of the cost networks; everything larger in `teacher.blocks` is put together from them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

Activation = Callable[[], nn.Module]


def relu() -> nn.Module:
    """The students' activation: it folds into integer kernels."""
    return nn.ReLU(inplace=True)


def leaky_relu() -> nn.Module:
    """FoundationStereo's activation outside its residual and axial-planar blocks (slope 0.01)."""
    return nn.LeakyReLU(0.01, inplace=True)


def same_padding(kernel: int | tuple[int, ...]) -> int | tuple[int, ...]:
    """Padding that keeps the size at stride 1, for odd kernels."""
    return kernel // 2 if isinstance(kernel, int) else tuple(size // 2 for size in kernel)


class ConvNormAct(nn.Sequential):
    """Convolution, batch norm, activation. Batch norm folds into the convolution at export.

    Args:
        dimensions: 2 for (B, C, H, W), 3 for (B, C, D, H, W).
        kernel: odd kernel size, padded to keep the size at stride 1.
        bias: FoundationStereo gives some convolutions a bias before their norm, where it changes nothing learnable.
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
        activation: Activation | None = relu,
    ) -> None:
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
        norm = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dimensions]
        layers = [
            conv(inputs, outputs, kernel, stride=stride, padding=same_padding(kernel), bias=bias),
            norm(outputs),
        ]
        super().__init__(*layers, *([activation()] if activation else []))


class ResidualBlock(nn.Module):
    """Two convolutions with a shortcut: ReLU(x + conv-norm(relu-conv-norm(x))) (ResNet, arXiv 1512.03385).

    Input and output: (B, C, [D,] H, W).
    """

    def __init__(self, dimensions: int, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(dimensions, channels, channels)
        self.conv2 = ConvNormAct(dimensions, channels, channels, activation=None)
        self.activation = relu()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.activation(features + self.conv2(self.conv1(features)))
