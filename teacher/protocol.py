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
        confidence: float32 H×W, 0 to 1, 0 where disparity is NaN.
    """

    disparity: Disparity
    confidence: npt.NDArray[np.float32]


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
