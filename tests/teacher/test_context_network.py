"""The context network: ranges, sharing, and how the monocular features come in."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from teacher.context_network import ContextNetwork


def network(mono: int) -> ContextNetwork:
    torch.manual_seed(0)
    return ContextNetwork(mono, hidden=16, widths=(8, 12, 16)).eval()


def inputs(mono: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    torch.manual_seed(1)
    return torch.randn(2, 3, 64, 96), torch.randn(2, mono, 16, 24) if mono else None


@pytest.mark.parametrize("mono", [0, 6])
def test_three_levels_with_their_ranges(mono: int) -> None:
    with torch.no_grad():
        levels = network(mono)(*inputs(mono))
    assert len(levels) == 3
    for number, level in enumerate(levels):
        size = (16 >> number, 24 >> number)
        assert level.state.shape == level.inputs.shape == (2, 16, *size)
        assert level.attention.shape == (2, 1, *size)
        assert level.state.abs().max() < 1
        assert level.inputs.min() >= 0
        assert level.attention.min() > 0
        assert level.attention.max() < 1


def test_levels_by_the_book() -> None:
    context = network(6)
    images, mono = inputs(6)
    assert mono is not None
    with torch.no_grad():
        quarter = context.join(torch.cat([context.stem(images), mono], dim=1))
        eighth = context.down[0](quarter)
        features = [quarter, eighth, context.down[1](eighth)]
        for head, feature, level in zip(context.heads, features, context(images, mono), strict=True):
            given = F.relu(head.inputs(feature))
            # one channel and one spatial attention serve all levels; the latter sees what the former has weighed
            hidden = context.cam.mlp
            weights = torch.sigmoid(hidden(F.adaptive_avg_pool2d(given, 1)) + hidden(F.adaptive_max_pool2d(given, 1)))
            given = given * weights
            stacked = torch.stack([given.mean(dim=1), given.max(dim=1).values], dim=1)
            assert torch.allclose(level.state, torch.tanh(head.state(feature)), atol=1e-6)
            assert torch.allclose(level.inputs, given, atol=1e-6)
            assert torch.allclose(level.attention, torch.sigmoid(context.sam.conv(stacked)), atol=1e-6)


def test_monocular_features_reach_every_level() -> None:
    context = network(6)
    images, mono = inputs(6)
    assert mono is not None
    with torch.no_grad():
        before, after = context(images, mono), context(images, mono + 1)
    for first, second in zip(before, after, strict=True):
        assert not torch.allclose(first.state, second.state)


def test_the_coarsest_level_has_a_plain_head() -> None:
    context = network(0)
    assert [len(head.state) for head in context.heads] == [2, 2, 1]
