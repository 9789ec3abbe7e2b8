"""Stages of a training: which block has which crops, whatever the process and the point of resuming."""

from __future__ import annotations

import pytest
import torch

from distill.batches import TENSORS, join
from distill.config import DataOptions, Stage
from distill.curriculum import BatchShape, Curriculum
from distill.data import open_batches
from stereo.errors import UserError

STAGES = [Stage(0.3, "64x64", 4), Stage(0.5, "64x96")]
OPTIONS = DataOptions(crop="32x64", batch_size=2, block=3, workers=0, stages=STAGES)


def test_a_stage_begins_with_the_first_block_after_its_share() -> None:
    curriculum = Curriculum(OPTIONS, steps=20)  # stages begin at steps 6 and 10, blocks at 0, 3, 6, 9, 12, …
    small, square, wide = BatchShape((32, 64), 2), BatchShape((64, 64), 4), BatchShape((64, 96), 4)
    assert [curriculum.shape(block) for block in range(7)] == [small, small, square, square, wide, wide, wide]
    assert [curriculum.pairs(steps) for steps in (0, 5, 6, 7, 20)] == [0, 10, 12, 16, 12 + 14 * 4]


def test_batches_follow_and_go_on_in_the_middle_of_a_stage() -> None:
    whole = list(open_batches(OPTIONS, max_disp=32, seed=0, steps=14))
    # stages begin at steps 4.2 and 7: blocks 2 (step 6) and 3 (step 9)
    shapes = [tuple(batch.left.shape) for batch in whole]
    assert shapes == [(2, 3, 32, 64)] * 6 + [(4, 3, 64, 64)] * 3 + [(4, 3, 64, 96)] * 5
    rest = list(open_batches(OPTIONS, max_disp=32, seed=0, steps=14, start=7))
    assert [batch.names for batch in rest] == [batch.names for batch in whole[7:]]
    assert all(torch.equal(one.left, other.left) for one, other in zip(rest, whole[7:], strict=True))


@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_share_the_batches_of_one(world: int) -> None:
    options = DataOptions(crop="32x64", batch_size=8, block=2, workers=0, lanes=4)
    alone = list(open_batches(options, max_disp=32, seed=1, steps=3))
    shared = [open_batches(options, max_disp=32, seed=1, steps=3, rank=rank, world=world) for rank in range(world)]
    for one, *parts in zip(alone, *shared, strict=True):
        assert all(len(part.names) == 8 // world for part in parts)
        together = join(parts)
        assert together.names == one.names
        assert all(torch.equal(getattr(together, name), getattr(one, name)) for name in TENSORS)


@pytest.mark.parametrize(
    ("changes", "world", "message"),
    [
        ({"stages": [Stage(0.5, "64x64"), Stage(0.4, "64x96")]}, 1, "starts at 0.4, the one before at 0.5"),
        ({"stages": [Stage(1.5, "64x64")]}, 1, "starts at 1.5"),
        ({"stages": [Stage(0.5, "60x64")]}, 1, r"--data\.stages.*multiples of 32"),
        ({"crop": "60x64"}, 1, r"--data\.crop.*multiples of 32"),
        ({"stages": [Stage(0.5, "64x64", 0)]}, 1, "batch_size 0"),
        ({"lanes": 3}, 2, "2 processes cannot share 3 lanes"),
        ({"lanes": 4}, 2, "4 lanes, but 2 pairs"),
        ({"stages": [Stage(0.5, "64x64", 1)]}, 2, "2 lanes, but 1 pairs"),
    ],
)
def test_what_cannot_be_is_told(changes: dict[str, object], world: int, message: str) -> None:
    options = DataOptions(**{"crop": "32x64", "batch_size": 2, "workers": 0, **changes})  # type: ignore[arg-type]
    with pytest.raises(UserError, match=message):
        open_batches(options, max_disp=32, seed=0, steps=20, world=world)
