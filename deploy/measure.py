"""Time several variants so that their ratios hold on a machine that other work disturbs.

Every round runs each variant once, in an order that changes from round to round: a slow spell hits all of them alike,
and no variant always runs on the caches that one other left behind.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from deploy.results import Latency
from stereo.errors import UserError
from stereo.progress import Ticker

# Fewer rounds would make the percentiles one and the same number.
LEAST_ROUNDS = 3


@dataclass(frozen=True)
class Timing:
    """How long to measure.

    Args:
        runs: timed runs of each variant, at most.
        seconds: no new round starts after this time, once `LEAST_ROUNDS` are done.
        warmup: untimed runs of each variant before.
    """

    runs: int = 50
    seconds: float = 60.0
    warmup: int = 5

    def __post_init__(self) -> None:
        if self.runs < 1 or self.warmup < 0 or not self.seconds > 0:
            raise UserError(f"runs={self.runs}, seconds={self.seconds:g}, warmup={self.warmup}",
                            fix="give at least 1 run, more than 0 seconds and no negative warmup")  # fmt: skip


def time_rounds(steps: Sequence[Callable[[], object]], timing: Timing, *, ticker: Ticker | None = None) -> np.ndarray:
    """Time each step once per round.

    Args:
        steps: the work of each variant; each returns only when it is finished.

    Returns:
        float64, rounds × variants, milliseconds.
    """
    for step in steps:
        for _ in range(timing.warmup):
            step()
    order = list(range(len(steps)))
    shuffle = random.Random(0).shuffle
    rounds: list[list[float]] = []
    start = time.perf_counter()
    while len(rounds) < timing.runs:
        if len(rounds) >= LEAST_ROUNDS and time.perf_counter() - start > timing.seconds:
            break
        shuffle(order)
        times_ms = [0.0] * len(steps)
        for index in order:
            before = time.perf_counter()
            steps[index]()
            times_ms[index] = 1e3 * (time.perf_counter() - before)
        rounds.append(times_ms)
        if ticker is not None:
            ticker.advance()
    return np.array(rounds)


def latency(times_ms: np.ndarray, *, warmup: int, fp32_ms: np.ndarray | None = None) -> Latency:
    """Summarise the times of one variant.

    Args:
        times_ms: of each round.
        fp32_ms: of the variant it is compared with, of the same rounds.
    """
    p50, p90, p99 = np.percentile(times_ms, (50, 90, 99))
    return Latency(
        p50_ms=float(p50),
        p90_ms=float(p90),
        p99_ms=float(p99),
        mean_ms=float(times_ms.mean()),
        n=len(times_ms),
        warmup=warmup,
        ratio_to_fp32=None if fp32_ms is None else float(np.median(times_ms / fp32_ms)),
    )
