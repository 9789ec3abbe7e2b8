"""Axial-planar convolution (APC): a 3×3×3 neighbourhood split into image plane and disparity axis.

FoundationStereo (arXiv 2501.09898, section 3.3) filters the cost volume with a (1, 3, 3) convolution followed by a
(K, 1, 1) one: a wide view along disparity for few operations.

Runtimes disagree on how to spell it. OpenVINO has fast 3-D kernels, in INT8 above all; onnxruntime is faster on 2-D
convolutions; PyTorch on a CPU has a fast 3-D kernel for the planar half and none for the axial one, which as a 2-D
convolution over a view of the volume takes a sixth of the time, gradients included (`benchmarks/apc_forms.py`). The
forms share weights and agree to rounding, so the form is a switch, set before training and before export.

    B batch, C channels, D disparity planes, H height, W width
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from teacher.blocks.convolution import ConvNormAct, relu

Form = Literal["conv3d", "conv2d", "mixed"]


class AxialPlanarConv(nn.Module):
    """Planar (1, 3, 3) then axial (K, 1, 1) convolution, each with batch norm and ReLU.

    Args:
        inputs, outputs: channels.
        disparity_kernel: K, odd: planes seen by the axial convolution.
        bias: see `ConvNormAct`.
        form: how it is computed; never what it computes. mixed: the planar half in 3-D, the axial one in 2-D.

    Input: (B, inputs, D, H, W). Output: (B, outputs, D, H, W).
    """

    def __init__(
        self, inputs: int, outputs: int, *, disparity_kernel: int = 17, bias: bool = False, form: Form = "conv3d"
    ) -> None:
        super().__init__()
        self.form: Form = form
        self.planar = ConvNormAct(3, inputs, outputs, kernel=(1, 3, 3), bias=bias, activation=relu)
        self.axial = ConvNormAct(3, outputs, outputs, kernel=(disparity_kernel, 1, 1), bias=bias, activation=relu)

    def forward(self, volume_BCDHW: torch.Tensor) -> torch.Tensor:
        planar = self._planar_2d(volume_BCDHW) if self.form == "conv2d" else self.planar(volume_BCDHW)
        return self.axial(planar) if self.form == "conv3d" else self._axial_2d(planar)

    def _planar_2d(self, volume_BCDHW: torch.Tensor) -> torch.Tensor:
        """The planar half with the planes in the batch."""
        conv, norm, activation = layers(self.planar)
        batch, channels, planes, height, width = volume_BCDHW.shape
        images = volume_BCDHW.transpose(1, 2).reshape(batch * planes, channels, height, width)
        images = F.conv2d(images, conv.weight.squeeze(2), conv.bias, padding=1)
        images = activation(norm_images(norm, images))
        return images.reshape(batch, planes, -1, height, width).transpose(1, 2)

    def _axial_2d(self, volume_BCDHW: torch.Tensor) -> torch.Tensor:
        """The axial half with height and width as one axis."""
        conv, norm, activation = layers(self.axial)
        batch, channels, planes, height, width = volume_BCDHW.shape
        weight = conv.weight.squeeze(4)
        images = volume_BCDHW.reshape(batch, channels, planes, height * width)
        images = F.conv2d(images, weight, conv.bias, padding=(weight.shape[2] // 2, 0))
        return activation(norm_images(norm, images)).reshape(batch, -1, planes, height, width)


def layers(block: ConvNormAct) -> tuple[nn.Conv3d, nn.Module, nn.Module]:
    """The three layers of a 3-D block, with their types."""
    conv, norm, activation = block
    assert isinstance(conv, nn.Conv3d)
    return conv, norm, activation


def norm_images(norm: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Apply a 3-D batch norm to 4-D images: the same numbers, and a form that folds into the 2-D convolution."""
    if isinstance(norm, nn.Identity):  # folded already
        return images
    assert isinstance(norm, nn.BatchNorm3d)
    assert norm.momentum is not None
    return F.batch_norm(
        images, norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.training, norm.momentum, norm.eps
    )


def set_form(module: nn.Module, form: Form) -> None:
    """Switch every axial-planar convolution inside `module` to one form, in place."""
    for block in module.modules():
        if isinstance(block, AxialPlanarConv):
            block.form = form
