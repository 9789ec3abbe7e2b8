"""How sure a difference of averages is: Efron's bootstrap over images (Annals of Statistics 7, 1979), percentile form.

Both variants saw the same images, so their per-image differences are drawn, not their errors: what an image is hard
by cancels out. The draw is seeded: the same results give the same report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 2000
# So many in memory, which are enough for numpy to be quick.
DRAWS_AT_ONCE = 200
LEVEL_PCT = 95.0
# Of fewer images even an interval of all draws would be too narrow to mean anything.
FEWEST_IMAGES = 3


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval.

    Args:
        low, high: None where there are too few images to tell.
    """

    mean: float
    low: float | None
    high: float | None
    images: int

    @property
    def is_above_zero(self) -> bool:
        """Whether the whole interval is."""
        return self.low is not None and self.low > 0

    @property
    def is_below_zero(self) -> bool:
        """Whether the whole interval is."""
        return self.high is not None and self.high < 0


def mean_interval(differences: Sequence[float], weights: Sequence[float] | None = None) -> Interval:
    """Interval of the (weighted) mean of per-image differences.

    Args:
        differences: one per image, at least one.
        weights: pixels of each image, where the benchmark counts shares of all pixels; None weighs images alike.
    """
    values = np.asarray(differences, np.float64)
    shares = np.ones_like(values) if weights is None else np.asarray(weights, np.float64)
    mean = float((values * shares).sum() / shares.sum())
    if values.size < FEWEST_IMAGES:
        return Interval(mean, None, None, values.size)
    generator = np.random.default_rng(values.size)
    means = np.concatenate([draw_means(values, shares, generator) for _ in range(DRAWS // DRAWS_AT_ONCE)])
    tail = (100 - LEVEL_PCT) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(mean, float(low), float(high), values.size)


def draw_means(values: np.ndarray, shares: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Weighted means of `DRAWS_AT_ONCE` samples with replacement."""
    drawn = generator.integers(0, values.size, (DRAWS_AT_ONCE, values.size), dtype=np.int32)
    weights = shares[drawn]
    return (weights * values[drawn]).sum(axis=1) / weights.sum(axis=1)
