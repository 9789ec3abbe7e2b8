"""EdgeNeXt's blocks against plain definitions."""

from __future__ import annotations

import math

import torch
from torch import nn

from teacher.edgenext import (
    ConvBlock,
    CrossCovarianceAttention,
    EdgeNeXt,
    FourierPosition,
    SplitTransposeBlock,
)


def awake(module: nn.Module) -> nn.Module:
    """Weights far from the identity that new blocks start as, always the same."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.eval()


def test_attention_runs_between_channels() -> None:
    layer = CrossCovarianceAttention(16)
    awake(layer)
    tokens = torch.randn(2, 5, 16)
    qkv = layer.qkv(tokens)
    mixed = torch.zeros(2, 5, 16)
    for image in range(2):
        for head in range(8):
            query, key, value = (qkv[image, :, part * 16 + head * 2 : part * 16 + head * 2 + 2].T for part in range(3))
            query, key = (part / part.norm(dim=1, keepdim=True) for part in (query, key))
            weights = torch.softmax(query @ key.T * layer.temperature[head], dim=1)  # channels × channels
            mixed[image, :, 2 * head : 2 * head + 2] = (weights @ value).T
    assert torch.allclose(layer(tokens), layer.proj(mixed), atol=1e-5)


def test_attention_survives_tokens_of_zero() -> None:
    layer = CrossCovarianceAttention(16)
    nn.init.zeros_(layer.qkv.bias)
    assert torch.isfinite(layer(torch.zeros(1, 4, 16))).all()


def test_position_codes_run_over_one_period() -> None:
    codes = FourierPosition(4).codes(5, torch.device("cpu"))
    assert codes.shape == (5, 32)
    for place in range(5):
        for entry in range(32):
            angle = (place + 1) / (5 + 1e-6) * 2 * math.pi / 10000 ** (2 * (entry // 2) / 32)
            expected = math.cos(angle) if entry % 2 else math.sin(angle)
            assert abs(codes[place, entry].item() - expected) < 1e-6


def test_position_has_rows_before_columns() -> None:
    position = FourierPosition(64)
    nn.init.zeros_(position.token_projection.bias)
    position.token_projection.weight.data = torch.eye(64)[:, :, None, None]
    out = position(3, 5)
    assert out.shape == (1, 64, 3, 5)
    assert torch.equal(out[0, :32, :, 2].T, position.codes(3, torch.device("cpu")))
    assert torch.equal(out[0, 32:, 1].T, position.codes(5, torch.device("cpu")))


def test_split_transpose_block_by_the_book() -> None:
    block = SplitTransposeBlock(160, 3, position=True)
    awake(block)
    features = torch.randn(1, 160, 4, 5)
    with torch.no_grad():
        first, second, last = features.split((54, 54, 52), dim=1)
        first = block.convs[0](first)
        second = block.convs[1](second + first)
        assert block.pos_embd is not None
        mixed = torch.cat([first, second, last], dim=1) + block.pos_embd(4, 5)
        tokens = mixed.permute(0, 2, 3, 1).reshape(1, 20, 160)
        tokens = tokens + block.gamma_xca * block.xca(block.norm_xca(tokens))
        expected = features + (block.gamma * block.mlp(tokens)).reshape(1, 4, 5, 160).permute(0, 3, 1, 2)
        out = block(features)
    # the MLP multiplies values of some hundreds here
    assert torch.allclose(out, expected, rtol=1e-4, atol=1e-3)


def test_conv_block_adds_what_the_mlp_makes() -> None:
    block = ConvBlock(6, 5)
    awake(block)
    features = torch.randn(2, 6, 7, 4)
    expected = features.clone()
    mixed = block.conv_dw(features)
    for row in range(7):
        for column in range(4):
            expected[:, :, row, column] += block.gamma * block.mlp(mixed[:, :, row, column])
    assert torch.allclose(block(features), expected, atol=1e-4)


def test_new_blocks_are_nearly_the_identity() -> None:
    torch.manual_seed(0)
    features = torch.randn(1, 16, 6, 6)
    for block in (ConvBlock(16, 3), SplitTransposeBlock(16, 2, position=True)):
        assert (block(features) - features).abs().max() < 1e-4


def test_levels_halve_and_the_last_blocks_attend() -> None:
    network = EdgeNeXt((8, 16, 24, 32), (1, 2, 2, 2))
    levels = network(torch.randn(1, 3, 64, 96))
    assert [tuple(level.shape[1:]) for level in levels] == [(8, 16, 24), (16, 8, 12), (24, 4, 6), (32, 2, 3)]
    attending = [[isinstance(block, SplitTransposeBlock) for block in stage.children()] for stage in network.stages]
    assert attending == [[False], [False, True], [False, True], [False, True]]
    blocks = [block for block in network.modules() if isinstance(block, SplitTransposeBlock)]
    assert [block.pos_embd is not None for block in blocks] == [True, False, False]
