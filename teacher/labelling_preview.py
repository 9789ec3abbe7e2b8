"""The pictures of a few frames that a labelling leaves for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from stereo.label_set import LabelledFrame
from stereo.pair import Image
from stereo.pictures import disparity_picture, gray_picture, side_by_side, stacked

PREVIEW_WIDTH = 640


def preview(frame: LabelledFrame) -> Image:
    """Left image, disparity and confidence in one picture: in a row, or in a column when the images are wide."""
    height, width = frame.left.shape[:2]
    size = (min(PREVIEW_WIDTH, width), max(1, round(height * min(PREVIEW_WIDTH, width) / width)))
    parts = [
        cv2.resize(part, size, interpolation=how).astype(np.uint8)
        for part, how in (
            (frame.left, cv2.INTER_AREA),
            (disparity_picture(frame.disparity), cv2.INTER_NEAREST),
            (gray_picture(frame.confidence), cv2.INTER_AREA),
        )
    ]
    return stacked(*parts) if width > 2 * height else side_by_side(*parts)


def preview_frames(indexes: Sequence[int], count: int) -> set[int]:
    """About `count` frame numbers spread evenly."""
    if not indexes or count < 1:
        return set()
    return {indexes[round(place)] for place in np.linspace(0, len(indexes) - 1, min(count, len(indexes)))}
