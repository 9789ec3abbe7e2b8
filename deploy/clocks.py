"""The power mode of a Jetson, and whether its clocks are locked, without which no latency can be repeated.

`nvpmodel` sets the mode: which cores run and how fast each clock may go. `jetson_clocks` then holds every clock at that
limit; without it they follow the load, and short work is measured at whatever clock it finds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from deploy import system_files
from deploy.jetson import is_jetson

GPU_NAMES = ("gpu", "ga10b", "gpc")
EMC = "sys/kernel/debug/bpmp/debug/clk/emc"
SHOWN = re.compile(r"^(cpu\d+|GPU|EMC):?\s.*?MinFreq=(\d+)\s+MaxFreq=(\d+)\s+CurrentFreq=(\d+)(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Clock:
    """One clock: of the GPU, the memory ("EMC") or all cores that run ("CPU").

    Args:
        locked: whether it is held at its limit; None when that cannot be told.
    """

    name: str
    min_mhz: float
    max_mhz: float
    current_mhz: float
    locked: bool | None

    def __str__(self) -> str:
        if self.locked:
            return f"{self.name} {self.current_mhz:.0f} MHz"
        return f"{self.name} {self.min_mhz:.0f}–{self.max_mhz:.0f} MHz"


def power_mode_name() -> str | None:
    """The mode that nvpmodel set, such as "25W" or "MAXN_SUPER"; None where it does not tell."""
    match = re.search(r"^.*NV Power Mode:\s*(\S.*?)\s*$", system_files.answer("nvpmodel", "-q") or "", re.MULTILINE)
    return match[1].removeprefix("MODE_") if match else None


def read_clocks() -> tuple[Clock, ...]:
    """The clocks of this board, as far as this user may see them; none on other machines.

    The memory's clock is told to root only: by `jetson_clocks --show`, or by the kernel's debug files.
    """
    if not is_jetson():
        return ()
    shown = {clock.name: clock for clock in shown_clocks(system_files.answer("jetson_clocks", "--show") or "")}
    found = {clock.name: clock for clock in (_gpu(), _cpu(), _emc()) if clock is not None}
    return tuple((found | shown).values())


def locked(clocks: tuple[Clock, ...]) -> bool | None:
    """Whether all clocks that were seen are held at their limits; None when none was."""
    known = [clock.locked for clock in clocks if clock.locked is not None]
    return all(known) if known else None


def shown_clocks(text: str) -> list[Clock]:
    """What `jetson_clocks --show` printed; the cores as one clock."""
    single: list[Clock] = []
    cores: list[tuple[float, float, float]] = []
    for name, low, high, now, rest in SHOWN.findall(text):
        unit = 1e3 if name.startswith("cpu") else 1e6
        values = (float(low) / unit, float(high) / unit, float(now) / unit)
        if name.startswith("cpu"):
            cores.append(values)
            continue
        override = re.search(r"FreqOverride=(\d)", rest)
        # Locking leaves the memory's minimum alone and overrides its clock.
        held = values[2] == values[1] if name == "EMC" else values[0] == values[1]
        single.append(Clock(name, *values, locked=override[1] == "1" if override else held))
    return [*single, *([_all_cores(cores)] if cores else [])]


def _gpu() -> Clock | None:
    for folder in system_files.matching("sys/class/devfreq/*"):
        if any(name in folder.rpartition("/")[2] for name in GPU_NAMES):
            values = _frequencies(folder, "{}_freq", unit=1e6)
            if values is not None:
                return Clock("GPU", *values, locked=values[0] == values[1])
    return None


def _cpu() -> Clock | None:
    folders = system_files.matching("sys/devices/system/cpu/cpu[0-9]*/cpufreq")
    cores = [values for folder in folders if (values := _frequencies(folder, "scaling_{}_freq", unit=1e3)) is not None]
    return _all_cores(cores) if cores else None


def _emc() -> Clock | None:
    rates = [system_files.read_number(f"{EMC}/{name}") for name in ("min_rate", "max_rate", "rate")]
    held = system_files.read_number(f"{EMC}/mrq_rate_locked")
    low, high, now = (None if rate is None else rate / 1e6 for rate in rates)
    if low is None or high is None or now is None:
        return None
    return Clock("EMC", low, high, now, locked=None if held is None else held == 1 and now == high)


def _frequencies(folder: str, name: str, *, unit: float) -> tuple[float, float, float] | None:
    values = [system_files.read_number(f"{folder}/{name.format(part)}") for part in ("min", "max", "cur")]
    low, high, now = (None if value is None else value / unit for value in values)
    return None if low is None or high is None or now is None else (low, high, now)


def _all_cores(cores: list[tuple[float, float, float]]) -> Clock:
    lowest, highest = min(low for low, _, _ in cores), max(high for _, high, _ in cores)
    held = all(low == high for low, high, _ in cores)
    return Clock("CPU", lowest, highest, max(now for _, _, now in cores), locked=held)
