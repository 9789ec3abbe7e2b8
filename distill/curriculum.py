"""Crop and batch size over the course of a training: small crops first, which are cheap, large ones later.

A stage begins with a block of batches (see `distill.data`), so that a block is a pure function of its number, and a
resumed run goes on in the middle of any stage.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from distill.config import DataOptions
from stereo.errors import UserError
from stereo.options import parse_size
from student.model import SIZE_MULTIPLE


class BatchShape(NamedTuple):
    """Crop and number of pairs of a batch, all processes together."""

    crop: tuple[int, int]  # height, width
    pairs: int


class Curriculum:
    """The shape of every block's batches.

    Args:
        options: first crop and batch size, and the stages.
        steps: of the whole training.

    Raises:
        UserError: stages out of order or out of range.
    """

    def __init__(self, options: DataOptions, *, steps: int) -> None:
        self.block = options.block
        first = BatchShape(parse_size(options.crop, multiple=SIZE_MULTIPLE, option="--data.crop"), options.batch_size)
        self.stages: list[tuple[float, BatchShape]] = [(0.0, first)]
        for stage in options.stages:
            before, shape = self.stages[-1]
            if not before <= stage.start <= 1:
                raise UserError(f"a stage starts at {stage.start}, the one before at {before:g}",
                                where="--data.stages", fix="growing shares of the steps, 0 to 1")  # fmt: skip
            pairs = shape.pairs if stage.batch_size is None else stage.batch_size
            if pairs < 1:
                raise UserError(f"batch_size {pairs} is less than 1", where="--data.stages", fix="leave it out")
            self.stages.append(
                (stage.start, BatchShape(parse_size(stage.crop, multiple=SIZE_MULTIPLE, option="--data.stages"), pairs))
            )
        self._begins = [share * steps for share, _ in self.stages]

    def shape(self, block: int) -> BatchShape:
        """Of a block's batches: that of the last stage that has begun by its first step."""
        step = block * self.block
        return [shape for begin, (_, shape) in zip(self._begins, self.stages, strict=True) if begin <= step][-1]

    def shapes_before(self, block: int) -> list[tuple[BatchShape, int]]:
        """How many blocks of each shape come before one."""
        firsts = [min(math.ceil(begin / self.block), block) for begin in self._begins]
        ends = [*firsts[1:], block]
        return [(shape, end - first) for (_, shape), first, end in zip(self.stages, firsts, ends, strict=True)]

    def pairs(self, steps: int) -> int:
        """Pairs in the first so many steps."""
        blocks, rest = divmod(steps, self.block)
        whole = sum(shape.pairs * count for shape, count in self.shapes_before(blocks))
        return whole * self.block + self.shape(blocks).pairs * rest
