"""Errors of a disparity map against truth.

EPE is the mean absolute error of one image; bad-x the share of pixels whose error is above x px; D1 the share whose
error is above 3 px **and** above 5 % of the true disparity (KITTI 2015). How the numbers of many images become one
stands in `stereo.protocols`.

    # H height, W width
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stereo.errors import UserError
from stereo.pair import Disparity, Mask


class NothingCounted(UserError):
    """No pixel has truth under the mask."""


@dataclass(frozen=True)
class DisparityErrors:
    """Errors of one image.

    EPE, max_error_px and p99_error_px are taken over the pixels that have both truth and prediction, and are None when
    there is none; bad-x and D1 over all pixels with truth, where a missing prediction counts as bad. So a method cannot
    win by answering only where it is easy: read EPE together with coverage_pct.

    Args:
        epe_px: mean absolute error.
        bad1_pct, bad2_pct, bad3_pct: share of pixels whose error is above 1, 2, 3 px.
        d1_pct: share of pixels whose error is above 3 px and above 5 % of the truth.
        max_error_px, p99_error_px: largest error, and its 99th percentile.
        valid_pixels: how many pixels have truth under the mask.
        coverage_pct: share of those that have a prediction.
        mask_name: which pixels were counted, such as "noc" or "all, disparity < 192".
    """

    epe_px: float | None
    bad1_pct: float
    bad2_pct: float
    bad3_pct: float
    d1_pct: float
    max_error_px: float | None
    p99_error_px: float | None
    valid_pixels: int
    coverage_pct: float
    mask_name: str


def errors_against_truth(
    prediction: Disparity,
    truth: Disparity,
    *,
    mask: Mask | None = None,
    mask_name: str | None = None,
    max_disp: float | None = None,
) -> DisparityErrors:
    """Compare a disparity map with the truth.

    Args:
        prediction: float32 H×W px, NaN where there is none.
        truth: float32 H×W px, NaN where unknown.
        mask: bool H×W, True where pixels count; None counts all.
        mask_name: name of the mask in reports; "noc" with a mask and "all" without, unless given.
        max_disp: count only pixels whose true disparity is below this; becomes part of the name.

    Raises:
        UserError: sizes differ; `NothingCounted`: no pixel is left to compare.
    """
    for what, plane in (("prediction", prediction), ("mask", mask)):
        if plane is not None and plane.shape != truth.shape:
            raise UserError(f"the {what} is {plane.shape} but the truth {truth.shape}", fix="compare at one size")
    name = mask_name or ("all" if mask is None else "noc")
    counted = np.isfinite(truth)
    if mask is not None:
        counted &= mask
    if max_disp is not None:
        counted &= np.where(counted, truth, np.inf) < max_disp
        name = f"{name}, disparity < {max_disp:g}"
    pixels = int(counted.sum())
    if pixels == 0:
        raise NothingCounted(f"no pixel has truth under the mask '{name}'", fix="check the truth's scale and the mask")

    # float64: the mean of a million float32 errors would lose digits that reports print.
    true = truth[counted].astype(np.float64)
    error = np.abs(prediction[counted].astype(np.float64) - true)
    predicted = np.isfinite(error)
    known = error[predicted]
    counted_error = np.where(predicted, error, np.inf)

    def share_pct(bad: np.ndarray) -> float:
        return 100.0 * float(np.count_nonzero(bad)) / pixels

    return DisparityErrors(
        epe_px=float(known.mean()) if known.size else None,
        bad1_pct=share_pct(counted_error > 1),
        bad2_pct=share_pct(counted_error > 2),
        bad3_pct=share_pct(counted_error > 3),
        d1_pct=share_pct((counted_error > 3) & (counted_error > 0.05 * true)),
        max_error_px=float(known.max()) if known.size else None,
        p99_error_px=float(np.percentile(known, 99)) if known.size else None,
        valid_pixels=pixels,
        coverage_pct=share_pct(predicted),
        mask_name=name,
    )
