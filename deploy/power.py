"""Power, load, temperature and throttling of a Jetson while a model runs on it, and the energy of one pair.

The sensors see the whole module, so one model runs at a time and everything else on the board counts too; what the
board draws when idle is measured just before, for the difference.
"""

from __future__ import annotations

import logging
import statistics
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from deploy.board_feeds import Feed
from deploy.clocks import Clock
from deploy.profile_records import Power, Sample
from deploy.tegrastats import Reading
from deploy.throttling import Held, HoldFiles, what_held

# Rails that together carry the module, as NVIDIA's power guide names them. On AGX Orin the memory's rail
# (VDDQ_VDD2_1V8AO) hangs on VIN_SYS_5V0, so adding it would count it twice.
MODULE_RAILS = (("VDD_IN",), ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"))
SAMPLES = 120
SHORTEST_S, LONGEST_S = 0.25, 5.0
log = logging.getLogger(__name__)


@dataclass
class Recording:
    """What was read while a block ran.

    Args:
        source: name of the feed.
        clocks: of the board at the start.
        before: what held the board back at the start.
        readings: (time by `time.monotonic`, reading).
        held: what held it back during the block, and at its end.
    """

    source: str
    clocks: tuple[Clock, ...]
    before: Held
    readings: list[tuple[float, Reading]] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)


class PowerRecorder:
    """Record a board while a block runs: `with PowerRecorder(...) as recording`.

    Args:
        feed: where readings come from; it is used up.
        seconds: how long the block is going to take, for an interval that suits it.
        clocks: of the board, for `deploy.throttling`.
    """

    def __init__(self, feed: Feed, *, seconds: float, clocks: tuple[Clock, ...] = ()) -> None:
        self._feed = feed
        self._interval_s = min(max(seconds / SAMPLES, SHORTEST_S), LONGEST_S)
        self._held = HoldFiles()
        self._recording = Recording(feed.name, clocks, self._held.read())
        self._thread = threading.Thread(target=self._read, name=f"reads {feed.name}", daemon=True)
        self._leaving = False

    def __enter__(self) -> Recording:
        try:
            self._feed.start(self._interval_s)
        except OSError as error:  # as in a container of another architecture: the measurement itself goes on
            log.warning("%s does not start: %s", self._feed.name, error)
        else:
            self._thread.start()
        return self._recording

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self._leaving = True
        self._feed.stop()
        if self._thread.ident is not None:
            self._thread.join(LONGEST_S + 1)
        self._recording.held.append(self._held.read())

    def _read(self) -> None:
        try:
            for reading in self._feed.readings():
                self._recording.readings.append((time.monotonic(), reading))
                self._recording.held.append(self._held.read())
        except Exception as error:  # a thread has nobody to raise to, and the measurement itself goes on
            log.warning("%s stopped: %s", self._feed.name, error)
            return
        if not self._leaving:
            log.warning("%s ended by itself: power is known for the part before only", self._feed.name)


def measure_idle(feed: Feed, seconds: float) -> float | None:
    """Mean power in watts of the board while this process sleeps; None when the board does not tell."""
    with PowerRecorder(feed, seconds=seconds) as recording:
        time.sleep(seconds)
    powers = [power for _, reading in recording.readings if (power := module_power_w(reading)) is not None]
    return round(statistics.fmean(powers), 3) if powers else None


def module_rails(reading: Reading) -> tuple[str, ...]:
    """The rails of a reading that together carry the module; none when the board has others or tells none."""
    return next((rails for rails in MODULE_RAILS if all(rail in reading.rails_mw for rail in rails)), ())


def module_power_w(reading: Reading) -> float | None:
    """Power of the module in watts: the sum of its rails, or what the source itself calls its total."""
    rails = module_rails(reading)
    if rails:
        return sum(reading.rails_mw[rail] for rail in rails) / 1e3
    return None if reading.power_mw is None else reading.power_mw / 1e3


def summarise(recording: Recording, *, start: float, end: float, pairs: int, idle_w: float | None) -> Power:
    """The numbers of one run.

    Args:
        start, end: of the run, by `time.monotonic`; readings outside are left out.
        pairs: how many it took.
        idle_w: of `measure_idle`.
    """
    inside = [(when - start, reading) for when, reading in recording.readings if start <= when <= end]
    readings = [reading for _, reading in inside]
    powers = [power for reading in readings if (power := module_power_w(reading)) is not None]
    mean_w = statistics.fmean(powers) if powers else None
    throttled, seen = what_held(recording.before, recording.held, readings, recording.clocks)
    hottest = [reading.hottest_c for reading in readings if reading.hottest_c is not None]
    return Power(
        source=recording.source,
        rails=module_rails(readings[0]) if readings else (),
        mean_w=_rounded(mean_w),
        peak_w=_rounded(max(powers, default=None)),
        idle_w=idle_w,
        energy_per_pair_j=None if mean_w is None or not pairs else round(mean_w * (end - start) / pairs, 6),
        max_temperature_c=max(hottest, default=None),
        mean_gpu_load_pct=_mean(reading.gpu_load_pct for reading in readings),
        mean_emc_load_pct=_mean(reading.emc_load_pct for reading in readings),
        throttled=throttled,
        throttling=seen,
        seconds=round(end - start, 3),
        pairs=pairs,
        n=len(readings),
        samples=thinned(inside),
    )


def thinned(timed: Sequence[tuple[float, Reading]], most: int = SAMPLES) -> tuple[Sample, ...]:
    """At most so many samples, each the mean of neighbouring readings.

    Args:
        timed: (seconds since the start, reading).
    """
    width = -(-len(timed) // most) or 1
    groups = [timed[index : index + width] for index in range(0, len(timed), width)]
    return tuple(_sample([when for when, _ in group], [reading for _, reading in group]) for group in groups)


def _sample(times: Sequence[float], readings: Sequence[Reading]) -> Sample:
    return Sample(
        t_s=round(statistics.fmean(times), 3),
        power_w=_mean(module_power_w(reading) for reading in readings),
        temperature_c=_mean(reading.hottest_c for reading in readings),
        gpu_temperature_c=_mean(reading.gpu_c for reading in readings),
        gpu_load_pct=_mean(reading.gpu_load_pct for reading in readings),
        gpu_mhz=_mean(reading.gpu_mhz for reading in readings),
        emc_load_pct=_mean(reading.emc_load_pct for reading in readings),
        emc_mhz=_mean(reading.emc_mhz for reading in readings),
        ram_mb=_mean(reading.ram_used_mb for reading in readings),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _rounded(statistics.fmean(known)) if known else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
