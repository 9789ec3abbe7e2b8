"""Which frames of a source are worth a label, and why the others are not.

A frame is judged by itself (exposure, black borders, blur) and against the last frame that was kept (near duplicates).
The caller forgets that one at the start of every block of a fixed number of frames, so that work cut at the ends of
blocks is judged the same by one machine and by many.

    selection, kept = Selection(options), None
    reason = selection.judge(pair, kept)          # None: keep it
    if reason is None:
        kept = ThumbnailState.of(pair.left)
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from stereo.errors import UserError
from stereo.image_quality import border_share, bright_share, dark_share, edge_width_px, judged
from stereo.pair import Image, StereoPair
from stereo.selection_options import SelectionOptions

NEAR_DUPLICATE, BLURRED, BORDER = "near duplicate", "blurred", "black border"
UNDEREXPOSED, OVEREXPOSED = "underexposed", "overexposed"
REASONS = (UNDEREXPOSED, OVEREXPOSED, BORDER, BLURRED, NEAR_DUPLICATE)

# (W, H): one cell of a VGA image averages 10×10 px, which takes the sensor's noise away.
THUMBNAIL_SIZE = (64, 48)
# Cells that may differ: a bird passes, leaves move.
UNCHANGED_PERCENTILE = 98
# Exposure control may scale the image by so much; more is a change.
LARGEST_GAIN = 1.25

Thumbnail = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ThumbnailState:
    """What the next frame is compared with.

    Args:
        thumbnail: float32 48×64, the left view in gray.
    """

    thumbnail: Thumbnail

    @classmethod
    def of(cls, image: Image) -> ThumbnailState:
        """Of a left view, uint8 H×W×3."""
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        return cls(cv2.resize(gray, THUMBNAIL_SIZE, interpolation=cv2.INTER_AREA).astype(np.float32))


def change_levels(before: ThumbnailState, after: ThumbnailState) -> float:
    """How much an image changed, gray levels: 98th percentile over the cells, without what exposure control does."""
    first, second = (state.thumbnail - state.thumbnail.mean() for state in (before, after))
    power = float((second * second).sum())
    gain = float((first * second).sum()) / power if power > 0 else 1.0
    gain = min(max(gain, 1 / LARGEST_GAIN), LARGEST_GAIN)
    return float(np.percentile(np.abs(first - gain * second), UNCHANGED_PERCENTILE))


class Selection:
    """Judges single frames.

    Args:
        options: the limits.

    Raises:
        UserError: a limit that makes no sense.
    """

    def __init__(self, options: SelectionOptions) -> None:
        for name in ("max_dark", "max_bright", "max_border"):
            share = getattr(options, name)
            if share is not None and not 0 <= share <= 1:
                raise UserError(f"{share} is not a share", where=name, fix="from 0 to 1, or null for no limit")
        for name in ("near_duplicate_levels", "max_edge_px"):
            limit = getattr(options, name)
            if limit is not None and limit <= 0:
                raise UserError(f"{limit} is not positive", where=name, fix="null is no limit")
        if options.block < 1:
            raise UserError(f"{options.block} is below 1", where="block")
        self.options = options

    def judge(self, pair: StereoPair, previous_kept: ThumbnailState | None) -> str | None:
        """Why this frame is dropped, one of `REASONS`; None when it is kept."""
        reason = self.judge_alone(pair)
        limit = self.options.near_duplicate_levels
        if reason is None and limit is not None and previous_kept is not None:
            return NEAR_DUPLICATE if change_levels(previous_kept, ThumbnailState.of(pair.left)) < limit else None
        return reason

    def judge_alone(self, pair: StereoPair) -> str | None:
        """Why this frame is dropped whatever stands beside it; the worse view counts."""
        views = [judged(view) for view in (pair.left, pair.right)]
        options = self.options
        if options.max_dark is not None and max(map(dark_share, views)) > options.max_dark:
            return UNDEREXPOSED
        if options.max_bright is not None and max(map(bright_share, views)) > options.max_bright:
            return OVEREXPOSED
        if options.max_border is not None and max(map(border_share, views)) > options.max_border:
            return BORDER
        if options.max_edge_px is not None:
            widths = [width for view in views if (width := edge_width_px(view)) is not None]
            if max(widths, default=0.0) > options.max_edge_px:
                return BLURRED
        return None
