"""The feature network: sizes, freezing, and the bookkeeping of batches."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F

from teacher.foundation_stereo import FoundationStereoConfig
from teacher.side_tuning import FeatureNetwork, Features, MonoUse, vit_size


def network(config: FoundationStereoConfig, *, mono: MonoUse = "side_tuned", trainable: bool = False) -> FeatureNetwork:
    torch.manual_seed(0)
    return FeatureNetwork(
        config.vit, mono=mono, mono_trainable=trainable, widths=config.cnn_widths, depths=config.cnn_depths
    )


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ((128, 192), (224, 224)),
        ((320, 736), (336, 784)),
        ((480, 640), (560, 672)),
        ((1344, 1344), (1344, 1344)),
        ((1080, 1920), (784, 1344)),  # 1120 x 2016, scaled by 2/3 to 746.7
        ((1920, 1080), (1344, 784)),
        ((2000, 1984), (1344, 1344)),  # both round up to 2016
        ((32, 4000), (112, 1344)),
    ],
)
def test_size_that_the_vit_sees(image: tuple[int, int], expected: tuple[int, int]) -> None:
    assert vit_size(*image) == expected


def test_size_that_the_vit_sees_is_free_of_rounding() -> None:
    for tall in range(112, 8000, 112):
        for wide in range(112, 8000, 112):
            longest = max(tall, wide, 1344)
            scaled = [math.ceil(Fraction(1344 * side, 112 * longest)) * 112 for side in (tall, wide)]
            assert vit_size(tall, wide) == tuple(scaled)


def test_the_vit_sees_images_resized_bicubic(tiny_config: FoundationStereoConfig) -> None:
    branch = network(tiny_config).mono
    assert branch is not None
    images = torch.randn(2, 3, 64, 128)
    expected = F.interpolate(images, size=(112, 224), mode="bicubic", align_corners=False)
    assert torch.equal(branch.resized(images), expected)


@pytest.mark.parametrize("mono", ["side_tuned", "features_only", "none"])
def test_levels_have_the_sizes_and_channels_that_are_told(mono: MonoUse, tiny_config: FoundationStereoConfig) -> None:
    features = network(tiny_config, mono=mono)
    with torch.no_grad():
        out = features(torch.randn(2, 3, 64, 96))
    assert [tuple(level.shape) for level in out.levels] == [
        (2, channels, 16 >> level, 24 >> level) for level, channels in enumerate(features.channels)
    ]
    assert (out.mono is None) == (mono == "none")
    assert out.mono is None or out.mono.shape[2:] == (16, 24)


def test_a_frozen_vit_stays_in_evaluation_mode(tiny_config: FoundationStereoConfig) -> None:
    features = network(tiny_config).train()
    assert features.training
    assert features.fuse.training
    assert features.mono is not None
    assert not any(module.training for module in features.mono.modules())
    assert not any(parameter.requires_grad for parameter in features.mono.parameters())


def test_a_trainable_vit_trains(tiny_config: FoundationStereoConfig) -> None:
    features = network(tiny_config, trainable=True).train()
    assert features.mono is not None
    assert all(module.training for module in features.mono.modules())
    # of the coarsest fusion on, nothing is left out
    features(torch.randn(1, 3, 64, 64)).quarter.square().sum().backward()
    assert all(parameter.grad is not None for parameter in features.mono.parameters())


def test_mono_features_are_resized_twice(tiny_config: FoundationStereoConfig) -> None:
    features = network(tiny_config).eval()
    assert features.mono is not None
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        fine = features.mono(images)
        mono = features(images).mono
    assert mono is not None
    assert fine.shape[2:] == (112, 112)
    expected = F.interpolate(fine, size=(16, 24), mode="bilinear", align_corners=True)
    assert torch.equal(mono, expected)


def pyramid(batch: int, *, mono: bool = True) -> Features:
    levels = [torch.randn(batch, 2, 16 >> level, 32 >> level) for level in range(4)]
    return Features.of(levels, torch.randn(batch, 3, 16, 32) if mono else None)


@pytest.mark.parametrize("mono", [True, False])
def test_halves_and_joined_are_inverse(mono: bool) -> None:
    features = pyramid(4, mono=mono)
    again = Features.joined(*features.halves())
    for before, after in zip(features, again, strict=True):
        assert (before is None) == (after is None)
        assert before is None or torch.equal(before, after)


@pytest.mark.parametrize("mono", [True, False])
def test_mirrored_flips_left_to_right(mono: bool) -> None:
    features = pyramid(1, mono=mono)
    mirrored = features.mirrored()
    assert torch.equal(mirrored.quarter[..., 0], features.quarter[..., -1])
    assert torch.equal(mirrored.quarter[..., 0, :], features.quarter[..., 0, :].flip(-1))
    for before, after in zip(features, mirrored.mirrored(), strict=True):
        assert before is None or torch.equal(before, after)
