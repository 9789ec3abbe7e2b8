"""One number of many images, by the protocol of the benchmark: means of per-image numbers, or shares of all pixels."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.results import ImageAccuracy
from stereo.protocols import protocol_of

# Field of `ImageAccuracy` → how tables call it, the unit being part of the name.
METRICS = {"epe_px": "EPE px", "bad1_pct": "bad-1 %", "bad2_pct": "bad-2 %", "bad3_pct": "bad-3 %", "d1_pct": "D1 %"}


def over_pixels(accuracy: Sequence[ImageAccuracy]) -> list[str]:
    """The metrics that are shares of all pixels of these images, in the order of `METRICS`."""
    pooled = [protocol_of(entry.benchmark).over_pixels for entry in accuracy[:1]]
    return [metric for metric in METRICS if pooled and metric in pooled[0]]


def mean_of(accuracy: Sequence[ImageAccuracy], metric: str) -> float | None:
    """Mean over images, or over all their pixels where `over_pixels` says so.

    Args:
        accuracy: of the images of one dataset.
        metric: a field of `ImageAccuracy`.

    Returns:
        None when there are no images, or when one of them has no value (nothing predicted there).
    """
    values = [getattr(entry, metric) for entry in accuracy]
    if not values or any(value is None for value in values):
        return None
    pooled = metric in over_pixels(accuracy)
    weights = [entry.valid_pixels if pooled else 1 for entry in accuracy]
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)


def reduction_note(accuracy: Sequence[ImageAccuracy], images: int) -> str:
    """How the averages of a dataset were taken."""
    pooled = [METRICS[metric].removesuffix(" %") for metric in over_pixels(accuracy)]
    text = f"Per-image numbers averaged over {images} image{'s' if images != 1 else ''}"
    return f"{text}; {' and '.join(pooled)} over all their pixels" if pooled else text
