"""Cost volumes against the plain definition, plane by plane."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from teacher.blocks.hybrid_cost_volume import HybridCostVolume, group_correlation, row_correlation, shifted_planes


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
