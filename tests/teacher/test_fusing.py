"""Batch norms folded into convolutions, weights channels-last: the same network."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from teacher.blocks.axial_planar_convolution import AxialPlanarConv
from teacher.blocks.convolution import ConvNormAct, EncoderBlock, ResidualBlock, UpConvNormAct
from teacher.foundation_stereo import FoundationStereo, FoundationStereoConfig
from teacher.fusing import fold, fold_batch_norms, prepare_for_inference

VOLUME = (2, 6, 8, 4, 6)
BLOCKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "2-D": (lambda: ConvNormAct(2, 6, 5), (2, 6, 7, 9)),
    "2-D with bias": (lambda: ConvNormAct(2, 6, 5, bias=True), (2, 6, 7, 9)),
    "shortcut": (lambda: EncoderBlock(6, 4, stride=2), (2, 6, 8, 8)),
    "3-D": (lambda: ConvNormAct(3, 6, 5, stride=2), VOLUME),
    "residual": (lambda: ResidualBlock(3, 6), VOLUME),
    "transposed 2-D": (lambda: UpConvNormAct(2, 6, 5), (2, 6, 7, 9)),
    "transposed 3-D": (lambda: UpConvNormAct(3, 6, 5), VOLUME),
    "axial-planar, 3-D form": (lambda: AxialPlanarConv(6, 6, disparity_kernel=5, bias=True), VOLUME),
    "axial-planar, 2-D form": (lambda: AxialPlanarConv(6, 6, disparity_kernel=5, bias=True, form="conv2d"), VOLUME),
}


def with_statistics(network: nn.Module) -> nn.Module:
    """Batch norms as after a training: no statistic and no weight is what it started as."""
    generator = torch.Generator().manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
            for tensor, low in ((layer.running_mean, -0.5), (layer.running_var, 0.5), (layer.weight, 0.5)):
                assert tensor is not None
                tensor.data = low + torch.rand(tensor.shape, generator=generator).to(tensor)
            layer.bias.data = torch.rand(layer.bias.shape, generator=generator).to(layer.bias) - 0.5
    return network.eval()


def batch_norms(network: nn.Module) -> list[str]:
    return [name for name, layer in network.named_modules() if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d)]


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_prepared_block_computes_the_same(name: str, channels_last: bool) -> None:
    make, shape = BLOCKS[name]
    block = with_statistics(make()).double()
    images = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        # Activations may work in place on what they are given.
        expected = block(images.clone())
        prepared = prepare_for_inference(copy.deepcopy(block), channels_last=channels_last)
        torch.testing.assert_close(prepared(images.clone()), expected, rtol=0, atol=1e-13)
    assert batch_norms(block)
    assert not batch_norms(prepared)
    assert all(parameter.requires_grad for parameter in prepared.parameters())


def test_channels_last_weights_make_channels_last_volumes() -> None:
    block = prepare_for_inference(ConvNormAct(3, 6, 5).eval())
    assert block(torch.randn(VOLUME)).is_contiguous(memory_format=torch.channels_last_3d)
    assert ConvNormAct(3, 6, 5).eval()(torch.randn(VOLUME)).is_contiguous()


def test_a_network_in_training_is_refused() -> None:
    block = ConvNormAct(2, 6, 5)
    with pytest.raises(ValueError, match="eval"):
        prepare_for_inference(block)
    assert batch_norms(block)


def test_what_cannot_be_folded_is_refused() -> None:
    with pytest.raises(ValueError, match="running statistics"):
        fold(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))
    with pytest.raises(ValueError, match="2 groups"):
        fold(nn.ConvTranspose2d(4, 4, 2, groups=2), nn.BatchNorm2d(4))


def test_frozen_parameters_stay_frozen() -> None:
    block = prepare_for_inference(ConvNormAct(2, 6, 5).eval().requires_grad_(False))
    assert not any(parameter.requires_grad for parameter in block.parameters())


def test_instance_norms_and_order_of_layers_stay() -> None:
    block = ConvNormAct(2, 6, 5, norm="instance").eval()
    fold_batch_norms(block)
    assert isinstance(block[1], nn.InstanceNorm2d)
    before_the_conv = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)).eval()
    fold_batch_norms(before_the_conv)
    assert isinstance(before_the_conv[0], nn.BatchNorm2d)


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_whole_network_prepared_computes_the_same(tiny_config: FoundationStereoConfig, channels_last: bool) -> None:
    torch.manual_seed(0)
    network = with_statistics(FoundationStereo(tiny_config)).double()
    left, right = (torch.rand(2, 3, 64, 96, dtype=torch.float64) * 255 for _ in range(2))
    prepared = prepare_for_inference(copy.deepcopy(network), channels_last=channels_last)
    with torch.inference_mode():
        expected = network(left, right, iterations=2)
        torch.testing.assert_close(prepared(left, right, iterations=2), expected, rtol=0, atol=1e-8)
    assert batch_norms(prepared) == ["filtering.hourglass.transformer.norm"]


def test_a_prepared_network_meets_the_golden_vectors(
    recipe_network: Callable[..., FoundationStereo],
    recipe_pair: Callable[..., tuple[torch.Tensor, torch.Tensor]],
    golden_manifest: dict[str, Any],
    golden_dir: Path,
) -> None:
    case = "vits_128x192_disparity_axis"
    arrays = golden_manifest["cases"][case]["arrays"]
    network = prepare_for_inference(recipe_network())
    left, right = recipe_pair(128, 192)
    seen: dict[str, torch.Tensor] = {}
    filtering: Any = network.filtering
    filtering.stem.register_forward_hook(lambda _module, _inputs, output: seen.update(corr_stem=output.clone()))
    filtering.hourglass.register_forward_hook(lambda _module, _inputs, output: seen.update(cost_agg=output.clone()))
    with torch.inference_mode():
        predictions = network.predict_sequence(left, right, iterations=4)
    seen["init_disp"] = predictions.initial
    seen |= {f"disp_full_it{number}": disparity for number, disparity in enumerate(predictions.sequence)}
    with np.load(golden_dir / f"golden_{case}.npz") as golden:
        for name, got in seen.items():
            expected, about = golden[name], arrays[name]
            error = np.abs(got.contiguous().reshape(-1)[:: about["flat_step"]].numpy() - expected)
            assert error.max() <= about["atol"], name
            if about.get("mean_atol") is not None:
                assert error.mean() <= about["mean_atol"], name
