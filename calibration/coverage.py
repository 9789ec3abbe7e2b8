"""Which frames of a label set cover what is in it: simple descriptors and a greedy k-centre.

Ranges of activations are set by the frames with the darkest, the nearest, the most textured things in them, and a drive
consists of a thousand frames of the same road. So frames are described by brightness, colour, texture, disparity and
layout, and chosen farthest first (Gonzalez 1985; for data selection arXiv 1708.00489): every frame of the set is then
near one that calibrates.

    N frames, K descriptor values
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from stereo.label_set import LabelledFrame, LabelSet
from stereo.progress import progress

# Frames that are looked at; more of a long set are left out at even distances, because each has to be decoded.
CANDIDATES = 1024
# Descriptors are taken from pictures of this size (width, height): what a frame shows, not its noise.
THUMBNAIL = (128, 96)
GRID = 4
# Gradient, in grey levels per thumbnail pixel, below which a pixel counts as textureless.
FLAT = 2.0
Floats = npt.NDArray[np.float64]


def grid_means(values: Floats) -> Floats:
    """Means over GRID × GRID cells, relative to the whole."""
    height, width = values.shape
    cells = values.reshape(GRID, height // GRID, GRID, width // GRID).mean(axis=(1, 3))
    return (cells - cells.mean()).ravel()


def describe_frame(frame: LabelledFrame) -> dict[str, Floats]:
    """What a frame is like, by group of values.

    brightness: mean, spread, 5th and 95th percentile of grey, 0–255.
    colour: red and blue against green.
    texture: mean gradient, share of textureless pixels.
    disparity: 5th, 50th and 95th percentile in octaves, share of pixels with a label.
    layout: brightness and gradient of 4×4 cells against the whole.
    """
    small = cv2.resize(frame.left, THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float64)
    red, green, blue = small.transpose(2, 0, 1)
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    gradient = np.hypot(*np.gradient(grey))
    known = frame.disparity[np.isfinite(frame.disparity)]
    octaves = np.log2(1 + np.percentile(known, [5, 50, 95])) if known.size else np.zeros(3)
    return {
        "brightness": np.array([grey.mean(), grey.std(), *np.percentile(grey, [5, 95])]),
        "colour": np.array([(red - green).mean(), (blue - green).mean()]),
        "texture": np.array([np.log1p(gradient.mean()), (gradient < FLAT).mean()]),
        "disparity": np.array([*octaves, known.size / frame.disparity.size]),
        "layout": np.concatenate([grid_means(grey), grid_means(gradient)]),
    }


def points_of(frames: Sequence[dict[str, Floats]]) -> Floats:
    """Descriptors as points whose distance says how different frames are.

    Every value is scaled by its spread over the frames, and every group counts the same, however many values it has.

    Returns: (N, K).
    """
    columns = []
    for group in frames[0]:
        values = np.stack([frame[group] for frame in frames])
        spread = values.std(axis=0)
        # What is the same in all frames up to rounding tells nothing apart.
        scaled = np.where(spread > 1e-9, (values - values.mean(axis=0)) / np.where(spread > 1e-9, spread, 1), 0)
        columns.append(scaled / np.sqrt(values.shape[1]))
    return np.concatenate(columns, axis=1)


def farthest_first(points_NK: Floats, count: int) -> tuple[list[int], float]:
    """Greedy k-centre: the most ordinary point first, then always the one farthest from all that are chosen.

    Args:
        count: points wanted, at most N.

    Returns: their positions in the order of choice, and the distance of the worst covered point to its nearest chosen
    one, at most twice the best that any choice of so many has.
    """
    first = int(np.argmin(np.linalg.norm(points_NK - points_NK.mean(axis=0), axis=1)))
    chosen, nearest = [first], np.linalg.norm(points_NK - points_NK[first], axis=1)
    while len(chosen) < count:
        farthest = int(np.argmax(nearest))
        if nearest[farthest] == 0:  # only copies are left: take them in order
            rest = [index for index in range(len(points_NK)) if index not in set(chosen)]
            chosen += rest[: count - len(chosen)]
            break
        chosen.append(farthest)
        nearest = np.minimum(nearest, np.linalg.norm(points_NK - points_NK[farthest], axis=1))
    return chosen, float(nearest.max())


def covering_radius(points_NK: Floats, chosen: Sequence[int]) -> float:
    """The distance of the worst covered point to its nearest chosen one."""
    distances = np.linalg.norm(points_NK[:, None] - points_NK[None, list(chosen)], axis=2)
    return float(distances.min(axis=1).max())


def cover(labels: LabelSet, count: int) -> tuple[list[int], float]:
    """The frames of a label set that cover it.

    Args:
        count: frames wanted, fewer than the set has.

    Returns: their positions in the set, ascending, and how far the worst covered candidate is from them.
    """
    candidates = spread_out(len(labels), max(CANDIDATES, count))
    described = []
    with progress("looking at frames", len(candidates)) as ticker:
        for index in candidates:
            frame = labels.read(index)
            described.append(describe_frame(frame))
            ticker.advance(note=frame.name)
    chosen, radius = farthest_first(points_of(described), count)
    return sorted(candidates[position] for position in chosen), radius


def spread_out(total: int, count: int) -> list[int]:
    """At most so many positions at even distances."""
    return list(range(total)) if total <= count else (np.arange(count) * total // count).tolist()
