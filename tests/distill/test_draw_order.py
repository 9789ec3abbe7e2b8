"""Draws of packed sets: every frame once a pass, shuffled, computed from the number of the draw alone."""

from __future__ import annotations

import pytest

from distill.draw_order import DrawOrder

SHARDS = [5, 3, 7, 1, 4, 6, 2]
FRAMES = sum(SHARDS)


def shard_of(frame: int) -> int:
    ends = [sum(SHARDS[: shard + 1]) for shard in range(len(SHARDS))]
    return next(shard for shard, end in enumerate(ends) if frame < end)


@pytest.mark.parametrize("mixed", [1, 2, 3, 7, 50])
def test_a_pass_has_every_frame_once(mixed: int) -> None:
    order = DrawOrder(SHARDS, seed=1, mixed=mixed)
    assert len(order) == FRAMES
    for number in range(3):
        drawn = [order.frame(number * FRAMES + place) for place in range(FRAMES)]
        assert sorted(drawn) == list(range(FRAMES))


def test_draws_near_one_another_need_few_shards() -> None:
    order = DrawOrder(SHARDS, seed=2, mixed=2)
    shards = [shard_of(order.frame(draw)) for draw in range(FRAMES)]
    first = {shard: shards.index(shard) for shard in set(shards)}
    last = {shard: FRAMES - 1 - shards[::-1].index(shard) for shard in set(shards)}
    for draw in range(FRAMES):
        assert sum(first[shard] <= draw <= last[shard] for shard in first) <= 2
    groups = [set(shards[place : place + 5]) for place in range(FRAMES - 5)]
    assert any(len(group) > 1 for group in groups), "frames of several shards are mixed"


def test_a_draw_does_not_depend_on_those_before_it() -> None:
    together = DrawOrder(SHARDS, seed=3, mixed=2)
    in_order = [together.frame(draw) for draw in range(3 * FRAMES)]
    assert [DrawOrder(SHARDS, seed=3, mixed=2).frame(draw) for draw in range(3 * FRAMES)] == in_order
    assert [together.frame(draw) for draw in reversed(range(3 * FRAMES))] == in_order[::-1]


def test_the_next_shards_are_known() -> None:
    order = DrawOrder(SHARDS, seed=4, mixed=3)
    coming, now = order.shards_after(0), set(range(len(SHARDS)))
    for draw in range(2 * FRAMES):
        if order.shards_after(draw) != coming:
            coming, now = order.shards_after(draw), set(coming)
        assert shard_of(order.frame(draw)) in now


def test_passes_and_seeds_differ() -> None:
    orders = {
        tuple(DrawOrder(SHARDS, seed=seed).frame(number * FRAMES + place) for place in range(FRAMES))
        for seed in (0, 1)
        for number in (0, 1)
    }
    assert len(orders) == 4
