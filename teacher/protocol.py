"""What a teacher is: something that gives disparity and its confidence for a pair.

# H height, W width
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from stereo.pair import Disparity, StereoPair


@dataclass(frozen=True)
class TeacherOutput:
    """A teacher's answer for one pair.

    Args:
        disparity: float32 H×W px of the left view, ≥ 0, NaN where the teacher has no answer.
        confidence: the teacher's own, float32 H×W, 0 to 1, 0 where disparity is NaN.
        right: disparity of the right view (x_left = x_right + d), float32 H×W px, NaN where there is none; None from a
            teacher that does not match it.
        entropy: of the teacher's distribution over disparities, float32 H×W, 0 (one disparity) to 1 (all alike); None
            from a teacher that has no distribution.
    """

    disparity: Disparity
    confidence: npt.NDArray[np.float32]
    right: Disparity | None = None
    entropy: npt.NDArray[np.float32] | None = None


class Teacher(Protocol):
    """A source of pseudo-labels.

    Attributes:
        name: as on the command line.
        max_disp: no disparity it gives is larger, in px.
    """

    @property
    def name(self) -> str: ...

    @property
    def max_disp(self) -> int: ...

    def describe(self) -> dict[str, Any]:
        """Everything its labels depend on (settings, sha256 of weights), as JSON values."""
        ...

    def predict(self, pair: StereoPair) -> TeacherOutput:
        """Disparity and confidence of one pair."""
        ...

    def left_disparity(self, pair: StereoPair) -> Disparity:
        """Disparity of the left view alone, without any check against the right one: float32 H×W px, NaN unknown."""
        ...
