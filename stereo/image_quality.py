"""What makes a single image worth nothing: blur, exposure, black borders. Each is one number, and cheap.

# H height, W width
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from stereo.pair import Image

Gray = npt.NDArray[np.uint8]

# Blur and borders are judged at this width, so that limits mean the same for every camera.
JUDGED_WIDTH = 640
# An edge: so many gray levels within so many pixels.
EDGE_LEVELS, EDGE_WINDOW_PX = 48, 17
# The sharper edges of an image are those up to this percentile: what is out of focus in the background does not count.
SHARP_PERCENTILE = 20
# Every third row and column is enough to meet all edges; fewer edge pixels than this say nothing about sharpness.
EVERY, FEWEST_EDGES = 3, 100
DARK_LEVEL, BRIGHT_LEVEL = 16, 250
# Borders are black up to compression noise, run along a whole side, and end in a step.
BLACK_LEVEL, STEP_LEVELS, STEP_AFTER_PX, ALONG_SIDE = 8, 16, 3, 0.95


def judged(image: Image) -> Gray:
    """Gray, at most `JUDGED_WIDTH` wide."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height, width = gray.shape
    if width > JUDGED_WIDTH:
        size = JUDGED_WIDTH, max(1, round(height * JUDGED_WIDTH / width))
        gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    return gray.astype(np.uint8, copy=False)


def edge_width_px(gray: Gray) -> float | None:
    """Width of the image's sharper edges, px: their contrast divided by their steepest step.

    1 is a step from one pixel to the next. The larger of the widths of upright and of lying edges, because motion blurs
    one direction only. None when there are too few edges to tell.
    """
    rows, columns = gray[::EVERY], np.ascontiguousarray(gray[:, ::EVERY].T)
    widths = [width for lines in (rows, columns) if (width := edge_width_along(lines)) is not None]
    return max(widths, default=None)


def edge_width_along(gray: Gray) -> float | None:
    """`edge_width_px` along the rows alone."""
    if gray.shape[1] < EDGE_WINDOW_PX:
        return None
    window = np.ones((1, EDGE_WINDOW_PX), np.uint8)
    contrast = cv2.subtract(cv2.dilate(gray, window), cv2.erode(gray, window))
    step = np.zeros_like(gray)
    step[:, :-1] = cv2.absdiff(gray[:, 1:], gray[:, :-1])
    steepest = (step == cv2.dilate(step, window)) & (step > 0) & (contrast > EDGE_LEVELS)
    if np.count_nonzero(steepest) < FEWEST_EDGES:
        return None
    return float(np.percentile(contrast[steepest] / step[steepest].astype(np.float32), SHARP_PERCENTILE))


def dark_share(gray: Gray) -> float:
    """Share of pixels that are nearly black."""
    return float(np.count_nonzero(gray < DARK_LEVEL)) / gray.size


def bright_share(gray: Gray) -> float:
    """Share of pixels that are nearly white."""
    return float(np.count_nonzero(gray >= BRIGHT_LEVEL)) / gray.size


def border_share(gray: Gray) -> float:
    """Share of the image that black borders cover.

    A border runs along a whole side and ends in a step: a dark thing that touches the side, or a night sky, does not.
    """
    sides = (gray, gray[::-1], gray.T, gray.T[::-1])
    return sum(side_border(side) for side in sides) / gray.size


def side_border(gray: Gray) -> int:
    """Pixels of a black border along the first row; its depth may vary, as it does after rectification."""
    length, width = gray.shape
    if np.count_nonzero(gray[0] <= BLACK_LEVEL) < ALONG_SIDE * width:
        return 0
    light = gray > BLACK_LEVEL
    depth = np.where(light.any(axis=0), light.argmax(axis=0), length)
    after = np.minimum(depth + STEP_AFTER_PX, length - 1)
    if np.median(gray[after, np.arange(width)]) < BLACK_LEVEL + STEP_LEVELS:
        return 0
    # Where a dark thing touches the border it does not belong to it.
    return int(np.minimum(depth, 2 * np.median(depth) + 1).sum())
