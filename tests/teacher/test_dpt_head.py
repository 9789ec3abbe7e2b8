"""The head against the published order of its steps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from teacher.dpt_head import DptHead, FusionBlock, resize_aligned
from teacher.vision_transformer import VIT_SIZES


def unit(block: torch.nn.Module, features: torch.Tensor) -> torch.Tensor:
    """ReLU, convolution, ReLU, convolution, plus the input."""
    first, second = block.conv1, block.conv2
    return features + second(F.relu(first(F.relu(features))))


@pytest.mark.parametrize("size", [(10, 14), (12, 7)])
def test_convolution_before_the_resize_equals_the_published_order(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    block = FusionBlock(6, merges=True).double()
    level, path = torch.randn(2, 1, 6, 5, 7, dtype=torch.float64)
    merged = unit(block.unit, path + unit(block.skip_unit, level))
    enlarged = F.interpolate(merged, size=size, mode="bilinear", align_corners=True)
    assert torch.allclose(block(level, path, size), block.out_conv(enlarged), atol=1e-12)


def test_the_coarsest_block_has_no_second_input() -> None:
    block = FusionBlock(4, merges=False)
    assert block.skip_unit is None
    level = torch.randn(1, 4, 3, 3)
    expected = resize_aligned(block.out_conv(unit(block.unit, level)), (6, 6))
    assert torch.allclose(block(level, None, (6, 6)), expected, atol=1e-6)


def test_levels_fuse_from_coarse_to_fine() -> None:
    torch.manual_seed(0)
    size = VIT_SIZES["tiny"]
    head = DptHead(size)
    taps = [torch.randn(1, size.width, 4, 6) for _ in range(4)]
    with torch.no_grad():
        paths = head.pyramid(taps)
        out = head(taps)
        levels = [
            conv(resize(project(tap)))
            for tap, project, resize, conv in zip(
                taps, head.projects, head.resize_layers, head.level_convs, strict=True
            )
        ]
        path = head.fusion[3](levels[3], None, levels[2].shape[2:])
        path = head.fusion[2](levels[2], path, levels[1].shape[2:])
        path = head.fusion[1](levels[1], path, levels[0].shape[2:])
        path = head.fusion[0](levels[0], path, (32, 48))
        expected = F.interpolate(head.output_conv1(path), size=(56, 84), mode="bilinear", align_corners=True)
    assert [tuple(level.shape[2:]) for level in levels] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert [tuple(each.shape[2:]) for each in paths] == [(32, 48), (16, 24), (8, 12), (4, 6)]
    assert torch.equal(paths[0], path)
    assert torch.equal(out, expected)
