"""Options of the verb `curate`, without importing torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from distill.config import TrainConfig
from stereo.options import positional


def default_training() -> TrainConfig:
    """A training per round; its folder and label sets are chosen round by round."""
    return TrainConfig(out=Path("chosen by each round"))


@dataclasses.dataclass
class CurateConfig:
    """Options of `curate`.

    Args:
        labels: a label set.
        out: folder for rounds and the curated set; a curation that was stopped goes on.
        rounds: train, judge and drop this often at most; it ends early when nothing is dropped.
        threshold: drop a frame when more than this share of its trusted pixels is bad, in percent.
        bad_px: a pixel is bad when the student is farther than this from its label, in px.
        most_dropped: stop when a round would drop more than this share of the frames, in percent: the student is then
            too weak to judge, or the labels are worth nothing.
        device: where the student judges: auto, cpu or cuda.
        train: the training of each round; its out and its data.labels are set by `curate`.
    """

    labels: Path = positional()
    out: Path = dataclasses.field(kw_only=True)
    rounds: int = dataclasses.field(default=2, kw_only=True)
    threshold: float = dataclasses.field(default=60.0, kw_only=True)
    bad_px: float = dataclasses.field(default=2.0, kw_only=True)
    most_dropped: float = dataclasses.field(default=50.0, kw_only=True)
    device: str = dataclasses.field(default="auto", kw_only=True)
    train: TrainConfig = dataclasses.field(default_factory=default_training, kw_only=True)
