"""Efficiency and launch time out of published latencies, and how far they miss a network they have not seen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

EFFICIENCIES = (0.05, 1.0)
LAUNCHES_US = (0.0, 100.0)
# Each round keeps a fifth of the grid: the best places lie in a long narrow valley, where a smaller window would slip.
STEPS, KEPT, ROUNDS = 61, 6, 12


@dataclass(frozen=True)
class Published:
    """A latency someone measured, and what the roofline says of that network on that board.

    Args:
        ideal_ms: at full efficiency.
        launches: kernels.
    """

    network: str
    latency_ms: float
    ideal_ms: float
    launches: int

    def estimate_ms(self, efficiency: float, launch_us: float) -> float:
        """With given numbers."""
        return self.ideal_ms / efficiency + 1e-3 * launch_us * self.launches


def fitted(points: Sequence[Published]) -> tuple[float, float]:
    """Efficiency and launch time in µs with the least mean squared log error; every network counts the same.

    A grid that is narrowed around its best place: two numbers, a handful of points, the same answer everywhere.

    Raises:
        ValueError: no points.
    """
    if not points:
        raise ValueError("no published latencies")
    counts = Counter(point.network for point in points)
    weights = np.array([1 / counts[point.network] for point in points])
    ideal, launches, latency = (
        np.array([getattr(point, name) for point in points], float) for name in ("ideal_ms", "launches", "latency_ms")
    )
    bounds = [list(map(math.log, EFFICIENCIES)), list(LAUNCHES_US)]
    efficiency = launch_us = 0.0
    for _ in range(ROUNDS):
        logs, launch = (np.linspace(low, high, STEPS) for low, high in bounds)
        estimates = ideal / np.exp(logs)[:, None, None] + 1e-3 * launch[None, :, None] * launches
        errors = (weights * np.log(estimates / latency) ** 2).sum(axis=2)
        row, column = np.unravel_index(errors.argmin(), errors.shape)
        efficiency, launch_us = float(np.exp(logs[row])), float(launch[column])
        bounds = [
            [float(values[max(index - KEPT, 0)]), float(values[min(index + KEPT, STEPS - 1)])]
            for values, index in ((logs, row), (launch, column))
        ]
    return efficiency, launch_us


def left_out(points: Sequence[Published]) -> list[float]:
    """Every point's latency in ms by the numbers that the other networks' points give.

    Raises:
        ValueError: all points are of one network.
    """
    networks = dict.fromkeys(point.network for point in points)
    numbers = {name: fitted([point for point in points if point.network != name]) for name in networks}
    return [point.estimate_ms(*numbers[point.network]) for point in points]


def spread(points: Sequence[Published]) -> tuple[float, float]:
    """The least and the greatest published / left-out latency, 1 included: what an estimate may be off by."""
    ratios = [point.latency_ms / value for point, value in zip(points, left_out(points), strict=True)]
    return min(1.0, *ratios), max(1.0, *ratios)
