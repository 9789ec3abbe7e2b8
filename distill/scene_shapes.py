"""Silhouettes of flat things: signed-distance pictures whose zero line is the outline.

A flat surface is cut out where the picture is negative. Distances rather than black and white, so that an enlarged
outline stays smooth. The bank's shape 0 is the full rectangle, 1 the disc.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from distill.scene_patterns import octaves

Cut = NDArray[Any]  # uint8, nonzero inside; OpenCV returns are typed more loosely
Shape = Callable[[np.random.Generator, int], Cut]

# Drawn larger than stored: the distance of the outline then resolves fractions of a stored pixel.
OVERSIZE = 4


def blank(size: int) -> Cut:
    return np.zeros((size, size), np.uint8)


def polygon(rng: np.random.Generator, size: int) -> Cut:
    """A random star-shaped polygon, from triangle to jagged."""
    corners = int(rng.integers(3, 12))
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners)) + rng.uniform(0, 2 * np.pi)
    radius = size / 2 * rng.uniform(rng.uniform(0.25, 0.9), 1, corners)
    points = size / 2 + np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)
    return cv2.fillPoly(blank(size), [points.astype(np.int32)], 255)


def ellipse(rng: np.random.Generator, size: int) -> Cut:
    """A disc, or a ring."""
    canvas = cv2.circle(blank(size), (size // 2, size // 2), size // 2 - 2, 255, -1)
    if rng.random() < 0.3:
        cv2.circle(canvas, (size // 2, size // 2), int(size / 2 * rng.uniform(0.4, 0.92)), 0, -1)
    return canvas


def blob(rng: np.random.Generator, size: int) -> Cut:
    """A smooth closed curve with bulges and bays."""
    angle = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    radius = np.ones_like(angle)
    for harmonic in range(2, 9):
        radius += rng.normal(0, 0.35 / harmonic) * np.cos(harmonic * angle + rng.uniform(0, 2 * np.pi))
    radius = np.clip(radius, 0.15, None)
    radius *= size / 2 / radius.max()
    points = size / 2 + np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)
    return cv2.fillPoly(blank(size), [points.astype(np.int32)], 255)


def bars(rng: np.random.Generator, size: int) -> Cut:
    """A fence, railing, ladder or lattice: bars one or two ways, sometimes oblique."""
    canvas = blank(size)
    spacing = size / rng.integers(3, 14)
    thickness = max(2, int(spacing * rng.uniform(0.08, 0.5)))
    directions = [rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)])]
    if rng.random() < 0.6:
        directions.append(directions[0] + np.pi / 2)
    for direction in directions:
        along = np.array([np.cos(direction), np.sin(direction)]) * size
        across = np.array([-along[1], along[0]]) / size
        for step in np.arange(-1.5 * size, 1.5 * size, spacing):
            centre = size / 2 + step * across
            ends = [tuple(int(v) for v in centre + sign * 2 * along) for sign in (-1, 1)]
            cv2.line(canvas, ends[0], ends[1], 255, thickness)
    return canvas


def wires(rng: np.random.Generator, size: int) -> Cut:
    """A few thin curved lines: cables, twigs, cords."""
    canvas = blank(size)
    along = np.linspace(-0.1, 1.1, 60)
    for _ in range(int(rng.integers(1, 7))):
        curve = rng.uniform(0.1, 0.9) + rng.normal(0, 0.25) * (along - 0.5)
        curve = curve + rng.normal(0, 0.15) * np.sin(along * rng.uniform(1, 9) + rng.uniform(0, 6))
        points = np.stack([along, curve] if rng.random() < 0.5 else [curve, along], -1) * size
        cv2.polylines(canvas, [points.astype(np.int32)], False, 255, int(size * rng.uniform(0.015, 0.05)) + 1)
    return canvas


def leaves(rng: np.random.Generator, size: int) -> Cut:
    """A bunch of pointed leaves from one stem, as of a house plant."""
    canvas = blank(size)
    root = np.array([size / 2, size * 0.95])
    for _ in range(int(rng.integers(4, 16))):
        heading = rng.uniform(-2.6, -0.5)
        length, width = size * rng.uniform(0.3, 0.95), size * rng.uniform(0.015, 0.07)
        along = np.linspace(0, 1, 24)
        bend = heading + rng.normal(0, 0.7) * along
        spine = root + np.cumsum(np.stack([np.cos(bend), np.sin(bend)], -1) * length / 24, 0)
        normal = np.stack([-np.sin(bend), np.cos(bend)], -1)
        half = (width * np.sin(np.pi * np.clip(along, 0.05, 1)) ** 0.8)[:, None] + 1
        outline = np.concatenate([spine + half * normal, (spine - half * normal)[::-1]])
        cv2.fillPoly(canvas, [outline.astype(np.int32)], 255)
    return canvas


def foliage(rng: np.random.Generator, size: int) -> Cut:
    """Thresholded noise inside a round outline: crowns of trees, bushes, torn paper."""
    value = octaves(rng, size, cells=2 ** rng.uniform(1.5, 4.5), count=4, gain=rng.uniform(0.4, 0.8))
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size * 2 - 1
    fade = np.clip(1.15 - np.sqrt(x * x + y * y), 0, 1) ** rng.uniform(0.2, 0.8)
    return np.where(value * fade > rng.uniform(0.25, 0.5), 255, 0).astype(np.uint8)


def tree(rng: np.random.Generator, size: int) -> Cut:
    """A trunk that forks into ever thinner branches."""
    canvas = blank(size)
    tips = [(np.array([size / 2, size * 1.0]), -np.pi / 2, size * rng.uniform(0.18, 0.28), size * 0.05)]
    for _ in range(6):
        grown = []
        for point, heading, length, width in tips:
            end = point + length * np.array([np.cos(heading), np.sin(heading)])
            cv2.line(canvas, tuple(map(int, point)), tuple(map(int, end)), 255, max(1, round(width)))
            for _ in range(2):
                grown.append((end, heading + rng.normal(0, 0.5), length * rng.uniform(0.6, 0.9), width * 0.68))
        tips = grown
    return canvas


def frame(rng: np.random.Generator, size: int) -> Cut:
    """A board with openings: window, chair back, shelf, gate."""
    canvas = cv2.rectangle(blank(size), (0, 0), (size, size), 255, -1)
    rows, columns = int(rng.integers(1, 5)), int(rng.integers(1, 5))
    border = rng.uniform(0.03, 0.3)
    for row in range(rows):
        for column in range(columns):
            if rng.random() < 0.15:
                continue
            low = ((np.array([column, row]) + border / 2) * size / [columns, rows]).astype(int)
            high = ((np.array([column + 1, row + 1]) - border / 2) * size / [columns, rows]).astype(int)
            cv2.rectangle(canvas, tuple(map(int, low)), tuple(map(int, high)), 0, -1)
    return canvas


SHAPES: dict[str, tuple[Shape, float]] = {
    "polygon": (polygon, 0.16),
    "ellipse": (ellipse, 0.08),
    "blob": (blob, 0.16),
    "bars": (bars, 0.12),
    "wires": (wires, 0.12),
    "leaves": (leaves, 0.12),
    "foliage": (foliage, 0.1),
    "tree": (tree, 0.06),
    "frame": (frame, 0.08),
}


def signed_distance(cut: Cut) -> NDArray[np.float32]:
    """Distance to the outline in fractions of the picture's width, positive inside."""
    padded = np.pad(cut, 1)
    inside = cv2.distanceTransform((padded > 0).astype(np.uint8), cv2.DIST_L2, 5)
    outside = cv2.distanceTransform((padded == 0).astype(np.uint8), cv2.DIST_L2, 5)
    return ((inside - outside)[1:-1, 1:-1] / cut.shape[0]).astype(np.float32)


def disc(size: int) -> NDArray[np.float32]:
    """Signed distances (size, size) of the disc that touches the border."""
    y, x = ((np.mgrid[0:size, 0:size].astype(np.float32) + 0.5) / size) - 0.5
    return 0.5 - np.sqrt(x * x + y * y)


def draw_shape(rng: np.random.Generator, size: int) -> tuple[str, NDArray[np.float32]]:
    """A silhouette drawn by its weight in `SHAPES`: its name and signed distances (size, size)."""
    weights = np.array([weight for _, weight in SHAPES.values()])
    name = str(rng.choice(list(SHAPES), p=weights / weights.sum()))
    distance = signed_distance(SHAPES[name][0](rng, size * OVERSIZE))
    return name, np.asarray(cv2.resize(distance, (size, size), interpolation=cv2.INTER_AREA), np.float32)
