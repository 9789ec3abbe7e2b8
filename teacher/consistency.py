"""Confidence by left-right consistency: both views must tell the same disparity of the same point.

A left pixel x with disparity d is seen in the right view at x - d, whose own disparity should be d. Where the two
differ the pixel is occluded in the right view, or mismatched in one of them.

    # H height, W width
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from stereo.pair import Disparity, Image

FloatPlane = npt.NDArray[np.float32]

# A difference of this size costs a pixel 63 % of its confidence; sub-pixel matchers agree within half of it.
TOLERANCE_PX = 1.0
# Beyond this the two views speak of different surfaces.
LARGEST_DIFFERENCE_PX = 2.0


def left_right_difference(left: Disparity, right: Disparity) -> FloatPlane:
    """|left(x) - right(x - left(x))|, float32 H×W px; NaN where either is invalid or x - left(x) is outside the view.

    Args:
        left: disparity of the left view, float32 H×W px.
        right: disparity of the right view (x_left = x_right + d), float32 H×W px.
    """
    height, width = left.shape
    seen_at = np.arange(width, dtype=np.float32) - np.where(np.isnan(left), np.float32(2 * width), left)
    rows = np.repeat(np.arange(height, dtype=np.float32)[:, None], width, axis=1)
    # Nearest, because interpolation across an edge would mix two surfaces.
    other = cv2.remap(
        right, seen_at, rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=(float("nan"),)
    )
    return np.abs(left - other).astype(np.float32)


def consistency_confidence(difference: FloatPlane) -> FloatPlane:
    """exp(-(difference / 1 px)²); 0 beyond 2 px and where the difference is NaN (occluded, outside, no match)."""
    confidence = np.exp(-np.square(difference / np.float32(TOLERANCE_PX)))
    return np.where(difference <= LARGEST_DIFFERENCE_PX, confidence, 0).astype(np.float32)


def neighbourhood_agreement(difference: FloatPlane, window: int) -> FloatPlane:
    """Share of a window's pixels whose left-right difference is at most 1 px, float32 H×W.

    Matchers err in patches: a pixel that agrees by chance stands among others that do not.
    """
    agrees = (difference <= TOLERANCE_PX).astype(np.float32)
    return cv2.blur(agrees, (window, window)).astype(np.float32, copy=False)


def disparity_of_both_views(
    match: Callable[[Image, Image], Disparity], left: Image, right: Image
) -> tuple[Disparity, Disparity]:
    """Disparity of the left and of the right view by a matcher that knows only left views.

    Mirrored and swapped, the right view becomes a left view.

    Args:
        match: (left, right) uint8 H×W[×3] → float32 H×W px.
    """
    mirrored = match(np.ascontiguousarray(right[:, ::-1]), np.ascontiguousarray(left[:, ::-1]))
    return match(left, right), np.ascontiguousarray(mirrored[:, ::-1])
