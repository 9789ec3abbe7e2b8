"""How far matching points of two views are off each other's row, and whether that is a property of the rig.

The offset is described by a plane with one twist, dy = shift + rotation x + zoom y + yaw x y, fitted so that false
matches do not count; x and y from the image centre. Its standard errors tell whether the images suffice to judge.

    # N points
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from stereo.selection_options import CheckOptions
from stereo.view_matching import Matches

Numbers = npt.NDArray[np.float64]
Outcome = Literal["fine", "wrong", "cannot tell"]

# Fewer points than this say nothing about a rig.
FEWEST_POINTS = 30
# A limit is passed, or kept, when it is so by this many standard errors.
STANDARD_ERRORS = 3.0
ITERATIONS = 20
# Sub-pixel matching is never more exact than this.
SMALLEST_SCALE_PX = 0.05
# What the offset's model leaves over at a true match, at most.
INLIER_PX = 1.0


@dataclass(frozen=True)
class VerticalOffset:
    """Statistics of y_right - y_left over matched points.

    Args:
        points: how many.
        median_px: of the signed offsets.
        p75_px, p95_px: percentiles of the absolute offsets, false matches included.
        field_px: 95th percentile of the fitted offset's size over the points.
        shift_px, rotation_deg, zoom_pct: the fit: offset at the image centre, turn of the right view against the left
            one, and how much taller the right view shows things.
        field_error_px, rotation_error_deg, zoom_error_pct: standard errors.
        inliers_pct: share of points that the fit explains within a pixel.
    """

    points: int
    median_px: float
    p75_px: float
    p95_px: float
    field_px: float
    shift_px: float
    rotation_deg: float
    zoom_pct: float
    field_error_px: float
    rotation_error_deg: float
    zoom_error_pct: float
    inliers_pct: float

    def outcome(self, options: CheckOptions) -> Outcome:
        """Whether a rectified pair may look like this."""
        measured = (
            (self.field_px, self.field_error_px, options.max_vertical_px),
            (abs(self.rotation_deg), self.rotation_error_deg, options.max_rotation_deg),
            (abs(self.zoom_pct), self.zoom_error_pct, options.max_zoom_pct),
        )
        if any(value - STANDARD_ERRORS * error > limit for value, error, limit in measured):
            return "wrong"
        if self.p75_px > options.max_vertical_px:
            # No smooth offset explains it, such as lens distortion or views that were not taken at the same time.
            return "wrong"
        uncertain = any(value > limit or STANDARD_ERRORS * error > limit for value, error, limit in measured)
        return "cannot tell" if uncertain else "fine"

    def tell(self) -> str:
        """The measured numbers in words."""
        return (
            f"{self.points} matching points are up to {self.p75_px:.2f} px off their row at the 75th percentile; "
            f"fitted over the image {self.field_px:.2f} px: shift {self.shift_px:+.2f} px, "
            f"rotation {self.rotation_deg:+.2f}°, zoom {self.zoom_pct:+.2f} %"
        )

    def describe(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def fit(terms: Numbers, offsets: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Least squares with Cauchy weights: coefficients (P), covariance (P×P), residuals (N)."""
    weights = np.ones(len(offsets))
    # From the median, so that a large common offset does not hide among the outliers.
    coefficients = np.zeros(terms.shape[1], np.float64)
    coefficients[0] = np.median(offsets)
    residuals, scale = offsets - terms @ coefficients, SMALLEST_SCALE_PX
    for _ in range(ITERATIONS):
        scale = max(1.4826 * float(np.median(np.abs(residuals))), SMALLEST_SCALE_PX)
        weights = 1 / (1 + np.square(residuals / (2.385 * scale)))
        root = np.sqrt(weights)
        solution = np.linalg.lstsq(terms * root[:, None], offsets * root, rcond=None)[0]
        coefficients = np.asarray(solution, np.float64)
        residuals = offsets - terms @ coefficients
    covariance = scale**2 * np.linalg.pinv((terms * weights[:, None]).T @ terms)
    return coefficients, covariance, residuals


def measure(matches: Sequence[Matches]) -> VerticalOffset | None:
    """The vertical offset over all points of some frames of one rig; None when there are too few."""
    if sum(map(len, matches)) < FEWEST_POINTS:
        return None
    centred = [each.left - ((each.size[1] - 1) / 2, (each.size[0] - 1) / 2) for each in matches]
    x, y = np.concatenate(centred).astype(np.float64).T
    offsets = np.concatenate([each.right[:, 1] - each.left[:, 1] for each in matches]).astype(np.float64)
    # In units of half an image, so that the matrix is well conditioned.
    width, height = (max(float(each.size[axis]) for each in matches) / 2 for axis in (1, 0))
    terms = np.stack([np.ones_like(x), x / width, y / height, x * y / (width * height)], axis=1)
    coefficients, covariance, residuals = fit(terms, offsets)
    field = np.abs(terms @ coefficients)
    field_errors = np.sqrt(np.einsum("np,pq,nq->n", terms, covariance, terms))
    errors = np.sqrt(np.diag(covariance))
    return VerticalOffset(
        points=len(offsets),
        median_px=float(np.median(offsets)),
        p75_px=float(np.percentile(np.abs(offsets), 75)),
        p95_px=float(np.percentile(np.abs(offsets), 95)),
        field_px=float(np.percentile(field, 95)),
        shift_px=float(coefficients[0]),
        rotation_deg=math.degrees(coefficients[1] / width),
        zoom_pct=100 * float(coefficients[2]) / height,
        field_error_px=float(np.percentile(field_errors, 95)),
        rotation_error_deg=math.degrees(errors[1] / width),
        zoom_error_pct=100 * float(errors[2]) / height,
        inliers_pct=100 * float((np.abs(residuals) < INLIER_PX).mean()),
    )
