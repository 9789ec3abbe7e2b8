"""The smaller blocks against their plain definitions."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from teacher.blocks.axial_planar_convolution import AxialPlanarConv
from teacher.blocks.convex_upsampling import convex_upsample
from teacher.blocks.disparity_transformer import DisparityTransformer, sinusoidal_positions, upsample_volume
from teacher.blocks.selective_gru import SelectiveConvGRU
from teacher.blocks.soft_argmin import soft_argmin


def test_axial_planar_forms_agree_in_training_too() -> None:
    torch.manual_seed(0)
    block = AxialPlanarConv(4, 6, disparity_kernel=5, bias=True).train()
    volume = torch.randn(2, 4, 7, 5, 6)
    plain = block(volume)
    block.form = "conv2d"
    assert torch.allclose(block(volume), plain, atol=1e-5)


def test_upsample_volume_is_trilinear() -> None:
    volume = torch.randn(2, 3, 4, 5, 6)
    expected = F.interpolate(volume, scale_factor=2, mode="trilinear", align_corners=False)
    assert torch.allclose(upsample_volume(volume, 2), expected, atol=1e-5)


def test_transformer_attends_along_disparity_only() -> None:
    torch.manual_seed(0)
    block = DisparityTransformer(8, patch=1, layers=2, heads=2).eval()
    volume = torch.randn(1, 8, 6, 2, 2)
    changed = volume.clone()
    changed[:, :, 5, 0, 0] += 1
    with torch.no_grad():
        difference = (block(changed) - block(volume)).abs().sum(dim=1)[0]
    assert (difference[:, 0, 0] > 1e-6).all()  # every plane of the pixel hears of it
    assert difference[:, 0, 1].max() < 1e-6  # no other pixel does
    assert difference[:, 1].max() < 1e-6


def test_position_codes_alternate_sine_and_cosine() -> None:
    codes = sinusoidal_positions(3, 4)
    assert torch.allclose(codes[0], torch.tensor([0.0, 1.0, 0.0, 1.0]))
    assert torch.allclose(codes[2, :2], torch.tensor([2.0]).sin().new_tensor([0.9092974, -0.4161468]))


def test_soft_argmin_equals_the_softmax_expectation() -> None:
    scores = 30 * torch.randn(2, 9, 3, 4)
    planes = torch.arange(9.0)[None, :, None, None]
    expected = (scores.softmax(dim=1) * planes).sum(dim=1, keepdim=True)
    assert torch.allclose(soft_argmin(scores), expected, atol=1e-4)


def test_convex_upsampling_equals_softmax_and_unfold() -> None:
    torch.manual_seed(0)
    disparity, logits = torch.rand(1, 1, 3, 4) * 20, torch.randn(1, 9 * 4, 3, 4)
    weights = logits.reshape(1, 9, 4, 3, 4).softmax(dim=1)
    patches = F.unfold(F.pad(2 * disparity, (1, 1, 1, 1), mode="replicate"), 3).reshape(1, 9, 1, 3, 4)
    expected = F.pixel_shuffle((weights * patches).sum(dim=1), 2)
    assert torch.allclose(convex_upsample(disparity, logits, scale=2), expected, atol=1e-5)


def test_selective_gru_blends_its_two_kernels() -> None:
    torch.manual_seed(0)
    gru = SelectiveConvGRU(4, 6)
    state, inputs = torch.randn(1, 4, 5, 5), torch.randn(1, 6, 5, 5)
    small = gru(state, inputs, torch.ones(1, 1, 5, 5))
    large = gru(state, inputs, torch.zeros(1, 1, 5, 5))
    half = gru(state, inputs, torch.full((1, 1, 5, 5), 0.5))
    assert torch.allclose(half, (small + large) / 2, atol=1e-6)
    assert (small - large).abs().max() > 1e-3
