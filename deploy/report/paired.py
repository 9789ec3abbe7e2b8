"""Two lists of per-image errors on the same images, and how sure their difference is."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.report.bootstrap import Interval, mean_interval
from deploy.results import ImageAccuracy
from deploy.summary import over_pixels


def paired(ours: Sequence[ImageAccuracy], theirs: Sequence[ImageAccuracy], metric: str) -> Interval | None:
    """The mean of ours minus theirs over the images that both have a value of; None without any."""
    known = {(item.image, item.mask): item for item in theirs}
    both = [
        (item, other)
        for item in ours
        if (other := known.get((item.image, item.mask))) is not None
        and getattr(item, metric) is not None
        and getattr(other, metric) is not None
    ]
    if not both:
        return None
    differences = [getattr(item, metric) - getattr(other, metric) for item, other in both]
    pooled = metric in over_pixels([item for item, _ in both])
    return mean_interval(differences, [float(item.valid_pixels) for item, _ in both] if pooled else None)


def signed(value: float) -> str:
    """Two decimals with a sign; what rounds to nothing has none."""
    text = f"{value:+.2f}"
    return "0.00" if float(text) == 0 else text


def range_text(interval: Interval) -> str:
    """Such as "95 % interval +0.01 to +0.05, 7 images"."""
    images = f"{interval.images} image{'s' if interval.images != 1 else ''}"
    if interval.low is None or interval.high is None:
        return f"{images}: too few for an interval"
    return f"95 % interval {signed(interval.low)} to {signed(interval.high)}, {images}"


def interval_text(interval: Interval, unit: str) -> str:
    """Such as "+0.03 px (95 % interval +0.01 to +0.05, 7 images)"."""
    return f"{signed(interval.mean)} {unit} ({range_text(interval)})"
