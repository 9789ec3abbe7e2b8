"""Lookup against torch's own sampler, and at its borders."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from teacher.blocks.geometry_lookup import lookup_correlation, lookup_volume


def sampler(rows: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """(N, C, L) rows at (N, T) positions, zeros outside, by grid_sample."""
    length = rows.shape[2]
    grid = torch.stack([2 * position / (length - 1) - 1, torch.zeros_like(position)], dim=-1)[:, None]
    return F.grid_sample(rows[:, :, None], grid, align_corners=True, padding_mode="zeros")[:, :, 0]


def test_volume_lookup_equals_grid_sample() -> None:
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(2, 3, 7, 2, 4, generator=generator)
    disparity = 14 * torch.rand(2, 1, 2, 4, generator=generator) - 4  # some rows are left behind altogether
    taps = lookup_volume(volume, disparity, radius=2)
    rows = volume.permute(0, 3, 4, 1, 2).reshape(16, 3, 7)
    position = disparity.reshape(16, 1) + torch.arange(-2, 3)
    expected = sampler(rows, position).reshape(2, 2, 4, 15).permute(0, 3, 1, 2)
    assert torch.allclose(taps, expected, atol=1e-5)


def test_correlation_lookup_equals_grid_sample() -> None:
    generator = torch.Generator().manual_seed(0)
    correlation = torch.randn(1, 1, 2, 6, 6, generator=generator)
    disparity = 5 * torch.rand(1, 1, 2, 6, generator=generator)
    taps = lookup_correlation(correlation, disparity, radius=3)
    position = (torch.arange(6) - disparity).reshape(12, 1) + torch.arange(-3, 4)
    expected = sampler(correlation.reshape(12, 1, 6), position).reshape(1, 2, 6, 7).permute(0, 3, 1, 2)
    assert torch.allclose(taps, expected, atol=1e-5)


def test_wild_disparities_read_zeros() -> None:
    volume = torch.ones(1, 1, 4, 1, 2)
    taps = lookup_volume(volume, torch.tensor([[[[1e9, -1e9]]]]), radius=4)
    assert (taps == 0).all()


def test_strided_correlation_lookup_equals_grid_sample() -> None:
    generator = torch.Generator().manual_seed(0)
    correlation = torch.randn(1, 1, 2, 7, 3, generator=generator)  # 7 left columns, 3 pairs of right ones
    disparity = 9 * torch.rand(1, 1, 2, 7, generator=generator) - 2
    taps = lookup_correlation(correlation, disparity, radius=3, stride=2)
    position = (torch.arange(7) - disparity).reshape(14, 1) / 2 + torch.arange(-3, 4)
    expected = sampler(correlation.reshape(14, 1, 3), position).reshape(1, 2, 7, 7).permute(0, 3, 1, 2)
    assert torch.allclose(taps, expected, atol=1e-5)


def test_each_neighbour_beyond_the_border_counts_as_zero() -> None:
    volume = torch.full((1, 1, 4, 1, 1), 8.0)
    taps = lookup_volume(volume, torch.full((1, 1, 1, 1), -0.25), radius=1)
    # at -1.25, -0.25 and 0.75
    assert torch.allclose(taps.flatten(), torch.tensor([0.0, 6.0, 8.0]))
