"""Which frames of two cameras belong together, by their time stamps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Stamps = npt.NDArray[np.int64]


def nearest(stamps: Stamps, others: Stamps) -> Stamps:
    """For each stamp the position of the nearest of `others` (rising, not empty); the earlier one of two."""
    after = np.clip(np.searchsorted(others, stamps), 1, max(len(others) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(others) - 1)
    return np.where(np.abs(others[after] - stamps) < np.abs(others[before] - stamps), after, before)


def match_stamps(left: Stamps, right: Stamps, tolerance: float) -> Stamps:
    """Pair each left stamp with the right stamp that is nearest to it, one to one.

    Two stamps are a pair when each is the other's nearest: with cameras that drop frames, no frame serves twice.

    Args:
        left, right: rising stamps of one clock, in any one unit.
        tolerance: the largest difference of a pair, in that unit.

    Returns:
        For each left stamp the position of its partner in `right`, -1 without one.
    """
    if not len(left) or not len(right):
        return np.full(len(left), -1, np.int64)
    partner = nearest(left, right)
    mutual = nearest(right, left)[partner] == np.arange(len(left))
    close = np.abs(right[partner] - left) <= tolerance
    return np.where(mutual & close, partner, -1)


def distance_summary(left: Stamps, right: Stamps, *, per_ms: float) -> str:
    """How far apart two lists of rising stamps are, in words, for messages.

    Args:
        per_ms: units of the stamps in a millisecond.
    """
    if not len(left) or not len(right):
        return f"{len(left)} left and {len(right)} right stamps"
    if left[-1] < right[0] or right[-1] < left[0]:
        gap_ms = max(right[0] - left[-1], left[0] - right[-1]) / per_ms
        return f"the views do not overlap in time, they are {gap_ms:.6g} ms apart"
    apart_ms = np.abs(right[nearest(left, right)] - left) / per_ms
    return (
        f"the nearest right stamp is {np.min(apart_ms):.3g} to {np.max(apart_ms):.3g} ms away, "
        f"median {np.median(apart_ms):.3g} ms"
    )
