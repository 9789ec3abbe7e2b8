"""What happens to one frame on its way from the source into the label set.

`prepare` runs in the reading thread, in the order of the frames of a block; `label` in the main thread.

# H height, W width
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from stereo.pair import Disparity, StereoPair
from stereo.sources import Frame
from teacher.protocol import Teacher

# Frames are shared out among processes in blocks of this many, whatever the number of processes. More would leave
# processes without work on short sources; fewer would keep more near-duplicates, which are looked for within a block.
BLOCK_FRAMES = 64


@dataclass(frozen=True)
class Prepared:
    """A frame as the teacher gets it, or why it does not get it.

    Args:
        frame: with no pair when it could not be read.
        dropped: why the selection left it out, in a few words; None when it goes to the teacher.
    """

    frame: Frame
    dropped: str | None = None


@dataclass(frozen=True)
class FrameLabel:
    """What the teacher says of a pair.

    Args:
        disparity: float32 H×W px of the left view, NaN invalid.
        confidence: float32 H×W, 0 to 1.
        terms: name → float32 H×W, 0 to 1: what the confidence was made of.
        verdict: why the whole frame is not to be trusted; None when it is.
    """

    disparity: Disparity
    confidence: npt.NDArray[np.float32]
    terms: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    verdict: str | None = None


class Steps:
    """The steps of one labelling.

    What `prepare` says of a frame may depend on the frames of its block that were kept before it, and on nothing else:
    blocks are shared out among processes, and a block may be begun by one run and ended by another.

    Args:
        teacher: gives the labels.

    Attributes:
        remembers: whether `prepare` looks at frames that were kept before.
        block: frames of a block.
    """

    remembers = False
    block = BLOCK_FRAMES

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher

    def begin_block(self) -> None:
        """Forget the frames that were kept before."""
        return

    def remember(self, frame: Frame) -> None:
        """Take note of the last frame of the block that an earlier run kept."""
        return

    def prepare(self, frame: Frame) -> Prepared:
        """Make a frame ready for the teacher, or say why it is left out."""
        return Prepared(frame)

    def label(self, pair: StereoPair) -> FrameLabel:
        """Label a pair."""
        output = self.teacher.predict(pair)
        return FrameLabel(output.disparity, output.confidence)
