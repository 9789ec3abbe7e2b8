"""A pair that looks like something, drawn from nothing: for timing, where noise or zeros could flatter a runtime."""

from __future__ import annotations

import cv2
import numpy as np

from stereo.pair import StereoPair

OCTAVES = 6


def textured_pair(height: int, width: int, *, seed: int = 0) -> StereoPair:
    """A slanted, textured plane with a nearer square in the middle, and its exact disparity.

    Args:
        height, width: of the images, px.
    """
    generator = np.random.default_rng(seed)
    disparity = np.repeat(np.linspace(width / 64, width / 16, height, dtype=np.float32)[:, None], width, axis=1)
    disparity[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] += width / 32
    # The texture belongs to the right view, so that the left one is an exact lookup: left(x) = right(x - d).
    right = texture(height, width, generator)
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    left = cv2.remap(right, columns - disparity, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return StereoPair(left.astype(np.uint8), right, name=f"textured plane {height}x{width}", disparity=disparity)


def texture(height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """Coloured noise of several scales, uint8 H×W×3."""
    total = np.zeros((height, width, 3), np.float32)
    for octave in range(OCTAVES):
        grid = generator.normal(size=(2 + (height >> octave) // 2, 2 + (width >> octave) // 2, 3)).astype(np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 32 * total, 0, 255).astype(np.uint8)
