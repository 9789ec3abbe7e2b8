"""Lookup, update block and upsampling against plain definitions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from teacher.context_network import LevelContext
from teacher.refinement import RADIUS, Geometry, HeadBlock, MotionEncoder, UpdateBlock, Upsampling, pooled

TAPS = 2 * RADIUS + 1


def sampled(rows: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """(N, C, L) rows at (N, T) positions by torch's sampler, zeros outside → (N, C, T)."""
    length = rows.shape[2]
    grid = torch.stack([2 * position / (length - 1) - 1, torch.zeros_like(position)], dim=-1)[:, None]
    return F.grid_sample(rows[:, :, None], grid, mode="bilinear", padding_mode="zeros", align_corners=True)[:, :, 0]


def plain_lookup(
    volume: torch.Tensor, left: torch.Tensor, right: torch.Tensor, disparity: torch.Tensor
) -> torch.Tensor:
    """The published lookup: two pyramids of rows, sampled at nine offsets."""
    batch, channels, planes, height, width = volume.shape
    volume_rows = volume.permute(0, 3, 4, 1, 2).reshape(-1, channels, planes)
    left, right = F.normalize(left, dim=1), F.normalize(right, dim=1)
    correlation_rows = torch.einsum("bchx,bchy->bhxy", left, right).reshape(-1, 1, width)
    offsets = torch.arange(-RADIUS, RADIUS + 1, dtype=volume.dtype)
    centre = disparity.reshape(-1, 1)
    columns = torch.arange(width, dtype=volume.dtype).repeat(batch * height)[:, None]
    out = []
    for level in range(2):
        out.append(sampled(volume_rows, centre / 2**level + offsets).flatten(1))
        out.append(sampled(correlation_rows, (columns - centre) / 2**level + offsets).flatten(1))
        volume_rows, correlation_rows = F.avg_pool1d(volume_rows, 2), F.avg_pool1d(correlation_rows, 2)
    return torch.cat(out, dim=1).reshape(batch, height, width, -1).permute(0, 3, 1, 2)


def example(planes: int, width: int, *, batch: int = 2) -> tuple[torch.Tensor, ...]:
    """Volume, left and right features, float64, always the same."""
    generator = torch.Generator().manual_seed(planes + width)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return noise(batch, 3, planes, 2, width), noise(batch, 6, 2, width), noise(batch, 6, 2, width)


@pytest.mark.parametrize(("planes", "width"), [(8, 12), (7, 11), (16, 5)], ids=["even", "odd", "more planes"])
@pytest.mark.parametrize("spread", [1.0, 6.0, 1000.0], ids=["inside", "around", "far outside"])
def test_lookup_equals_the_sampler(planes: int, width: int, spread: float) -> None:
    volume, left, right = example(planes, width)
    noise = torch.rand(2, 1, 2, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    disparity = planes / 2 + spread * planes * (noise - 0.5)
    taps = Geometry(volume, left, right).lookup(disparity)
    assert taps.shape == (2, 2 * (3 + 1) * TAPS, 2, width)
    # the sampler's round trip through -1..1 loses digits far away
    assert torch.allclose(taps, plain_lookup(volume, left, right, disparity), atol=1e-9)


def test_lookup_of_whole_disparities_reads_entries() -> None:
    volume, left, right = example(16, 12)
    taps = Geometry(volume, left, right).lookup(torch.full((2, 1, 2, 12), 6.0, dtype=torch.float64))
    first = taps[:, : 3 * TAPS].reshape(2, 3, TAPS, 2, 12)
    assert torch.allclose(first, volume[:, :, 6 - RADIUS : 6 + RADIUS + 1])


def test_half_of_a_geometry_is_that_of_half_the_batch() -> None:
    volume, left, right = example(8, 6, batch=4)
    disparity = torch.full((2, 1, 2, 6), 2.25, dtype=torch.float64)
    half = Geometry(volume, left, right).half().lookup(disparity)
    assert torch.equal(half, Geometry(volume[:2], left[:2], right[:2]).lookup(disparity))


def test_motion_ends_with_the_disparity_itself() -> None:
    torch.manual_seed(0)
    encoder = MotionEncoder(10, 12, widths=(8, 6))
    disparity = 20 * torch.rand(1, 1, 4, 5)
    motion = encoder(torch.randn(1, 10, 4, 5), disparity)
    assert motion.shape == (1, 12, 4, 5)
    assert torch.equal(motion[:, -1:], disparity)
    assert (motion[:, :-1] >= 0).all()


def test_head_block_adds_what_the_mlp_makes() -> None:
    torch.manual_seed(0)
    block = HeadBlock(4)
    torch.nn.init.normal_(block.gamma)
    features = torch.randn(1, 4, 5, 6)
    mixed = block.mlp(block.dwconv(features).permute(0, 2, 3, 1)) * block.gamma
    assert torch.allclose(block(features), features + mixed.permute(0, 3, 1, 2), atol=1e-6)


def contexts(hidden: int, *, height: int = 8, width: int = 12) -> list[LevelContext]:
    """Contexts of three levels."""
    levels = []
    for level in range(3):
        size = (height >> level, width >> level)
        state = torch.tanh(torch.randn(1, hidden, *size))
        levels.append(LevelContext(state, torch.rand(1, hidden, *size), torch.rand(1, 1, *size)))
    return levels


def test_update_goes_from_coarse_to_fine() -> None:
    torch.manual_seed(0)
    block = UpdateBlock(10, hidden=8, encoder_widths=(6, 4), mask_width=4)
    levels = contexts(8)
    fine, middle, coarse = levels
    costs, disparity = torch.randn(1, 10, 8, 12), 5 * torch.rand(1, 1, 8, 12)

    def enlarged(state: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return F.interpolate(state, size=like.shape[2:], mode="bilinear", align_corners=True)

    def reduced(state: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(state, 3, stride=2, padding=1, count_include_pad=True)

    with torch.no_grad():
        new_coarse = block.grus[2](coarse.state, torch.cat([coarse.inputs, reduced(middle.state)], 1), coarse.attention)
        inputs = torch.cat([middle.inputs, reduced(fine.state), enlarged(new_coarse, middle.state)], 1)
        new_middle = block.grus[1](middle.state, inputs, middle.attention)
        inputs = torch.cat([fine.inputs, block.encoder(costs, disparity), enlarged(new_middle, fine.state)], 1)
        new_fine = block.grus[0](fine.state, inputs, fine.attention)
        states, correction = block(
            [level.state for level in levels],
            [level.attention for level in levels],
            block.prepare(levels),
            costs,
            disparity,
        )
    for state, expected in zip(states, (new_fine, new_middle, new_coarse), strict=True):
        assert torch.allclose(state, expected, atol=1e-6)
    assert torch.allclose(correction, block.disp_head(new_fine), atol=1e-6)


def test_pooling_counts_the_padding() -> None:
    assert torch.allclose(pooled(torch.ones(1, 1, 4, 4))[0, 0, 0], torch.tensor([4 / 9, 6 / 9]))


def test_mask_features_leave_damped() -> None:
    torch.manual_seed(0)
    block = UpdateBlock(10, hidden=8, encoder_widths=(6, 4), mask_width=4)
    state = torch.randn(1, 8, 4, 4)
    assert torch.allclose(block.mask_features(state), block.mask(state) / 4)


def test_upsampling_gives_nine_logits_per_pixel() -> None:
    torch.manual_seed(0)
    upsampling = Upsampling(width=8)
    image_half = upsampling.stem(torch.randn(2, 3, 32, 48))
    assert image_half.shape == (2, 8, 16, 24)
    assert upsampling(torch.randn(2, 8, 8, 12), image_half).shape == (2, 9, 32, 48)
