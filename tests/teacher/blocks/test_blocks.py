"""The smaller blocks against their plain definitions."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from teacher.blocks.axial_planar_convolution import AxialPlanarConv
from teacher.blocks.convex_upsampling import convex_upsample, superpixel_upsample
from teacher.blocks.convolution import EncoderBlock, ResidualBlock, UpConvNormAct
from teacher.blocks.disparity_transformer import (
    AttentionAxis,
    DisparityTransformer,
    TransformerLayer,
    sinusoidal_positions,
    upsample_volume,
)
from teacher.blocks.precision import full_precision
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


@pytest.mark.parametrize("axis", ["disparity", "heads"])
def test_attention_equals_its_explicit_form(axis: AttentionAxis) -> None:
    torch.manual_seed(0)
    layer = TransformerLayer(12, heads=3, feed_forward=10, axis=axis).eval()
    tokens = torch.randn(2, 5, 12)
    query, key, value = (part(tokens).reshape(2, 5, 3, 4) for part in (layer.query, layer.key, layer.value))
    mixed = torch.zeros(2, 5, 3, 4)
    for sequence in range(2):
        # one attention per head over the planes, or one per plane over the heads
        for index in range(3 if axis == "disparity" else 5):
            place = (sequence, slice(None), index) if axis == "disparity" else (sequence, index)
            weights = torch.softmax(query[place] @ key[place].T / math.sqrt(4), dim=1)
            mixed[place] = weights @ value[place]
    attended = layer.norm1(tokens + layer.out(mixed.reshape(2, 5, 12)))
    hidden = layer.expand(attended)
    gelu = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    expected = layer.norm2(attended + layer.contract(gelu))
    assert torch.allclose(layer(tokens), expected, atol=1e-5)


def test_attention_over_heads_keeps_the_planes_apart() -> None:
    torch.manual_seed(0)
    block = DisparityTransformer(8, patch=1, layers=2, heads=2, axis="heads").eval()
    volume = torch.randn(1, 8, 6, 2, 2)
    changed = volume.clone()
    changed[:, :, 5, 0, 0] += 1
    with torch.no_grad():
        difference = (block(changed) - block(volume)).abs().sum(dim=1)[0]
    assert difference[5, 0, 0] > 1e-3
    difference[5, 0, 0] = 0
    assert difference.max() < 1e-6


def test_dropout_is_for_training_only() -> None:
    torch.manual_seed(0)
    layer = TransformerLayer(8, heads=2, feed_forward=8, dropout=0.5)
    tokens = torch.randn(2, 4, 8)
    assert not torch.equal(layer(tokens), layer(tokens))
    layer.eval()
    assert torch.equal(layer(tokens), layer(tokens))


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


@pytest.mark.parametrize("scale", [2, 4])
def test_superpixel_upsampling_equals_the_loop(scale: int) -> None:
    torch.manual_seed(0)
    height, width = 3, 4
    disparity = 20 * torch.rand(2, 1, height, width)
    logits = torch.randn(2, 9, height * scale, width * scale)
    weights = logits.softmax(dim=1)
    expected = torch.zeros(2, 1, height * scale, width * scale)
    for row in range(height * scale):
        for column in range(width * scale):
            for number in range(9):
                y, x = row // scale + number // 3 - 1, column // scale + number % 3 - 1
                if 0 <= y < height and 0 <= x < width:  # zeros beyond the border
                    expected[:, 0, row, column] += weights[:, number, row, column] * scale * disparity[:, 0, y, x]
    assert torch.allclose(superpixel_upsample(disparity, logits, scale=scale), expected, atol=1e-4)


def test_superpixel_upsampling_equals_unfold_and_nearest() -> None:
    torch.manual_seed(0)
    disparity, logits = 50 * torch.rand(2, 1, 6, 5), 10 * torch.randn(2, 9, 24, 20)
    patches = F.unfold(4 * disparity, 3, padding=1).reshape(2, 9, 6, 5)
    patches = F.interpolate(patches, scale_factor=4, mode="nearest")
    expected = (logits.softmax(dim=1) * patches).sum(dim=1, keepdim=True)
    assert torch.allclose(superpixel_upsample(disparity, logits, scale=4), expected, atol=1e-4)


def test_selective_gru_blends_its_two_kernels() -> None:
    torch.manual_seed(0)
    gru = SelectiveConvGRU(4, 6)
    state, inputs = torch.randn(1, 4, 5, 5), torch.randn(1, 6, 5, 5)
    small = gru(state, inputs, torch.ones(1, 1, 5, 5))
    large = gru(state, inputs, torch.zeros(1, 1, 5, 5))
    half = gru(state, inputs, torch.full((1, 1, 5, 5), 0.5))
    assert torch.allclose(half, (small + large) / 2, atol=1e-6)
    assert (small - large).abs().max() > 1e-3


@pytest.mark.parametrize("width", [None, 5])
@pytest.mark.parametrize("constant", [1, 4])
def test_prepared_inputs_change_nothing(width: int | None, constant: int) -> None:
    torch.manual_seed(0)
    gru = SelectiveConvGRU(4, 6, width=width).double()
    state, inputs = torch.randn(2, 4, 5, 7).double(), torch.randn(2, 6, 5, 7).double()
    attention = torch.rand(2, 1, 5, 7).double()
    prepared = gru.prepare(inputs[:, :constant])
    kept = prepared.clone()
    assert torch.allclose(
        gru(state, inputs[:, constant:], attention, prepared), gru(state, inputs, attention), atol=1e-12
    )
    assert torch.equal(prepared, kept)  # it serves all iterations


def test_gru_by_the_book() -> None:
    torch.manual_seed(0)
    gru = SelectiveConvGRU(4, 6)
    state, inputs = torch.randn(1, 4, 5, 5), torch.randn(1, 6, 5, 5)
    given = F.relu(gru.conv0[0](inputs))
    mixed = F.relu(gru.conv1[0](torch.cat([given, state], dim=1)))
    for cell, attention in ((gru.small_gru, 1.0), (gru.large_gru, 0.0)):
        update, reset = torch.sigmoid(cell.gates(mixed)).split(4, dim=1)
        candidate = torch.tanh(cell.candidate(torch.cat([reset * state, given], dim=1)))
        expected = (1 - update) * state + update * candidate
        assert torch.allclose(gru(state, inputs, torch.full((1, 1, 5, 5), attention)), expected, atol=1e-6)


def test_residual_blocks_by_the_book() -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 4, 6, 6)
    basic = ResidualBlock(2, 4, norm="instance")
    branch = F.instance_norm(basic.conv1[0](features)).relu()
    branch = F.instance_norm(basic.conv2[0](branch))
    assert torch.allclose(basic(features), F.relu(features + branch), atol=1e-5)
    encoder = EncoderBlock(4, 6, stride=2, norm="instance")
    branch = F.instance_norm(encoder.conv1[0](features)).relu()
    branch = F.instance_norm(encoder.conv2[0](branch)).relu()  # its branch ends in a ReLU
    shortcut = F.instance_norm(encoder.shortcut[0](features))
    assert torch.allclose(encoder(features), F.relu(shortcut + branch), atol=1e-5)
    assert encoder.conv1[0].bias is not None
    assert basic.conv1[0].bias is None


@pytest.mark.parametrize("dimensions", [2, 3])
def test_up_convolution_doubles_every_axis(dimensions: int) -> None:
    block = UpConvNormAct(dimensions, 4, 6)
    size = (2, 3, 5)[:dimensions]
    assert block(torch.randn(1, 4, *size)).shape == (1, 6, *(2 * edge for edge in size))


def test_full_precision_leaves_float64() -> None:
    for given, expected in (
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ):
        assert full_precision(torch.zeros(1, dtype=given)).dtype == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_step_up_where_it_matters(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    scores, disparity = (8 * torch.randn(1, 16, 3, 4)).to(dtype), (50 * torch.rand(1, 1, 3, 4)).to(dtype)
    logits, masks = torch.randn(1, 9, 12, 16).to(dtype), torch.randn(1, 9 * 16, 3, 4).to(dtype)
    for step, inputs in (
        (soft_argmin, (scores,)),
        (lambda *given: superpixel_upsample(*given, scale=4), (disparity, logits)),
        (lambda *given: convex_upsample(*given, scale=4), (disparity, masks)),
    ):
        with torch.autocast("cpu", dtype):
            got = step(*inputs)
        assert got.dtype == torch.float32
        assert torch.equal(got, step(*(tensor.float() for tensor in inputs)))
