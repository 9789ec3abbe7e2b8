"""The questions that `stereo.pair_check` asks of the images of a source, each with its measured numbers.

Every one is asked of all frames together and of each alone. Limits come from real pairs and damaged copies of them;
docs/labels.md tells the measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stereo.pair import Image, StereoPair
from stereo.selection_options import CheckOptions
from stereo.vertical_offset import FEWEST_POINTS, Outcome, measure
from stereo.view_matching import Matches, match_views

Floats = npt.NDArray[np.float32]

# Left and right are swapped when at least so many points lie further right in the right view. Of real pairs, 97 % to
# 100 % do when swapped and up to 3 % when not; in between stand cameras that are turned towards each other.
SWAPPED_SHARE, NEGATIVE_SHARE = 0.7, 0.1
# Disparities below this have no sign, and views whose points all move less are one image.
STILL_PX, SIGN_PX = 0.25, 0.5
STILL_SHARE = 0.95
# A match this far from the others' vertical offset is a false one.
ASTRAY_PX = 3.0
# Correlation of red against blue between the views, at least, to tell the channel order. See docs/labels.md.
COLOUR_CORRELATION = 0.5
# Below this difference of red and blue, relative to brightness, an image is gray.
GRAY_CHROMA = 0.004
# Views of one scene share at least a tenth of their corners in the real data, others at most 0.2 %.
UNRELATED_SHARE = 0.02
# Of corners with one clear partner at least half survive the close look; 7 % of a view turned upside down.
TURNED_SHARE = 0.15
FEWEST_CORNERS = 60
# Of unrelated real views at most 11 % of the corners have a likeness, of related ones at least 22 %.
LIKENESS_SHARE = 0.16


@dataclass(frozen=True)
class Answer:
    """One question's answer.

    Args:
        outcome: fine, wrong, or cannot tell.
        what: the measured numbers in words.
        numbers: the same as JSON values.
    """

    outcome: Outcome
    what: str
    numbers: dict[str, Any]


@dataclass(frozen=True)
class FrameCheck:
    """What is kept of a frame that was looked at.

    Args:
        name: of the frame.
        matches: its points.
        identical: every pixel of both views is the same, and they are not one flat colour.
        colour: whether the left and the right view have colour.
    """

    name: str
    matches: Matches
    identical: bool
    colour: tuple[bool, bool]


def has_colour(image: Image) -> bool:
    """Whether the channels differ, on every eighth pixel."""
    return bool(np.ptp(image[::8, ::8].astype(np.int16), axis=2).max() > 0)


def check_frame(pair: StereoPair) -> FrameCheck:
    """Look at one pair."""
    identical = bool(np.array_equal(pair.left, pair.right)) and bool(pair.left.std() > 0)
    return FrameCheck(pair.name, match_views(pair), identical, (has_colour(pair.left), has_colour(pair.right)))


def ask_rectified(frames: Sequence[FrameCheck], options: CheckOptions) -> Answer:
    """Do matching points lie on the same row?"""
    offset = measure([frame.matches for frame in frames])
    if offset is None:
        points = sum(len(frame.matches) for frame in frames)
        return Answer("cannot tell", f"only {points} points match", {"points": points})
    return Answer(offset.outcome(options), offset.tell(), offset.describe())


def disparities(matches: Matches) -> Floats:
    """x_left - x_right of the clear points whose vertical offset is like the others': N px."""
    if not len(matches):
        return np.zeros(0, np.float32)
    vertical = matches.right[:, 1] - matches.left[:, 1]
    agree = matches.clear & (np.abs(vertical - np.median(vertical)) < ASTRAY_PX)
    return (matches.left[:, 0] - matches.right[:, 0])[agree]


def ask_order(frames: Sequence[FrameCheck], options: CheckOptions) -> Answer:
    """Do points lie further left in the right view?"""
    del options
    found = np.concatenate([disparities(frame.matches) for frame in frames])
    left, right = int((found > SIGN_PX).sum()), int((found < -SIGN_PX).sum())
    count = left + right
    share = right / count if count else 0.0
    numbers = {"points": count, "negative_pct": round(100 * share, 2)}
    if count:
        numbers["median_disparity_px"] = round(float(np.median(found)), 2)
    what = f"{100 * share:.0f} % of {count} points lie further right in the right view than in the left one"
    if count < FEWEST_POINTS:
        return Answer("cannot tell", f"only {count} points have a disparity", numbers)
    if share >= SWAPPED_SHARE:
        return Answer("wrong", what, numbers)
    return Answer("fine" if share <= NEGATIVE_SHARE else "cannot tell", what, numbers)


def ask_channels(frames: Sequence[FrameCheck], options: CheckOptions) -> Answer:
    """Is what is red on the left red on the right, too?"""
    del options
    colour = [frame for frame in frames if all(frame.colour)]
    if not any(any(frame.colour) for frame in frames):
        return Answer("fine", "both views are gray", {"gray": True})
    numbers: dict[str, Any] = {"gray": False, "points": sum(len(frame.matches) for frame in colour)}
    if not colour:
        return Answer("cannot tell", "one view is gray, the other one has colour", numbers)
    left, right = (
        np.concatenate([chroma(colours) for colours in side])
        for side in zip(*((frame.matches.colour_left, frame.matches.colour_right) for frame in colour), strict=True)
    )
    if len(left) < FEWEST_POINTS or min(np.ptp(left), np.ptp(right)) < GRAY_CHROMA:
        return Answer("cannot tell", f"{len(left)} points with little colour", numbers)
    # About their medians, because two cameras seldom share their white balance.
    correlation = float(np.corrcoef(left - np.median(left), right - np.median(right))[0, 1])
    numbers["red_blue_correlation"] = round(correlation, 3)
    what = f"red against blue of {len(left)} points correlates by {correlation:+.2f} between the views"
    if abs(correlation) < COLOUR_CORRELATION:
        return Answer("cannot tell", what, numbers)
    return Answer("fine" if correlation > 0 else "wrong", what, numbers)


def chroma(colours: Floats) -> Floats:
    """(R - B) / (R + G + B) of N×3 colours; dark ones count as gray."""
    return (colours[:, 0] - colours[:, 2]) / (colours.sum(axis=1) + 30)


def ask_two_views(frames: Sequence[FrameCheck], options: CheckOptions) -> Answer:
    """Does anything move from one view to the other?"""
    del options
    identical = sum(frame.identical for frame in frames)
    numbers: dict[str, Any] = {"identical_frames": identical}
    if identical > len(frames) / 2:
        return Answer("wrong", f"in {identical} of {len(frames)} frames both views are the same image", numbers)
    moved = np.concatenate([np.abs(frame.matches.left - frame.matches.right).max(axis=1) for frame in frames])
    if len(moved) < FEWEST_POINTS:
        return Answer("cannot tell", f"only {len(moved)} points match", numbers)
    share = float((moved < STILL_PX).mean())
    numbers["still_pct"] = round(100 * share, 2)
    what = f"{100 * share:.0f} % of {len(moved)} points are in the same place in both views"
    return Answer("wrong" if share >= STILL_SHARE else "fine", what, numbers)


def ask_one_scene(frames: Sequence[FrameCheck], options: CheckOptions) -> Answer:
    """Do both views show the same scene the same way up?"""
    del options
    features, candidates, points, similar = count_corners(frames)
    numbers = {"corners": features, "similar": similar, "candidates": candidates, "points": points}
    what = f"of {features} corners of the left view {points} are found in the right one"
    if points >= FEWEST_POINTS and points >= UNRELATED_SHARE * features and points >= TURNED_SHARE * candidates:
        return Answer("fine", what, numbers)
    textured = [frame for frame in frames if frame.matches.texture >= FEWEST_CORNERS]
    if not textured:
        return Answer("cannot tell", f"{what}; they hold too little texture", numbers)
    features, candidates, points, similar = count_corners(textured)
    if candidates >= FEWEST_CORNERS and points < TURNED_SHARE * candidates:
        turned = f"{what}, though {candidates} have a likeness there: one view is turned or mirrored"
        return Answer("wrong", turned, numbers)
    # A pattern that repeats has many likenesses and no clear partner; an unrelated view has neither.
    unrelated = similar < LIKENESS_SHARE * features and points < UNRELATED_SHARE * features
    return Answer("wrong" if unrelated else "cannot tell", what, numbers)


def count_corners(frames: Sequence[FrameCheck]) -> tuple[int, int, int, int]:
    """Features, candidates, matched points and likenesses of some frames; see `Matches`."""
    found = [frame.matches for frame in frames]
    return (
        sum(each.features for each in found),
        sum(each.candidates for each in found),
        sum(len(each) for each in found),
        sum(each.similar for each in found),
    )
