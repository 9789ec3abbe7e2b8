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
    max_vertical_px: float = field(default=2.0, kw_only=True)
    max_rotation_deg: float = field(default=0.25, kw_only=True)
    max_zoom_pct: float = field(default=0.5, kw_only=True)


@dataclass
class SelectionOptions:
    """Which frames are worth a label; each limit can be switched off with null, reasons stand in docs/labels.md.

    Args:
        near_duplicate_levels: drop a frame that differs from the last kept one by less than this many gray levels, in
            all but 2 % of the image: a camera that stands still.
        max_edge_px: drop a frame whose sharper edges are wider than this, in pixels at an image width of 640.
        max_dark: drop a frame of whose pixels more than this share are nearly black, in either view.
        max_bright: drop a frame of whose pixels more than this share are nearly white, in either view.
        max_border: drop a frame with black borders of more than this share of either view.
        block: near duplicates are looked for among so many consecutive frames, so that machines that share the work
            choose the same ones; parts of the work must begin at multiples of it.
    """

    near_duplicate_levels: float | None = field(default=6.0, kw_only=True)
    max_edge_px: float | None = field(default=4.0, kw_only=True)
    max_dark: float | None = field(default=0.8, kw_only=True)
    max_bright: float | None = field(default=0.5, kw_only=True)
    max_border: float | None = field(default=0.05, kw_only=True)
    block: int = field(default=256, kw_only=True)
