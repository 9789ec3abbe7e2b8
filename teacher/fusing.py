"""A trained network made ready to run: batch norms folded into their convolutions, weights laid out channels-last.

Both change rounding only. Folding takes one pass over the volume and one copy of it out of every filtering step.
Channels-last weights make every convolution, and so what it hands on, channels-last: CPU kernels then read volumes (and
in half types, images) as they are, where they would copy each to a blocked layout and back.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.fusion import fuse_conv_bn_weights

Network = TypeVar("Network", bound=nn.Module)


def prepare_for_inference(network: Network, *, channels_last: bool = True) -> Network:
    """Fold batch norms and lay out the weights, in place.

    The network's state dict changes: load weights before, and do not save it after. What wants gradients stays so, as
    autocast keeps the half-precision copy of such parameters only; training it would train without batch norms.

    Args:
        channels_last: lay out the weights of convolutions channels-last. On CPUs it pays; on GPUs, measure.

    Returns: the network.

    Raises:
        ValueError: the network is in training mode.
    """
    fold_batch_norms(network)
    if channels_last:
        lay_out_channels_last(network)
    return network


def fold_batch_norms(network: nn.Module) -> None:
    """Fold every batch norm that directly follows a convolution in an `nn.Sequential`, in place.

    An `nn.Identity` takes its place, so that positions stay. A batch norm whose convolution has a forward hook on it
    is folded too: the hook then sees the norm's output.

    Raises:
        ValueError: the network is in training mode, where batch norms depend on the batch.
    """
    if network.training:
        raise ValueError("batch norms of a network in training mode cannot be folded: call eval() first")
    for block in network.modules():
        if isinstance(block, nn.Sequential):
            for number, (conv, norm) in enumerate(pairwise(block)):
                if isinstance(conv, _ConvNd) and isinstance(norm, _BatchNorm):
                    fold(conv, norm)
                    block[number + 1] = nn.Identity()


def fold(conv: _ConvNd, norm: _BatchNorm) -> None:
    """Let a convolution, transposed or not, do its batch norm's work too, in place.

    The product is formed in float64, so that one rounding is all that separates it from the two steps.

    Raises:
        ValueError: the norm keeps no statistics, or the convolution is transposed and grouped.
    """
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise ValueError("a batch norm without running statistics cannot be folded")
    transposed = isinstance(conv, _ConvTransposeNd)
    if transposed and conv.groups > 1:
        raise ValueError(f"a transposed convolution of {conv.groups} groups cannot be folded")
    scale = None if norm.weight is None else norm.weight.double()
    shift = None if norm.bias is None else norm.bias.double()
    bias = None if conv.bias is None else conv.bias.double()
    weight, bias = fuse_conv_bn_weights(
        conv.weight.double(), bias, mean.double(), variance.double(), norm.eps, scale, shift, transpose=transposed
    )
    dtype = conv.weight.dtype
    wants_gradient = conv.weight.requires_grad
    conv.weight = nn.Parameter(weight.detach().to(dtype), requires_grad=wants_gradient)
    conv.bias = nn.Parameter(bias.detach().to(dtype), requires_grad=wants_gradient)


def lay_out_channels_last(network: nn.Module) -> None:
    """Lay out the weights of 2-D and 3-D convolutions channels-last, in place."""
    for layer in network.modules():
        if isinstance(layer, _ConvNd) and layer.weight.dim() > 3:
            form = torch.channels_last if layer.weight.dim() == 4 else torch.channels_last_3d
            layer.weight.data = layer.weight.data.contiguous(memory_format=form)
