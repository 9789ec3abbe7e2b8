"""Sparsification curves as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from stereo.pair import Image
from stereo.sparsification import Sparsification

WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 50, 60
# Line coordinates in 16ths of a pixel, for smooth lines.
SHIFT = 4
# Okabe and Ito's colours, which the colour-blind can tell apart; RGB.
COLOURS = ((213, 94, 0), (0, 114, 178), (0, 158, 115), (204, 121, 167), (230, 159, 0))
ORACLE_COLOUR, GRID_COLOUR, TEXT_COLOUR = (120, 120, 120), (225, 225, 225), (40, 40, 40)


def nice_step(largest: float, *, lines: int = 6) -> float:
    """A round distance of grid lines."""
    raw = largest / lines
    power = 10.0 ** np.floor(np.log10(raw))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= raw))


def write(image: Image, text: str, x: float, y: float, *, scale: float = 0.45) -> None:
    """Text with its baseline's left end at x, y."""
    cv2.putText(image, text, (round(x), round(y)), cv2.FONT_HERSHEY_SIMPLEX, scale, TEXT_COLOUR, 1, cv2.LINE_AA)


class Axes:
    """Percent of removed pixels to the right, the mean error of the rest upwards.

    Args:
        largest: highest error, in percent.
    """

    def __init__(self, largest: float) -> None:
        self.step = nice_step(largest)
        self.top = self.step * np.ceil(largest / self.step)
        self.image: Image = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)

    def x(self, removed: npt.NDArray[np.float64] | float) -> npt.NDArray[np.float64] | float:
        """Pixel column of a share of removed pixels, 0 to 1."""
        return LEFT + removed * (WIDTH - LEFT - RIGHT)

    def y(self, error: npt.NDArray[np.float64] | float) -> npt.NDArray[np.float64] | float:
        """Pixel row of an error in percent."""
        return HEIGHT - BOTTOM - error / self.top * (HEIGHT - TOP - BOTTOM)

    def grid(self, title: str) -> None:
        """Lines, numbers and what they mean."""
        for error in np.arange(0, self.top + self.step / 2, self.step):
            row = round(float(self.y(error)))
            cv2.line(self.image, (LEFT, row), (WIDTH - RIGHT, row), GRID_COLOUR, 1)
            write(self.image, f"{error:g} %", 14, row + 5)
        for removed in np.arange(0, 1.01, 0.2):
            column = round(float(self.x(removed)))
            cv2.line(self.image, (column, TOP), (column, HEIGHT - BOTTOM), GRID_COLOUR, 1)
            write(self.image, f"{100 * removed:.0f} %", column - 14, HEIGHT - BOTTOM + 20)
        write(self.image, "answered pixels taken away, the least confident first", LEFT + 130, HEIGHT - 14)
        write(self.image, title, LEFT, 28, scale=0.55)

    def curve(self, kept: npt.NDArray[np.float64], error: npt.NDArray[np.float64], colour: tuple[int, ...]) -> None:
        """One line."""
        points = np.stack([self.x(1 - kept), self.y(error)], axis=-1)
        cv2.polylines(
            self.image, [np.rint(points * 2**SHIFT).astype(np.int32)], isClosed=False, color=colour, thickness=2,
            lineType=cv2.LINE_AA, shift=SHIFT,
        )  # fmt: skip


def draw_curves(curves: Mapping[str, Sequence[Sparsification]], *, title: str) -> Image:
    """Mean curves over pairs, uint8 H×W×3 RGB.

    Args:
        curves: by name of the confidence, one for each pair, the errors in percent.
        title: what was measured.
    """
    means = {name: np.mean([one.by_confidence for one in each], axis=0) for name, each in curves.items()}
    first = next(iter(curves.values()))
    kept, oracle = first[0].kept, np.mean([one.by_oracle for one in first], axis=0)
    axes = Axes(float(max(mean.max() for mean in means.values())))
    axes.grid(f"{title}: pixels wrong by more than 2 px among those left, mean of {len(first)} pairs")
    lines = [*zip(means, means.values(), COLOURS, strict=False), ("oracle", oracle, ORACLE_COLOUR)]
    for number, (name, mean, colour) in enumerate(lines):
        axes.curve(kept, mean, colour)
        row = TOP + 22 + 20 * number
        cv2.line(axes.image, (WIDTH - 270, row - 4), (WIDTH - 240, row - 4), colour, 2, cv2.LINE_AA)
        write(axes.image, name, WIDTH - 232, row)
    return axes.image
