"""What happens to one frame on its way from the source into the label set.

`prepare` runs in the reading thread, in the order of the frames of a block; `match`, all that needs the teacher, in the
main thread; `weigh` in a writing thread, so that the teacher does not wait for it.

# H height, W width
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from stereo.errors import UserError
from stereo.frame_selection import Selection, ThumbnailState
from stereo.pair import Disparity, StereoPair
from stereo.rectification import Rectifier
from stereo.selection_options import SelectionOptions
from stereo.sources import Frame
from teacher.protocol import Teacher, TeacherOutput
from teacher.trust import KEEP_THRESHOLD, asked, weigh
from teacher.trust_options import TrustOptions

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
class Match:
    """What the teacher answered.

    Args:
        output: its answer for the pair.
        perturbed: left disparities, float32 H×W px, of the pair's perturbed forms.
    """

    output: TeacherOutput
    perturbed: Sequence[Disparity] = ()


@dataclass(frozen=True)
class FrameLabel:
    """The label of a pair.

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
    """The steps of one labelling: rectify, choose, match, trust.

    What `prepare` says of a frame depends on the frames of its block that were kept before it, and on nothing else:
    blocks are shared out among processes, and a block may be begun by one run and ended by another.

    Args:
        teacher: gives the labels.
        trust: how confidence is made.
        keep_threshold: confidence from which on a pixel counts as trusted.
        select: which frames are worth a label; None takes all.
        rectifier: makes pairs of a raw rig's images; None takes them as they are.

    Attributes:
        remembers: whether `prepare` looks at frames that were kept before.
        block: frames of a block.
    """

    def __init__(
        self,
        teacher: Teacher,
        *,
        trust: TrustOptions | None = None,
        keep_threshold: float = KEEP_THRESHOLD,
        select: SelectionOptions | None = None,
        rectifier: Rectifier | None = None,
    ) -> None:
        self.teacher, self.trust, self.keep_threshold = teacher, trust or TrustOptions(), keep_threshold
        self._rectifier = rectifier
        self._selection = Selection(select) if select is not None else None
        self._kept: ThumbnailState | None = None
        self.remembers = select is not None and select.near_duplicate_levels is not None
        self.block = BLOCK_FRAMES if select is None else select.block

    def begin_block(self) -> None:
        """Forget the frames that were kept before."""
        self._kept = None

    def remember(self, frame: Frame) -> None:
        """Take note of the last frame of the block that an earlier run kept."""
        ready = self._rectified(frame)
        if ready.pair is not None:
            self._kept = ThumbnailState.of(ready.pair.left)

    def prepare(self, frame: Frame) -> Prepared:
        """Make a frame ready for the teacher, or say why it is left out."""
        frame = self._rectified(frame)
        if frame.pair is None or self._selection is None:
            return Prepared(frame)
        reason = self._selection.judge(frame.pair, self._kept)
        if reason is None:
            self._kept = ThumbnailState.of(frame.pair.left)
        return Prepared(frame, reason)

    def _rectified(self, frame: Frame) -> Frame:
        """The frame as the teacher gets it; the files of a rectified one hold other images."""
        if frame.pair is None or self._rectifier is None:
            return frame
        try:
            return dataclasses.replace(frame, pair=self._rectifier.apply(frame.pair), files=None)
        except UserError as error:
            return Frame(frame.index, frame.name, reason="another size than the calibration", problem=str(error))

    def match(self, pair: StereoPair) -> Match:
        """All passes of the teacher over a pair."""
        return Match(*asked(self.teacher, pair, self.trust))

    def weigh(self, pair: StereoPair, match: Match) -> FrameLabel:
        """The label that an answer makes; may run in any thread."""
        found = weigh(pair, match.output, self.trust, perturbed=match.perturbed, keep_threshold=self.keep_threshold)
        terms = found.terms if self.trust.terms else {}
        return FrameLabel(found.disparity, found.confidence, terms, found.verdict)
