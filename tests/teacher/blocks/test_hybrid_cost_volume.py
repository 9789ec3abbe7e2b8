"""Cost volumes against the plain definition, plane by plane."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from teacher.blocks.hybrid_cost_volume import (
    FOUNDATION_STEREO_FLOOR,
    HybridCostVolume,
    group_correlation,
    normalise_groups,
    row_correlation,
    shifted_planes,
)


def plain_correlation(left: torch.Tensor, right: torch.Tensor, planes: int, groups: int) -> torch.Tensor:
    """Loop over planes; 0 where x < d."""
    batch, channels, height, width = left.shape
    volume = torch.zeros(batch, groups, planes, height, width)

    def grouped(features: torch.Tensor) -> torch.Tensor:
        return F.normalize(features.reshape(batch, groups, channels // groups, height, width), dim=2)

    for plane in range(min(planes, width)):
        product = grouped(left)[..., plane:] * grouped(right)[..., : width - plane]
        volume[:, :, plane, :, plane:] = product.sum(dim=2)
    return volume


@pytest.mark.parametrize(("width", "planes"), [(12, 5), (6, 9), (8, 8)], ids=["wide", "more planes", "as many"])
def test_shear_equals_the_loop(width: int, planes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(2, 8, 3, width, generator=generator) for _ in range(2))
    volume = group_correlation(left, right, planes=planes, groups=2)
    assert torch.allclose(volume, plain_correlation(left, right, planes, 2), atol=1e-5)


def test_shifted_planes_equal_the_loop() -> None:
    right = torch.randn(2, 3, 4, 7, generator=torch.Generator().manual_seed(0))
    volume = shifted_planes(right, 9)
    for plane in range(9):
        expected = F.pad(right, (plane, 0))[..., :7]
        assert torch.equal(volume[:, :, plane], expected)


def test_row_correlation_is_a_cosine() -> None:
    features = torch.randn(1, 6, 2, 5, generator=torch.Generator().manual_seed(0))
    products = row_correlation(features, features)
    assert products.shape == (1, 1, 2, 5, 5)
    # the floor of the normalisation takes less than a millionth off
    assert torch.allclose(products.diagonal(dim1=3, dim2=4), torch.ones(1, 1, 2, 5), atol=1e-5)


def test_order_of_channels() -> None:
    volume = HybridCostVolume(8, groups=2, concat_channels=3)
    left, right = torch.randn(1, 8, 2, 6), torch.randn(1, 8, 2, 6)
    out = volume(left, right, planes=4)
    assert out.shape == (1, 8, 4, 2, 6)
    assert volume.projection is not None
    projected = volume.projection(left)
    assert torch.allclose(out[:, 2:5, 3], projected, atol=1e-6)  # left is there even where nothing is seen
    assert (out[:, 5:, 3, :, :3] == 0).all()


@pytest.mark.parametrize(("width", "planes"), [(12, 5), (6, 9), (4, 16)], ids=["wide", "more planes", "far more"])
def test_the_published_volume_equals_the_loop(width: int, planes: int) -> None:
    torch.manual_seed(0)
    volume = HybridCostVolume(16, groups=4, concat_channels=3, floor=FOUNDATION_STEREO_FLOOR)
    # short vectors, which another floor would shorten further
    left, right = 1e-4 * torch.randn(2, 2, 16, 3, width)
    assert volume.projection is not None
    projected_left, projected_right = volume.projection(left), volume.projection(right)
    expected = torch.zeros(2, 4 + 6, planes, 3, width)
    for plane in range(planes):
        expected[:, 4:7, plane] = projected_left  # also where nothing is seen
        for column in range(plane, width):
            for group in range(4):
                channels = slice(4 * group, 4 * group + 4)
                first, second = left[:, channels, :, column], right[:, channels, :, column - plane]
                cosine = (F.normalize(first, dim=1, eps=1e-12) * F.normalize(second, dim=1, eps=1e-12)).sum(dim=1)
                expected[:, group, plane, :, column] = cosine
            expected[:, 7:, plane, :, column] = projected_right[..., column - plane]
    got = volume(left, right, planes=planes)
    assert got.shape == expected.shape
    assert torch.allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [0.0, 1e-3, 6e4])
def test_normalising_survives_any_length(dtype: torch.dtype, value: float) -> None:
    features = torch.full((1, 8, 2, 2), value, dtype=dtype, requires_grad=True)
    # The network's features leave a ReLU, which stops the steep gradient (1e12) at a vector of zeros.
    unit = normalise_groups(F.relu(features), 2, floor=FOUNDATION_STEREO_FLOOR)
    assert unit.dtype == torch.float32
    length = unit.square().sum(dim=2).sqrt()
    assert torch.allclose(length, torch.full_like(length, float(value > 0)), atol=1e-5)
    unit.sum().backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()
