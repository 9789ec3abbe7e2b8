"""Matching again with changed images: what an answer owes to the image and not to chance stays the same.

Upside down, every row is matched against the same row as before, so a rectified pair stays one; at nine tenths of the
size, details and the network's grid fall differently. A mirrored pass with swapped views is not among them: that is the
left-right check.

    # H height, W width
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from stereo.pair import Disparity, Image, StereoPair
from teacher.consistency import TOLERANCE_PX
from teacher.protocol import Teacher
from teacher.trust_options import Perturbation
from teacher.trust_terms import FloatPlane

SCALE = 0.9


def perturbed_disparity(teacher: Teacher, pair: StereoPair, perturbation: Perturbation) -> Disparity:
    """The left disparity that the teacher finds in the changed pair, brought back: float32 H×W px, NaN unknown."""
    if perturbation == "vertical_flip":
        turned = StereoPair(upside_down(pair.left), upside_down(pair.right), pair.name)
        return np.ascontiguousarray(teacher.left_disparity(turned)[::-1])
    size = max(1, round(pair.width * SCALE)), max(1, round(pair.height * SCALE))
    left, right = (cv2.resize(view, size, interpolation=cv2.INTER_AREA) for view in (pair.left, pair.right))
    found = teacher.left_disparity(StereoPair(left.astype(np.uint8), right.astype(np.uint8), pair.name))
    # Nearest, because interpolation across an edge would mix two surfaces.
    grown = cv2.resize(found, (pair.width, pair.height), interpolation=cv2.INTER_NEAREST)
    return (grown * np.float32(pair.width / size[0])).astype(np.float32)


def upside_down(image: Image) -> Image:
    """The rows in reverse order."""
    return np.ascontiguousarray(image[::-1])


def stability(disparity: Disparity, others: Iterable[Disparity]) -> FloatPlane:
    """exp(-(largest difference / 1 px)²) from the disparities under perturbation; 0 where one of them is NaN; H×W.

    Args:
        disparity: float32 H×W px.
        others: float32 H×W px each, at least one.
    """
    difference = np.maximum.reduce([np.abs(other - disparity) for other in others])
    agreed = np.exp(-np.square(difference / np.float32(TOLERANCE_PX)))
    return np.where(np.isfinite(difference), agreed, np.float32(0))
