"""Where a disparity map is wrong: errors by true disparity, distance to depth edges, texture, and visibility.

The classes are those of Scharstein and Szeliski, "A Taxonomy and Evaluation of Dense Two-Frame Stereo Correspondence
Algorithms", IJCV 2002, section 5.1: textureless where the squared horizontal gradient, averaged over 3×3 pixels, is
below 4 (of 255 grey levels); depth edges where neighbouring disparities differ by more than 2 px. Instead of their one
band around the edges, errors stand by distance.

    # H height, W width
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from stereo.pair import Disparity, Image, Mask, StereoPair

DISPARITY_BOUNDS_PX = (0, 8, 16, 32, 64, 128, 256)
EDGE_JUMP_PX = 2.0
EDGE_BOUNDS_PX = (0, 2, 5, 10, 20)
TEXTURE_WINDOW, TEXTURE_LIMIT = 3, 4.0
# Between the lone points of a laser scan there is no telling where an edge runs.
DENSE_SHARE = 0.5

BY_DISPARITY, BY_EDGE, BY_TEXTURE, BY_VISIBILITY = "true disparity", "distance to depth edges", "texture", "visibility"


@dataclass(frozen=True)
class RegionErrors:
    """Errors of one image in one class of pixels; definitions as in `stereo.metrics`.

    Args:
        by: what the pixels are told apart by.
        name: of the class, such as "16-32 px".
        pixels: with truth.
        predicted: of those, with a prediction.
        epe_px: over the predicted ones; None when there is none.
        bad2_pct: of all; a missing prediction counts as bad.
    """

    by: str
    name: str
    pixels: int
    predicted: int
    epe_px: float | None
    bad2_pct: float


def errors_by_region(
    prediction: Disparity, pair: StereoPair, *, mask: Mask | None = None, max_disp: float | None = None
) -> tuple[RegionErrors, ...]:
    """Errors of a map in every class that has pixels.

    Args:
        prediction: float32 H×W px, NaN where there is none.
        pair: with its truth.
        mask: bool H×W, True where pixels count; None counts all. Visibility is told over all pixels with truth, since
            a mask of visible pixels would leave nothing to tell.
        max_disp: count only pixels whose true disparity is below this.
    """
    truth = pair.disparity
    if truth is None:
        return ()
    # Comparing with NaN is False: unknown pixels are nowhere.
    known = np.isfinite(truth) if max_disp is None else truth < max_disp
    error = np.abs(prediction.astype(np.float64) - truth)
    counted = known if mask is None else known & mask
    classes = itertools.chain(
        in_bands(BY_DISPARITY, truth, DISPARITY_BOUNDS_PX, counted),
        () if (distance := edge_distance(truth)) is None else in_bands(BY_EDGE, distance, EDGE_BOUNDS_PX, counted),
        two(BY_TEXTURE, "textured", "textureless", ~textureless(pair.left), counted),
        () if pair.noc is None else two(BY_VISIBILITY, "seen by both cameras", "occluded", pair.noc, known),
    )
    return tuple(errors_in(error, where, by, name) for by, name, where in classes if where.any())


def errors_in(error: npt.NDArray[np.float64], where: Mask, by: str, name: str) -> RegionErrors:
    """Errors of the pixels of one class, of which there are some."""
    chosen = error[where]
    predicted = chosen[np.isfinite(chosen)]
    bad = np.count_nonzero(predicted > 2) + chosen.size - predicted.size
    epe_px = float(predicted.mean()) if predicted.size else None
    return RegionErrors(by, name, chosen.size, predicted.size, epe_px, 100.0 * bad / chosen.size)


def in_bands(
    by: str, value: npt.NDArray[np.float32], bounds: tuple[int, ...], counted: Mask
) -> Iterator[tuple[str, str, Mask]]:
    """(by, name, mask) of each band of a value in px; the last has no upper end."""
    for low, high in itertools.zip_longest(bounds, bounds[1:]):
        inside = value >= low
        if high is None:
            yield by, f"from {low} px", counted & inside
        else:
            yield by, f"{low}-{high} px", counted & inside & (value < high)


def two(by: str, yes: str, no: str, is_so: Mask, counted: Mask) -> Iterator[tuple[str, str, Mask]]:
    """(by, name, mask) of the pixels where something is so, and of the others."""
    yield by, yes, counted & is_so
    yield by, no, counted & ~is_so


def textureless(left: Image) -> Mask:
    """bool H×W, True where the left image gives matching nothing to hold on to."""
    gray = cv2.cvtColor(left, cv2.COLOR_RGB2GRAY).astype(np.float32)
    gradient = np.zeros_like(gray)
    gradient[:, :-1] = np.diff(gray, axis=1)
    return cv2.blur(gradient**2, (TEXTURE_WINDOW, TEXTURE_WINDOW)) < TEXTURE_LIMIT


def edge_distance(truth: Disparity) -> npt.NDArray[np.float32] | None:
    """float32 H×W, px from the nearest depth edge; infinite without any; None where truth is too sparse to tell."""
    known = np.isfinite(truth)
    if known.mean() < DENSE_SHARE:
        return None
    edge = np.zeros(truth.shape, bool)
    jump = np.abs(np.diff(truth, axis=1)) > EDGE_JUMP_PX
    edge[:, :-1] |= jump
    edge[:, 1:] |= jump
    jump = np.abs(np.diff(truth, axis=0)) > EDGE_JUMP_PX
    edge[:-1] |= jump
    edge[1:] |= jump
    if not edge.any():
        return np.full(truth.shape, np.inf, np.float32)
    distance = cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance.astype(np.float32)
