"""Options of the checks on a source and of the choice of its frames; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class CheckOptions:
    """What a source must fulfil before it is labelled; the limits' reasons stand in docs/labels.md.

    Args:
        sample: frames to look at, spread evenly over the source; 0 checks nothing.
        max_vertical_px: largest vertical offset between matching points, in pixels of the images.
        max_rotation_deg: largest rotation of one view against the other, in degrees.
        max_zoom_pct: largest difference of the views' scales, in per cent.
    """

    sample: int = field(default=16, kw_only=True)
    max_vertical_px: float = field(default=1.5, kw_only=True)
    max_rotation_deg: float = field(default=0.25, kw_only=True)
    max_zoom_pct: float = field(default=0.5, kw_only=True)
