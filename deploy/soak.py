"""Run one model without a pause: for a few seconds to measure power, for minutes to see what heat does to it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from deploy.profile_records import Interval, Soak
from stereo.errors import UserError
from stereo.progress import Ticker, clock

# Enough points to see a drift; each interval still holds enough runs for a percentile.
INTERVALS = 60
SHORTEST_INTERVAL_S = 1.0
# The share of the intervals at either end that the drift is taken between; shorter runs would tell noise.
END_SHARE = 0.1
SHORTEST_DRIFT_S = 60.0


@dataclass
class SteadyRun:
    """Runs of one model, one after another.

    Args:
        start: by `time.monotonic`.
        ends_s: when each run ended, since the start; a run began where the one before ended.
        stopped: whether Ctrl-C ended it.
    """

    start: float
    ends_s: list[float] = field(default_factory=list)
    stopped: bool = False

    @property
    def seconds(self) -> float:
        """From the start to the end of the last run."""
        return self.ends_s[-1] if self.ends_s else 0.0

    @property
    def times_ms(self) -> np.ndarray:
        """Of each run."""
        return 1e3 * np.diff(np.array([0.0, *self.ends_s]))


def check_minutes(minutes: float) -> None:
    """Refuse a length that no soak run has.

    Raises:
        UserError: it is negative, infinite or no number.
    """
    if not 0 <= minutes < float("inf"):
        raise UserError(f"{minutes:g} minutes", where="--minutes", fix="give 0 for no soak run, or more")


def run_steadily(step: Callable[[], object], seconds: float, *, ticker: Ticker | None = None) -> SteadyRun:
    """Run a step until the time is over, at least once; Ctrl-C ends it early and keeps what was measured.

    Args:
        step: returns only when its work is finished.
        ticker: told once a second of the runs since.
    """
    run = SteadyRun(time.monotonic())
    told, told_s = 0, 0.0
    try:
        while run.seconds < seconds:
            step()
            run.ends_s.append(time.monotonic() - run.start)
            if ticker is not None and run.seconds - told_s >= 1:
                ticker.advance(len(run.ends_s) - told, note=f"{clock(run.seconds)} of {clock(seconds)}")
                told, told_s = len(run.ends_s), run.seconds
    except KeyboardInterrupt:
        run.stopped = True
    return run


def summarise_soak(run: SteadyRun, *, minutes: float) -> Soak | None:
    """Latency over time; None for a run that was stopped before its first inference ended.

    Args:
        minutes: as asked for.
    """
    if not run.ends_s:
        return None
    intervals = split(run, max(60 * minutes / INTERVALS, SHORTEST_INTERVAL_S), seconds=60 * minutes)
    return Soak(
        minutes=minutes,
        seconds=round(run.seconds, 3),
        pairs_per_s=round(len(run.ends_s) / run.seconds, 4),
        drift_pct=drift_pct(intervals) if run.seconds >= SHORTEST_DRIFT_S else None,
        intervals=intervals,
    )


def split(run: SteadyRun, interval_s: float, *, seconds: float) -> tuple[Interval, ...]:
    """Percentiles of stretches of so many seconds; a run counts where it ended, and empty stretches are left out.

    Args:
        seconds: as asked for; the run that passes them belongs to the last stretch.
    """
    last = max(int(seconds / interval_s + 1e-6) - 1, 0)
    indices = np.minimum((np.array(run.ends_s) // interval_s).astype(int), last)
    found = []
    for index in np.unique(indices):
        times_ms = run.times_ms[indices == index]
        p50, p99 = np.percentile(times_ms, (50, 99))
        found.append(Interval(round(index * interval_s, 3), round(float(p50), 4), round(float(p99), 4), len(times_ms)))
    return tuple(found)


def drift_pct(intervals: tuple[Interval, ...]) -> float | None:
    """How much slower the end is than the beginning, in %; None with less than two intervals."""
    if len(intervals) < 2:
        return None
    count = max(1, int(END_SHARE * len(intervals)))
    first, last = (statistics.median(item.p50_ms for item in part) for part in (intervals[:count], intervals[-count:]))
    return round(100 * (last / first - 1), 2)
