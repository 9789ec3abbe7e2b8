"""Averages over images, by the rule of the RAFT-Stereo evaluation: per-image numbers, averaged over images."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.results import ImageAccuracy

# Field of `ImageAccuracy` → how tables call it, the unit being part of the name.
METRICS = {"epe_px": "EPE px", "bad1_pct": "bad-1 %", "bad2_pct": "bad-2 %", "bad3_pct": "bad-3 %", "d1_pct": "D1 %"}


def mean_of(accuracy: Sequence[ImageAccuracy], metric: str) -> float | None:
    """Mean over images; None when there are none, or when one of them has no value (nothing predicted there)."""
    values = [getattr(entry, metric) for entry in accuracy]
    if not values or any(value is None for value in values):
        return None
    return sum(values) / len(values)
