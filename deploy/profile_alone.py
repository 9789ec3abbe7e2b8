"""What `profile` measures of each variant while it runs alone: power and heat, drift over minutes, layers, trtexec.

The sensors of a board see everything that runs on it, and heat stays, so nothing here can take turns.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Collection
from dataclasses import dataclass, field

from deploy.board_feeds import Feed, choose_feed
from deploy.clocks import Clock, locked, read_clocks
from deploy.layers import measure_layers
from deploy.opening import Opened
from deploy.power import PowerRecorder, measure_idle, summarise
from deploy.profile_records import Power
from deploy.results import ResultRow
from deploy.run_pair import network_inputs, plan_fit
from deploy.soak import check_minutes, run_steadily, summarise_soak
from deploy.trtexec import cross_check, problem_of
from stereo.pair import StereoPair
from stereo.progress import progress

# Without a soak run: long enough for forty readings of power.
POWER_S = 10.0
IDLE_S = 3.0
TENSORRT = "tensorrt"
log = logging.getLogger(__name__)


@dataclass
class Alone:
    """Which of it to measure.

    Args:
        minutes: of the soak run; 0 for none.
        layers: whether to time layers.
        power: where readings of the board come from; see `deploy.board_feeds.choose_feed`.
    """

    minutes: float
    layers: bool
    power: str
    has_feed: bool = field(init=False)

    def __post_init__(self) -> None:
        check_minutes(self.minutes)
        self.has_feed = choose_feed(self.power) is not None

    def measure(self, row: ResultRow, item: Opened, pair: StereoPair) -> tuple[ResultRow, bool]:
        """The row with all of it, and whether Ctrl-C ended it early.

        Args:
            row: of this variant, with its latency.
            pair: that the latency was measured on.
        """
        if self.layers:
            inputs = network_inputs(plan_fit(item.runner, pair.height, pair.width), pair)
            row = dataclasses.replace(row, layers=measure_layers(item.runner, item.request.path, inputs))
            if row.layers is None:
                log.warning("%s: %s does not tell times of layers", row.model.variant, item.runner.runtime)
        if item.runner.runtime == TENSORRT and row.latency is not None:
            check = cross_check(item.request.path, latency=row.latency, without_copies=row.latency_without_copies)
            row = with_problem(
                dataclasses.replace(row, cross_check=check), None if check is None else problem_of(check)
            )
        if not (self.minutes or self.has_feed):
            return row, False
        return self._steadily(row, item, pair)

    def _steadily(self, row: ResultRow, item: Opened, pair: StereoPair) -> tuple[ResultRow, bool]:
        """Run the variant without a pause, the board's feed beside it."""
        left, right = network_inputs(plan_fit(item.runner, pair.height, pair.width), pair)
        seconds = 60 * self.minutes or POWER_S
        idle_w = measure_idle(self._feed(), IDLE_S) if self.has_feed else None
        title = f"{row.model.variant}, {item.runner.runtime}, {'soak' if self.minutes else 'power'}"
        recorder = PowerRecorder(self._feed(), seconds=seconds, clocks=read_clocks()) if self.has_feed else None
        with recorder or contextlib.nullcontext() as recording, progress(title, unit="pairs") as ticker:
            run = run_steadily(lambda: item.runner.run(left, right), seconds, ticker=ticker)
            end = time.monotonic()
        if recording is not None:
            power = summarise(recording, start=run.start, end=end, pairs=len(run.ends_s), idle_w=idle_w)
            tell_gaps(power, {rail for _, reading in recording.readings for rail in reading.rails_mw})
            row = with_problem(dataclasses.replace(row, power=power), throttling_problem(power))
        if self.minutes:
            row = dataclasses.replace(row, soak=summarise_soak(run, minutes=self.minutes))
        return row, run.stopped

    def _feed(self) -> Feed:
        feed = choose_feed(self.power)
        assert feed is not None
        return feed


def with_problem(row: ResultRow, problem: str | None) -> ResultRow:
    """The row with one more problem, said once in the log too."""
    if problem is None:
        return row
    log.warning("%s: %s", row.model.variant, problem)
    return dataclasses.replace(row, problems=(*row.problems, problem))


def throttling_problem(power: Power) -> str | None:
    """What to know when the board held itself back."""
    return f"the board held itself back: {'; '.join(power.throttling)}" if power.throttled else None


def tell_gaps(power: Power, rails: Collection[str]) -> None:
    """Say why numbers are missing that this board could have told.

    Args:
        rails: those that were read.
    """
    if not power.n:
        log.warning("%s told nothing during the run: power and temperature stay empty", power.source)
    elif power.mean_w is None and rails:
        log.warning("%s tells of the rails %s, whose sum is not known to be the module's: power stays empty",
                    power.source, ", ".join(sorted(rails)))  # fmt: skip
    elif power.mean_w is None:
        log.warning("%s tells no power of the module here: some releases show it to root only, run profile with sudo "
                    "for it", power.source)  # fmt: skip


def unlocked(clocks: tuple[Clock, ...]) -> str | None:
    """The clocks that follow the load, in words; None when all are locked or nothing is known."""
    loose = [str(clock) for clock in clocks if clock.locked is False]
    return ", ".join(loose) if loose and locked(clocks) is False else None


def clock_problem() -> str | None:
    """What to know of this board's clocks; None when they are locked, or not told."""
    loose = unlocked(read_clocks())
    return f"clocks were not locked: {loose}" if loose else None


def warn_of_clocks() -> None:
    """Say before the work that it cannot be repeated, and what to do."""
    loose = unlocked(read_clocks())
    if loose:
        log.warning("the clocks of this board are not locked (%s): latencies will differ from run to run; sudo "
                    "jetson_clocks locks them until the next start", loose)  # fmt: skip
