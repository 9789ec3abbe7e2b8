"""The ViT against plain definitions."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from teacher.vision_transformer import TABLE_EDGE, VIT_SIZES, Block, SelfAttention, VisionTransformer


@pytest.fixture(scope="module")
def tiny() -> VisionTransformer:
    torch.manual_seed(0)
    vit = VisionTransformer(VIT_SIZES["tiny"]).eval()
    torch.nn.init.normal_(vit.cls_token)
    torch.nn.init.normal_(vit.pos_embed)
    return vit


def cubic_weight(distance: float) -> float:
    """Keys' cubic kernel with a = -0.75, as torch and OpenCV have it."""
    a, x = -0.75, abs(distance)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def resize_matrix(count: int) -> torch.Tensor:
    """(count, 37): bicubic sampling of the table at the places that a scale of (count + 0.1) / 37 gives."""
    matrix = torch.zeros(count, TABLE_EDGE, dtype=torch.float64)
    for place in range(count):
        source = (place + 0.5) * TABLE_EDGE / (count + 0.1) - 0.5
        for entry in range(math.floor(source) - 1, math.floor(source) + 3):
            matrix[place, min(max(entry, 0), TABLE_EDGE - 1)] += cubic_weight(source - entry)
    return matrix


@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (24, 56), (37, 40), (96, 8)])
def test_positions_are_sampled_with_the_published_offset(rows: int, columns: int, tiny: VisionTransformer) -> None:
    table = tiny.pos_embed[0, 1:].detach().double().reshape(TABLE_EDGE, TABLE_EDGE, -1)
    expected = torch.einsum("rt,tsc,ks->rkc", resize_matrix(rows), table, resize_matrix(columns))
    positions = tiny.positions(rows, columns).detach()
    assert positions.shape == (1, 1 + rows * columns, 64)
    assert torch.equal(positions[:, 0], tiny.pos_embed[:, 0])
    # torch computes its sampling places in float32: 1e-5 of a patch, on a table with slopes of a few units
    assert torch.allclose(positions[0, 1:].double(), expected.flatten(0, 1), atol=2e-4)


def test_positions_of_the_learnt_grid_are_the_table(tiny: VisionTransformer) -> None:
    assert torch.equal(tiny.positions(TABLE_EDGE, TABLE_EDGE), tiny.pos_embed)


def test_positions_fit_every_grid_there_can_be(tiny: VisionTransformer) -> None:
    for rows in range(8, 97, 8):
        for columns in range(8, 97, 8):
            assert tiny.positions(rows, columns).shape[1] == 1 + rows * columns


def test_attention_is_softmax_attention() -> None:
    torch.manual_seed(0)
    layer = SelfAttention(12, heads=3)
    tokens = torch.randn(2, 5, 12)
    parts = F.linear(tokens, layer.qkv.weight, layer.qkv.bias).chunk(3, dim=2)
    query, key, value = (part.reshape(2, 5, 3, 4).transpose(1, 2) for part in parts)
    weights = (query @ key.transpose(2, 3) / math.sqrt(4)).softmax(dim=-1)
    expected = layer.proj((weights @ value).transpose(1, 2).reshape(2, 5, 12))
    assert torch.allclose(layer(tokens), expected, atol=1e-6)


def test_block_is_pre_norm_with_layer_scale() -> None:
    torch.manual_seed(0)
    block = Block(8, heads=2)
    torch.nn.init.normal_(block.ls1.gamma)
    torch.nn.init.normal_(block.ls2.gamma)
    tokens = torch.randn(1, 4, 8)
    middle = tokens + block.ls1.gamma * block.attn(block.norm1(tokens))
    expected = middle + block.ls2.gamma * block.mlp(block.norm2(middle))
    assert torch.allclose(block(tokens), expected, atol=1e-6)
    assert block.norm1.eps == block.norm2.eps == 1e-6


def test_taps_are_normed_patch_tokens_of_the_named_blocks(tiny: VisionTransformer) -> None:
    images = torch.randn(2, 3, 14 * 8, 14 * 16)
    with torch.no_grad():
        taps = tiny(images)
        patches = tiny.patch_embed(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([tiny.cls_token.expand(2, -1, -1), patches], dim=1) + tiny.positions(8, 16)
        expected = []
        for block in tiny.blocks:
            tokens = block(tokens)
            expected.append(tiny.norm(tokens)[:, 1:])  # the tiny one taps all of its blocks
    for tap, tokens in zip(taps, expected, strict=True):
        assert tap.shape == (2, 64, 8, 16)
        assert torch.allclose(tap.flatten(2).transpose(1, 2), tokens, atol=1e-6)
