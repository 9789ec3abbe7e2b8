"""What can be seen of a disparity map without truth: one plane of 0 to 1 for each reason to trust a pixel or not.

Everything here is computed from the images and the teacher's answer. `teacher.trust` combines the planes.

    # H height, W width
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from stereo.pair import Disparity, Image, Mask

FloatPlane = npt.NDArray[np.float32]
Gray = npt.NDArray[np.uint8]

# Pixels of one steep surface overlap in the other view; nearer by more than this is another surface.
NEARER_PX = 1.0
CORRELATION_WINDOW = 7
# Variance of what two good views still differ by (noise, sampling, gloss), gray levels²; chosen with the weights of
# `teacher.trust`. A patch without more pattern than this has nothing to compare.
NOISE_VARIANCE = 200.0


def visible_in_right(disparity: Disparity) -> Mask:
    """Where the left view's own disparity says that the right view shows the point, bool H×W.

    Every pixel is carried to the column where it lands in the right view, x - d rounded. It is hidden where a pixel
    that is nearer by more than 1 px of disparity lands in the same column, and outside where it lands beyond the right
    view. A surface that gains more than half a pixel of disparity per pixel is squeezed so much that it hides parts of
    itself.

    Args:
        disparity: of the left view, float32 H×W px; NaN is not visible.
    """
    height, width = disparity.shape
    landing = np.arange(width, dtype=np.float32) - disparity
    inside = (landing >= -0.5) & (landing <= width - 0.5)  # False for NaN
    landing[~inside] = width  # a column that nobody looks at
    # Not rint: that rounds halves to even numbers, which would leave every other column empty.
    place = np.floor(landing + np.float32(0.5)).astype(np.intp)
    place += (np.arange(height, dtype=np.intp) * (width + 1))[:, None]
    front = np.full(height * (width + 1), -np.inf, np.float32)
    carried = np.where(inside, disparity, np.float32(0))
    np.maximum.at(front, place.ravel(), carried.ravel())
    # A surface that is stretched in the right view leaves columns open between its pixels; the wall behind it does not
    # show through.
    stretched = (place[:, 1:] - place[:, :-1] == 2) & inside[:, 1:]
    np.maximum.at(front, place[:, :-1][stretched] + 1, carried[:, :-1][stretched])
    return inside & ~(front[place] - disparity > NEARER_PX)


def right_seen_from_left(right: Gray, disparity: Disparity) -> tuple[Gray, Mask]:
    """The right view carried to the left one by the disparity: gray levels H×W, and where there are any.

    Where there are none the gray level is 0.
    """
    height, width = disparity.shape
    column = np.arange(width, dtype=np.float32) - disparity
    known = (column >= 0) & (column <= width - 1)
    column[~known] = -2  # beyond the border, which is 0
    rows = np.repeat(np.arange(height, dtype=np.float32)[:, None], width, axis=1)
    return cv2.remap(right, column, rows, cv2.INTER_LINEAR).astype(np.uint8, copy=False), known


def photometric_agreement(left: Image, right: Image, disparity: Disparity) -> FloatPlane:
    """How alike the left view and the warped right one are around each pixel, float32 H×W, 0 to 1.

    Zero-mean normalised cross-correlation of 7×7 windows, so that neither gain nor offset between the two exposures
    counts; the window follows the disparity of each of its pixels and leaves out those that have none. The noise's
    variance is added to both variances and to the covariance: where there is no pattern to compare, the answer is 1,
    no objection.

    Args:
        left, right: uint8 H×W×3 RGB.
        disparity: of the left view, float32 H×W px; 0 comes back where it is NaN or leads out of the right view.
    """
    there, known = right_seen_from_left(gray(right), disparity)
    here = np.where(known, gray(left), np.uint8(0))
    size = (CORRELATION_WINDOW, CORRELATION_WINDOW)

    def total(plane: npt.NDArray[np.unsignedinteger]) -> FloatPlane:
        sums = cv2.boxFilter(plane, cv2.CV_32F, size, normalize=False, borderType=cv2.BORDER_REFLECT)
        return sums.astype(np.float32, copy=False)

    # All moments times the square of the number of pixels, which saves a division for each.
    count = total(known.astype(np.uint8))
    sum_here, sum_there = total(here), total(there)
    noise = np.square(count) * np.float32(NOISE_VARIANCE)

    def moment(a: Gray, b: Gray, sum_a: FloatPlane, sum_b: FloatPlane) -> FloatPlane:
        product = total(np.multiply(a, b, dtype=np.uint16))
        product *= count
        product -= sum_a * sum_b
        product += noise
        return product

    covariance = moment(here, there, sum_here, sum_there)
    spread = moment(here, here, sum_here, sum_here) * moment(there, there, sum_there, sum_there)
    with np.errstate(divide="ignore", invalid="ignore"):  # a window without a single pixel is not known either
        correlation = covariance / np.sqrt(spread)
    return np.where(known, np.clip(correlation, 0, 1), np.float32(0))


def gray(image: Image) -> Gray:
    """uint8 H×W×3 RGB → uint8 H×W."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
