"""Half precision: never NaN or infinity, and near float32 where the distance means anything.

The weights are random, so disparities after the softmax say nothing about accuracy: they pick between planes that
score alike. Features do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from teacher.foundation_stereo import FoundationStereo

HEIGHT, WIDTH = 64, 96
HALVES = (torch.bfloat16, torch.float16)


def computes_in(dtype: torch.dtype) -> bool:
    """Whether the processor's convolutions have this type; elsewhere one forward pass takes a minute."""
    supported = {
        torch.bfloat16: torch.ops.mkldnn._is_mkldnn_bf16_supported,
        torch.float16: torch.ops.mkldnn._is_mkldnn_fp16_supported,
    }
    return supported[dtype]()


@pytest.fixture(scope="module")
def network(recipe_network: Callable[..., FoundationStereo]) -> FoundationStereo:
    return recipe_network(max_disp=64)


def colour(red: float, green: float, blue: float) -> torch.Tensor:
    return torch.tensor([red, green, blue], dtype=torch.float32)[None, :, None, None].expand(1, 3, HEIGHT, WIDTH)


def noise(seed: int) -> torch.Tensor:
    return 255 * torch.rand(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))


def checkerboard() -> torch.Tensor:
    """The steepest edges there can be."""
    cells = (torch.arange(HEIGHT)[:, None] + torch.arange(WIDTH)) % 2
    return (255.0 * cells).expand(1, 3, -1, -1)


EXTREMES = {
    "black": (colour(0, 0, 0), colour(0, 0, 0)),
    "white": (colour(255, 255, 255), colour(255, 255, 255)),
    "one colour": (colour(255, 0, 0), colour(255, 0, 0)),
    "black and white": (colour(0, 0, 0), colour(255, 255, 255)),
    "identical": (noise(0), noise(0)),
    "noise": (noise(1), noise(2)),
    "checkerboard": (checkerboard(), 255 - checkerboard()),
}


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("images", EXTREMES)
def test_extreme_images_stay_finite(images: str, dtype: torch.dtype, network: FoundationStereo) -> None:
    if images != "checkerboard" and not computes_in(dtype):
        pytest.skip(f"this processor does not compute in {dtype}: one extreme image must do")
    finite: dict[str, bool] = {}

    def check(name: str) -> Callable[..., None]:
        def hook(_module: torch.nn.Module, _inputs: Any, output: Any) -> None:
            parts = output if isinstance(output, (tuple, list)) else [output]
            tensors = [part for part in parts if isinstance(part, torch.Tensor)]
            finite[name] = finite.get(name, True) and all(torch.isfinite(tensor).all() for tensor in tensors)

        return hook

    handles = [module.register_forward_hook(check(name)) for name, module in network.named_modules()]
    with torch.inference_mode(), torch.autocast("cpu", dtype):
        predictions = network.predict_sequence(*EXTREMES[images], iterations=3)
    for handle in handles:
        handle.remove()
    assert [name for name, fine in finite.items() if not fine] == []
    for disparity in (predictions.initial, *predictions.sequence):
        assert disparity.dtype == torch.float32
        assert torch.isfinite(disparity).all()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_features_stay_near_float32(dtype: torch.dtype, network: FoundationStereo, recipe_pair: Any) -> None:
    images = network.normalised(torch.cat(recipe_pair(HEIGHT, WIDTH)))
    with torch.inference_mode():
        exact = network.features(images)
        with torch.autocast("cpu", dtype):
            rounded = network.features(images)
    # About 150 roundings one after the other (twelve ViT blocks, head, decoder), each within half a unit of the last
    # place and independent of the others: 12 of these.
    tolerance = 12 * torch.finfo(dtype).eps / 2
    for name, expected, got in zip(exact._fields, exact, rounded, strict=True):
        error = (got.float() - expected).square().mean().sqrt() / expected.square().mean().sqrt()
        assert 0 < error < tolerance, f"{name}: {error:.5f} of its size, {tolerance:.5f} allowed"


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_the_running_disparity_is_kept_in_float32(
    dtype: torch.dtype, network: FoundationStereo, recipe_pair: Any
) -> None:
    """One that passes through a half type has at most 11 significant bits; most of ours have more."""
    running: list[torch.Tensor] = []

    def watch(name: str, value: torch.Tensor) -> None:
        if name == "disparity":
            running.append(value)

    images = network.normalised(torch.cat(recipe_pair(HEIGHT, WIDTH)))
    with torch.inference_mode(), torch.autocast("cpu", dtype):
        start = network.start(images[:1], *network.features(images).halves())
        network.iterate(start, iterations=2, watch=watch)
    assert len(running) == 2
    for disparity in (start.disparity, *running):
        assert disparity.dtype == torch.float32
        assert (disparity != disparity.to(dtype).float()).float().mean() > 0.9
    assert all(level.dtype == torch.float32 for levels in start.geometry.levels for level in levels)
