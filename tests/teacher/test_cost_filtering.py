"""Volume, hourglass and classifier: the order of steps, and the ablations of it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from teacher.blocks.axial_planar_convolution import AxialPlanarConv
from teacher.cost_filtering import CostFiltering, CostHourglass, FilterKind, ScoreConv
from teacher.side_tuning import Features


def features(batch: int = 1, channels: tuple[int, int, int, int] = (16, 8, 10, 12)) -> Features:
    levels = [torch.randn(batch, count, 16 >> level, 24 >> level) for level, count in enumerate(channels)]
    return Features.of(levels, None)


def hourglass(**options: object) -> CostHourglass:
    torch.manual_seed(0)
    return CostHourglass(8, (8, 10, 12), disparity_kernel=5, **options).eval()  # pyright: ignore[reportArgumentType]


def test_hourglass_by_the_book() -> None:
    block = hourglass(transformer_layers=2)
    image, volume = features(), torch.randn(1, 8, 16, 16, 24)
    with torch.no_grad():
        eighth = block.gate_down[0](block.down[0](volume), image.eighth)
        sixteenth = block.gate_down[1](block.down[1](eighth), image.sixteenth)
        out = block.gate_down[2](block.down[2](sixteenth), image.thirtysecond)
        for stage, skip, gate in (
            (block.up_stages[1], sixteenth, image.sixteenth),
            (block.up_stages[0], eighth, image.eighth),
        ):
            out = stage.gate(stage.merge(torch.cat([stage.up(out), skip], dim=1)), gate)
        assert block.transformer is not None
        attended = block.transformer.attend(volume)
        assert attended.shape == (1, 8, 4, 4, 6)
        # the transformer sees the hourglass's input
        enlarged = F.interpolate(attended, scale_factor=4, mode="trilinear", align_corners=False)
        expected = block.finish(block.up(out) + enlarged)
        got = block(volume, image)
    assert got.shape == volume.shape
    assert torch.allclose(got, expected, atol=1e-4)


def test_without_layers_there_is_no_transformer() -> None:
    block = hourglass(transformer_layers=0)
    assert block.transformer is None
    assert not any("transformer" in name for name in block.state_dict())
    assert block(torch.randn(1, 8, 16, 16, 24), features()).shape == (1, 8, 16, 16, 24)


@pytest.mark.parametrize("kind", ["apc", "3x3x3"])
def test_kind_of_filter(kind: FilterKind) -> None:
    block = hourglass(kind=kind)
    axial = [module for module in block.modules() if isinstance(module, AxialPlanarConv)]
    # three on the way down, two on each of two on the way up, two at the end
    assert len(axial) == (9 if kind == "apc" else 0)
    plain = [
        module
        for module in block.modules()
        if isinstance(module, torch.nn.Conv3d) and module.kernel_size == (3, 3, 3) and module.stride == (1, 1, 1)
    ]
    assert len(plain) == (0 if kind == "apc" else 9)
    assert block(torch.randn(1, 8, 16, 16, 24), features()).shape == (1, 8, 16, 16, 24)


def test_filtering_by_the_book() -> None:
    torch.manual_seed(0)
    filtering = CostFiltering((16, 8, 10, 12), width=8, groups=4, concat_channels=2, disparity_kernel=5).eval()
    left, right = features(), features()
    with torch.no_grad():
        volume = filtering.stem(filtering.cost_volume(left.quarter, right.quarter, planes=16))
        volume = filtering.hourglass(filtering.stem_gate(volume, left.quarter), left)
        got = filtering(left, right, planes=16)
        disparity = filtering.initial_disparity(got)
        weights = filtering.classifier(got)[:, 0].softmax(dim=1)
        expected = (weights * torch.arange(16.0)[None, :, None, None]).sum(dim=1, keepdim=True)
    assert got.shape == (1, 8, 16, 16, 24)
    assert torch.allclose(got, volume, atol=1e-4)
    assert torch.allclose(disparity, expected, atol=1e-4)


def test_more_planes_than_columns() -> None:
    torch.manual_seed(0)
    filtering = CostFiltering((16, 8, 10, 12), width=8, groups=4, concat_channels=2, disparity_kernel=5).eval()
    out = filtering(features(), features(), planes=32)
    assert out.shape == (1, 8, 32, 16, 24)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize(("planes", "kernel"), [(16, 7), (5, 7), (9, 3)])
def test_scores_equal_those_of_one_convolution(planes: int, kernel: int) -> None:
    torch.manual_seed(0)
    conv = ScoreConv(6, kernel=kernel).double()
    volume = torch.randn(2, 6, planes, 5, 8, dtype=torch.float64)
    expected = F.conv3d(volume, conv.weight, conv.bias, padding=kernel // 2)
    assert torch.allclose(conv(volume), expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scores_in_half_are_as_close_as_those_of_one_convolution(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    conv, volume = ScoreConv(14, kernel=7).to(dtype), torch.randn(1, 14, 16, 12, 16).to(dtype)
    assert conv.bias is not None
    with torch.no_grad():
        exact = F.conv3d(volume.double(), conv.weight.double(), conv.bias.double(), padding=3)
        plain = F.conv3d(volume, conv.weight, conv.bias, padding=3)
        errors = [(scores.double() - exact).square().mean().sqrt() for scores in (conv(volume), plain)]
    # seven parts are rounded where one sum was: parts are sqrt(7) smaller, and their errors add up to the same
    assert errors[0] < 1.1 * errors[1]
