"""Whether a Jetson held itself back during a run: too hot, too much current, or a clock below the one it was locked at.

The kernel counts events of too much current and too low voltage, and shows which of its cooling devices are at work;
both are read before, during and after a run, because no single moment tells.
https://docs.nvidia.com/jetson/archives/r36.4.3/DeveloperGuide/SD/PlatformPowerAndPerformance/JetsonOrinNanoSeriesJetsonOrinNxSeriesAndJetsonAgxOrinSeries.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deploy import system_files
from deploy.clocks import Clock
from deploy.tegrastats import Reading

EVENTS = {"oc1": "under-voltage", "oc2": "average over-current", "oc3": "over-current"}
COOLING = "sys/class/thermal/cooling_device*"
# Words in the names of cooling devices that slow something down; fans and warnings of a hot case are the others.
SLOWING = ("throttle", "freq", "cpu", "gpu")
# A GPU this busy has no reason to leave its limit, and this far below is more than the sensor's rounding.
BUSY_PCT = 90.0
TOLERANCE = 0.03


@dataclass(frozen=True)
class Held:
    """What holds a board back at one moment.

    Args:
        events: kind → how often since the board started; None where the kernel does not count.
        cooling: cooling devices that are at work; None where the kernel shows none.
    """

    events: dict[str, int] | None
    cooling: frozenset[str] | None


class HoldFiles:
    """The files that tell it, found once: looking for them costs more than reading them, beside a run that is timed."""

    def __init__(self) -> None:
        self._counters = system_files.matching("sys/class/hwmon/hwmon*/oc*_event_cnt")
        kinds = {folder: system_files.read(f"{folder}/type") or "" for folder in system_files.matching(COOLING)}
        self._cooling = {folder: kind for folder, kind in kinds.items() if any(word in kind for word in SLOWING)}

    def read(self) -> Held:
        """Look now."""
        counts: dict[str, int] = {}
        for path in self._counters:
            value = system_files.read_number(path)
            name = path.rpartition("/")[2].partition("_")[0]
            kind = EVENTS.get(name, name)
            if value is not None:
                counts[kind] = counts.get(kind, 0) + int(value)
        states = {folder: system_files.read_number(f"{folder}/cur_state") or 0 for folder in self._cooling}
        active = frozenset(self._cooling[folder] for folder, state in states.items() if state > 0)
        return Held(counts or None, active if states else None)


def what_held(
    before: Held, moments: Sequence[Held], readings: Sequence[Reading], clocks: Sequence[Clock]
) -> tuple[bool | None, tuple[str, ...]]:
    """Whether the board held itself back during a run, and what was seen of it, in words.

    Args:
        before: at the start of the run.
        moments: during the run and at its end.
        readings: of the run, whose GPU clock is compared with the one it was locked at.
        clocks: at the start of the run.

    Returns:
        None and nothing where the board tells none of it.
    """
    told = before.events is not None or before.cooling is not None
    seen = []
    if moments and before.events is not None:
        for kind, count in (moments[-1].events or {}).items():
            more = count - before.events.get(kind, 0)
            if more > 0:
                seen.append(f"{more} {kind} event{'s' if more > 1 else ''}")
    for device in sorted(frozenset().union(*(moment.cooling or frozenset() for moment in (before, *moments)))):
        seen.append(f"cooling by {device}")
    gpu = next((clock for clock in clocks if clock.name == "GPU" and clock.locked), None)
    busy = [
        reading.gpu_mhz for reading in readings
        if reading.gpu_mhz is not None and reading.gpu_load_pct is not None and reading.gpu_load_pct >= BUSY_PCT
    ]  # fmt: skip
    if gpu is not None and busy:
        told = True
        if min(busy) < (1 - TOLERANCE) * gpu.max_mhz:
            seen.append(f"GPU at {min(busy):.0f} MHz, locked at {gpu.max_mhz:.0f}")
    return (bool(seen) if told else None), tuple(seen)
