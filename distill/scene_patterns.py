"""Procedural texture patterns: one function per pattern, each a square float32 RGB image in [0, 1].

All randomness comes from the numpy generator handed in; colours are arbitrary here, because a scene recolours every
texture per surface.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[Any]  # float32; OpenCV returns are typed more loosely
Pattern = Callable[[np.random.Generator, int], Image]


def noise(rng: np.random.Generator, size: int, *, cells: float, stretch: float = 1.0) -> Image:
    """Smooth value noise (size, size) in [0, 1] with about `cells` cells across, `stretch` times fewer down."""
    across = max(2, round(cells) + 1)
    down = max(2, round(cells / stretch) + 1)
    grid = rng.random((down + 2, across + 2), dtype=np.float32)
    return np.clip(cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC), 0, 1)


def octaves(
    rng: np.random.Generator, size: int, *, cells: float, count: int, gain: float, stretch: float = 1.0
) -> Image:
    """Fractal noise (size, size) in [0, 1]: octaves of value noise, each `gain` times the one before."""
    total, weight, amplitude = np.zeros((size, size), np.float32), 0.0, 1.0
    for octave in range(count):
        frequency = cells * 2**octave
        if frequency > size / 2:
            break
        total += amplitude * noise(rng, size, cells=frequency, stretch=stretch)
        weight += amplitude
        amplitude *= gain
    total /= weight
    low, high = np.percentile(total, [1, 99])
    return np.clip((total - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)


def colorize(rng: np.random.Generator, value: Image, *, stops: int = 3) -> Image:
    """Map (H, W) values in [0, 1] to RGB through a random piecewise-linear palette."""
    palette = rng.random((stops, 3), dtype=np.float32)
    common = rng.random((stops, 1), dtype=np.float32)
    # Mostly near gray, as the surfaces of houses, streets and rooms are, and sometimes colourful.
    palette = common + rng.random(dtype=np.float32) ** 1.3 * (palette - common)
    places = np.linspace(0, 1, stops)
    return np.stack([np.interp(value, places, palette[:, channel]) for channel in range(3)], -1).astype(np.float32)


def fractal(rng: np.random.Generator, size: int) -> Image:
    """Clouds, dirt, plaster: fractal noise of random coarseness and grain."""
    value = octaves(rng, size, cells=2 ** rng.uniform(1, 5), count=8, gain=rng.uniform(0.4, 0.95))
    return colorize(rng, value, stops=int(rng.integers(2, 6)))


def grass(rng: np.random.Generator, size: int) -> Image:
    """Fine strongly textured grain, sometimes fibrous: grass, gravel, carpet, bark."""
    stretch = 2 ** rng.uniform(-2.5, 2.5)
    value = octaves(rng, size, cells=2 ** rng.uniform(4, 6), count=4, gain=rng.uniform(0.7, 1.1), stretch=stretch)
    return colorize(rng, value, stops=int(rng.integers(2, 5)))


def wood(rng: np.random.Generator, size: int) -> Image:
    """Growth rings, bent by noise and stretched along the grain."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    bend = octaves(rng, size, cells=2, count=4, gain=0.5, stretch=rng.uniform(2, 6))
    phase = (x * rng.uniform(2, 8) + y * rng.uniform(-0.3, 0.3) + bend * rng.uniform(0.3, 1.5)) * rng.uniform(1, 4)
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * phase)
    grain = octaves(rng, size, cells=24, count=3, gain=0.8, stretch=0.08)
    return colorize(rng, np.clip(0.75 * rings + 0.35 * grain - 0.05, 0, 1).astype(np.float32), stops=3)


def bricks(rng: np.random.Generator, size: int) -> Image:
    """Bricks, tiles or planks with joints, each its own shade, with weathering."""
    rows = int(rng.integers(3, 20))
    columns = max(1, round(rows / rng.uniform(0.8, 4)))
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    row = np.floor(y * rows)
    shifted = x * columns + np.where(row % 2 == 1, rng.choice([0.0, 0.5, 0.33]), 0.0)
    column = np.floor(shifted)
    shades = rng.random((rows + 1, columns + 2), dtype=np.float32)
    shade = shades[row.astype(int) % rows, column.astype(int) % columns]
    joint = rng.uniform(0.02, 0.12)
    inside_y = np.minimum(y * rows - row, row + 1 - y * rows)
    inside_x = np.minimum(shifted - column, column + 1 - shifted) * rows / columns
    edge = np.clip((np.minimum(inside_x, inside_y) - joint) / (joint + 0.02), 0, 1)
    weather = octaves(rng, size, cells=8, count=5, gain=0.8)
    brick = colorize(rng, np.clip(rng.uniform(0.1, 0.6) * shade + rng.uniform(0.2, 0.6) * weather, 0, 1))
    mortar = rng.random(3, dtype=np.float32) * (0.6 + 0.4 * weather[..., None])
    return (edge[..., None] * brick + (1 - edge[..., None]) * mortar).astype(np.float32)


def stripes(rng: np.random.Generator, size: int) -> Image:
    """Stripes, checks or plaid: exactly repetitive, the hard case of stereo."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    count = 2 ** rng.uniform(1.5, 5)
    sharp = 2 ** rng.uniform(0, 4)

    def wave(position: Image, frequency: float) -> Image:
        return 0.5 + 0.5 * np.tanh(sharp * np.sin(2 * np.pi * frequency * position)) / np.tanh(sharp)

    value = wave(x, count)
    kind = rng.integers(0, 3)
    if kind == 1:
        other = wave(y, count * rng.choice([1.0, 1.0, 0.5]))
        value = value * other + (1 - value) * (1 - other)
    elif kind == 2:
        value = 0.5 * value + 0.5 * wave(y, count)
    value = value + rng.uniform(0, 0.4) * (octaves(rng, size, cells=4, count=6, gain=0.8) - 0.5)
    return colorize(rng, np.clip(value, 0, 1).astype(np.float32), stops=int(rng.integers(2, 4)))


def blobs(rng: np.random.Generator, size: int) -> Image:
    """Overlapping filled shapes of many sizes on a plain or noisy ground: toys, leaves, pebbles, fabric prints."""
    ground = colorize(rng, octaves(rng, size, cells=4, count=6, gain=0.6))
    canvas = np.ascontiguousarray(np.clip(0.3 * ground + 0.7 * rng.random(3), 0, 1).astype(np.float32))
    palette = rng.random((int(rng.integers(3, 12)), 3))
    largest = size * 2 ** rng.uniform(-5, -2)
    for _ in range(int(rng.integers(40, 400))):
        color = tuple(float(c) for c in palette[rng.integers(len(palette))])
        centre = tuple(int(c) for c in rng.integers(0, size, 2))
        axes = tuple(int(a) for a in largest * rng.uniform(0.15, 1, 2) + 1)
        if rng.random() < 0.5:
            cv2.ellipse(canvas, centre, axes, float(rng.uniform(0, 360)), 0, 360, color, -1, cv2.LINE_AA)
        else:
            points = np.array(centre) + rng.normal(0, largest / 2, (int(rng.integers(3, 6)), 2))
            cv2.fillPoly(canvas, [points.astype(np.int32)], color, cv2.LINE_AA)
    return canvas


def writing(rng: np.random.Generator, size: int) -> Image:
    """Lines of marks and letters, rules and framed patches: posters, book spines, packages, signs."""
    paper = rng.random(3) * 0.4 + rng.choice([0.0, 0.6])
    # OpenCV draws letters on 8-bit pictures only.
    canvas = np.ascontiguousarray(np.broadcast_to((255 * paper).astype(np.uint8), (size, size, 3)))
    alphabet = "ABCDEFGHKLMNPRSTUVXYZabcdefghknopqrstuvz0123456789#&%+=<>*"
    for _ in range(int(rng.integers(2, 8))):
        corner, extent = rng.integers(0, size, 2), rng.integers(size // 16, size // 2, 2)
        color = tuple(float(c) for c in 255 * rng.random(3))
        filled = -1 if rng.random() < 0.6 else int(rng.integers(1, 5))
        low, high = tuple(map(int, corner)), tuple(map(int, corner + extent))
        cv2.rectangle(canvas, low, high, color, filled, cv2.LINE_AA)
    y = 0
    while y < size:
        scale = 2 ** rng.uniform(-1.6, 1.2)
        y += int(28 * scale) + int(rng.integers(1, 12))
        text = "".join(rng.choice(list(alphabet + " " * 8), int(rng.integers(4, 40))))
        color = tuple(float(c) for c in 255 * np.clip(1 - paper + rng.normal(0, 0.25, 3), 0, 1))
        place = (int(rng.integers(-20, size // 2)), y)
        font = int(rng.choice([cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_SCRIPT_COMPLEX]))
        cv2.putText(canvas, text, place, font, scale, color, int(rng.integers(1, 3)), cv2.LINE_AA)
    return (canvas / 255).astype(np.float32)


def speckle(rng: np.random.Generator, size: int) -> Image:
    """Sparse dots and scratches on a nearly plain ground: concrete, asphalt, painted metal."""
    ground = octaves(rng, size, cells=3, count=3, gain=0.5)
    grains = rng.random((size, size), dtype=np.float32)
    dots = (grains > 1 - 10 ** rng.uniform(-3, -0.7)).astype(np.float32)
    dots = cv2.GaussianBlur(dots, (0, 0), float(rng.uniform(0.6, 1.6)))
    dots /= max(float(dots.max()), 1e-6)
    canvas = np.ascontiguousarray(np.clip(0.45 + 0.15 * ground + rng.choice([-0.5, 0.5]) * dots, 0, 1))
    for _ in range(int(rng.integers(0, 25))):
        start = rng.integers(0, size, 2)
        end = start + rng.normal(0, size / 4, 2)
        ends = tuple(map(int, start)), tuple(map(int, end))
        cv2.line(canvas, *ends, float(rng.uniform(0.1, 0.9)), 1, cv2.LINE_AA)
    return colorize(rng, canvas.astype(np.float32), stops=2)


def cells(rng: np.random.Generator, size: int) -> Image:
    """Voronoi cells with borders: stone walls, cracked earth, foliage seen from afar."""
    count = int(2 ** rng.uniform(4, 9))
    points = rng.integers(0, size, (count, 2))
    seeds = np.full((size, size), 255, np.uint8)
    seeds[points[:, 1], points[:, 0]] = 0
    distance, label = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    shade = rng.random(count + 2, dtype=np.float32)[np.asarray(label, np.int64)]
    height = np.clip(distance / (0.6 * size / np.sqrt(count)), 0, 1)
    value = np.clip(rng.uniform(0.2, 0.9) * shade + rng.uniform(-0.6, 0.6) * height + 0.3, 0, 1)
    value = 0.8 * value + 0.2 * octaves(rng, size, cells=16, count=4, gain=0.9)
    return colorize(rng, cv2.GaussianBlur(value.astype(np.float32), (0, 0), 0.7), stops=4)


def plain(rng: np.random.Generator, size: int) -> Image:
    """Almost nothing: a gradient with a trace of grain, for painted walls and sheet metal."""
    value = noise(rng, size, cells=rng.uniform(1, 3)) * rng.uniform(0.1, 0.4) + rng.uniform(0.1, 0.6)
    value = value + rng.uniform(0, 0.06) * (octaves(rng, size, cells=32, count=3, gain=0.9) - 0.5)
    return colorize(rng, np.clip(value, 0, 1).astype(np.float32), stops=2)


PATTERNS: dict[str, tuple[Pattern, float]] = {
    "fractal": (fractal, 0.18),
    "grass": (grass, 0.16),
    "wood": (wood, 0.08),
    "bricks": (bricks, 0.12),
    "stripes": (stripes, 0.07),
    "blobs": (blobs, 0.12),
    "writing": (writing, 0.1),
    "speckle": (speckle, 0.07),
    "cells": (cells, 0.06),
    "plain": (plain, 0.04),
}


def draw_pattern(rng: np.random.Generator, size: int) -> tuple[str, Image]:
    """A pattern drawn by its weight in `PATTERNS`: its name and one texture (size, size, 3) in [0, 1]."""
    weights = np.array([weight for _, weight in PATTERNS.values()])
    name = str(rng.choice(list(PATTERNS), p=weights / weights.sum()))
    return name, PATTERNS[name][0](rng, size)
