"""The order in which the frames of packed label sets are drawn: a pure function of seed and draw number.

Draws go through the frames in passes; each pass has every frame once. Frames that are drawn near one another lie in the
same few shards, so that these are fetched once and then read in full. A pass shuffles the shards and cuts them into
groups; the frames of a group's shards are shuffled together. Because any draw can be computed without those before it,
processes that take different draws share no frame, and a resumed training goes on with the draws that it had not seen.
"""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

# Shards whose frames are shuffled together.
MIXED_SHARDS = 4

Key = TypeVar("Key")
Value = TypeVar("Value")


def remembered(known: dict[Key, Value], key: Key, make: Callable[[Key], Value]) -> Value:
    """What is known of a key, or made now; draws next to one another need the same, so two are remembered."""
    if key not in known:
        while len(known) > 1:
            del known[next(iter(known))]
        known[key] = make(key)
    return known[key]


class DrawOrder:
    """Which frame each draw takes.

    Args:
        shard_frames: frames of each shard; the frames are counted through all of them, one shard after the other.
        seed: of the shuffling.
        mixed: shards whose frames are shuffled together.
    """

    def __init__(self, shard_frames: Sequence[int], *, seed: int, mixed: int = MIXED_SHARDS) -> None:
        self._frames, self._seed, self._mixed = shard_frames, seed, mixed
        self._starts = [0, *itertools.accumulate(shard_frames)]
        self._passes: dict[int, tuple[list[int], list[int]]] = {}
        self._groups: dict[tuple[int, int], list[int]] = {}

    def __len__(self) -> int:
        """Frames, which is the draws of a pass."""
        return self._starts[-1]

    def frame(self, draw: int) -> int:
        """The frame that a draw takes."""
        number, group, place = self._locate(draw)
        return remembered(self._groups, (number, group), self._shuffle_frames)[place]

    def shards_after(self, draw: int) -> list[int]:
        """The shards that will be needed when those of a draw are through."""
        number, group, _ = self._locate(draw)
        shards, ends = remembered(self._passes, number, self._shuffle_shards)
        if group + 1 == len(ends):
            shards, group = remembered(self._passes, number + 1, self._shuffle_shards)[0], -1
        return shards[(group + 1) * self._mixed : (group + 2) * self._mixed]

    def _locate(self, draw: int) -> tuple[int, int, int]:
        """Pass, group, and place in the group of a draw."""
        number, place = divmod(draw, len(self))
        _, ends = remembered(self._passes, number, self._shuffle_shards)
        group = bisect.bisect_right(ends, place)
        return number, group, place - (ends[group - 1] if group else 0)

    def _shuffle_shards(self, number: int) -> tuple[list[int], list[int]]:
        """Shards in the order of a pass, and the draw of the pass at which each group ends."""
        shards = list(range(len(self._frames)))
        random.Random(f"{self._seed} {number}").shuffle(shards)
        ends = list(itertools.accumulate(self._frames[shard] for shard in shards))
        return shards, [*ends[self._mixed - 1 : -1 : self._mixed], ends[-1]]

    def _shuffle_frames(self, key: tuple[int, int]) -> list[int]:
        """Frames of a group of a pass, in the order they are drawn."""
        number, group = key
        shards, _ = remembered(self._passes, number, self._shuffle_shards)
        chosen = shards[group * self._mixed : (group + 1) * self._mixed]
        frames = [frame for shard in chosen for frame in range(self._starts[shard], self._starts[shard + 1])]
        random.Random(f"{self._seed} {number} {group}").shuffle(frames)
        return frames
