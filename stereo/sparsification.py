"""How well a confidence sorts errors: sparsification curves and the area between them (AUSE).

Pixels are taken away, the least confident first; after every step the mean error of those left is noted. A perfect
confidence takes away the largest errors first: that is the oracle's curve. AUSE is the area between the two (Ilg et al.
2018, https://arxiv.org/abs/1802.07095), here in the unit of the error, not divided by the mean error.

    # N pixels, S steps
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stereo.errors import UserError

Floats = npt.NDArray[np.float64]
STEPS = 100


@dataclass(frozen=True)
class Sparsification:
    """The curves of one image.

    Args:
        kept: share of pixels kept, S values from 1/S to 1.
        by_confidence: mean error of that share, the most confident pixels.
        by_oracle: mean error of that share, the pixels of the smallest error.
    """

    kept: Floats
    by_confidence: Floats
    by_oracle: Floats

    @property
    def ause(self) -> float:
        """Area between the curves, over the share of kept pixels; 0 is perfect."""
        gap = self.by_confidence - self.by_oracle
        return float(np.sum((gap[1:] + gap[:-1]) / 2 * np.diff(self.kept)))

    @property
    def ause_by_chance(self) -> float:
        """The area that a confidence without any meaning has, in expectation."""
        gap = self.by_confidence[-1] - self.by_oracle
        return float(np.sum((gap[1:] + gap[:-1]) / 2 * np.diff(self.kept)))


def sparsification(
    error: npt.NDArray[np.floating], confidence: npt.NDArray[np.floating], *, steps: int = STEPS
) -> Sparsification:
    """Curves of one image.

    Pixels of equal confidence are taken in no order: each counts with the mean error of all of them, which is what a
    random order gives in expectation. Without that, the order of the pixels in memory would decide.

    Args:
        error: of each pixel, any shape; NaN and infinite ones (no truth, no answer) are left out.
        confidence: of the same shape, higher is better.
        steps: S.

    Raises:
        UserError: shapes differ, or no pixel has an error.
    """
    if error.shape != confidence.shape:
        raise UserError(f"the error is {error.shape} but the confidence {confidence.shape}", fix="compare at one size")
    known = np.isfinite(error)
    error_N = error[known].astype(np.float64)
    if error_N.size == 0:
        raise UserError("no pixel has an error to sort", fix="check the truth and the mask")
    kept = np.arange(1, steps + 1) / steps
    return Sparsification(
        kept,
        mean_of_first(expected_order(error_N, confidence[known]), kept),
        mean_of_first(np.sort(error_N), kept),
    )


def expected_order(error_N: Floats, confidence_N: npt.NDArray[np.floating]) -> Floats:
    """Errors by falling confidence, those of equal confidence replaced by their mean."""
    order = np.argsort(-confidence_N, kind="stable")
    ranked, error_N = confidence_N[order], error_N[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    counts = np.diff(np.append(starts, len(ranked)))
    return np.repeat(np.add.reduceat(error_N, starts) / counts, counts)


def mean_of_first(sorted_N: Floats, kept: Floats) -> Floats:
    """Mean of the first share of a list, for several shares; at least one element counts."""
    counts = np.maximum(np.rint(kept * len(sorted_N)).astype(int), 1)
    return np.cumsum(sorted_N)[counts - 1] / counts
