"""deploy.throttling: events that were counted, cooling that worked, a clock that fell; None where nothing tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy import system_files
from deploy.clocks import Clock
from deploy.tegrastats import Reading
from deploy.throttling import Held, HoldFiles, what_held

GPU = Clock("GPU", 1020, 1020, 1020, True)
LOOSE = Clock("GPU", 306, 1020, 612, False)


def busy(mhz: float, load_pct: float = 99) -> Reading:
    return Reading(gpu_load_pct=load_pct, gpu_mhz=mhz)


def test_events_since_the_start_of_the_run(board: Any) -> None:
    before = HoldFiles().read()
    assert before.events == {"under-voltage": 7, "average over-current": 7, "over-current": 7}
    assert before.cooling == frozenset()
    assert what_held(before, [HoldFiles().read()], [], []) == (False, ())
    board.write("sys/class/hwmon/hwmon3/oc3_event_cnt", "10\n")
    assert what_held(before, [HoldFiles().read()], [], []) == (True, ("3 over-current events",))


def test_cooling_that_slows_down_and_the_fan(board: Any) -> None:
    files = HoldFiles()
    before = files.read()
    board.write("sys/class/thermal/cooling_device0/cur_state", "4\n")
    assert what_held(before, [files.read()], [], []) == (False, ())
    board.write("sys/class/thermal/cooling_device1/cur_state", "1\n")
    during = files.read()
    board.write("sys/class/thermal/cooling_device1/cur_state", "0\n")
    assert what_held(before, [during, files.read()], [], []) == (True, ("cooling by gpu-throttle-alert",))


@pytest.mark.parametrize(
    ("readings", "clock", "expected"),
    [
        ([busy(1020), busy(1015)], GPU, (False, ())),
        ([busy(1020), busy(918)], GPU, (True, ("GPU at 918 MHz, locked at 1020",))),
        ([busy(1020), busy(306, load_pct=20)], GPU, (False, ())),  # nothing to do is no throttling
        ([busy(306)], LOOSE, (None, ())),  # a clock that follows the load tells nothing
        ([Reading()], GPU, (None, ())),
    ],
)
def test_a_busy_gpu_below_the_clock_it_was_locked_at(
    readings: list[Reading], clock: Clock, expected: tuple[bool | None, tuple[str, ...]]
) -> None:
    assert what_held(Held(None, None), [], readings, [clock]) == expected


def test_machines_without_such_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_files, "ROOT", tmp_path)
    assert HoldFiles().read() == Held(None, None)
    assert what_held(HoldFiles().read(), [HoldFiles().read()], [], []) == (None, ())
