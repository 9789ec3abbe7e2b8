"""deploy.power: the module's rails, energy of a pair, thinning; the recorder ends what it started."""

from __future__ import annotations

import logging
import os
import sys
import time
import types
from collections.abc import Callable
from typing import Any

import pytest

from deploy.board_feeds import Jtop, Tegrastats, choose_feed
from deploy.power import PowerRecorder, Recording, measure_idle, module_power_w, module_rails, summarise, thinned
from deploy.tegrastats import Reading
from deploy.throttling import Held
from stereo.errors import UserError


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_power_of_the_module() -> None:
    nano = Reading(rails_mw={"VDD_IN": 9000.0, "VDD_CPU_GPU_CV": 4000.0, "VDD_SOC": 2000.0})
    assert (module_rails(nano), module_power_w(nano)) == (("VDD_IN",), 9.0)
    # The memory's rail hangs on the 5 V rail: 4.0 + 1.0 + 3.5, not 4.2 more.
    agx = Reading(
        rails_mw={"VDD_GPU_SOC": 4000.0, "VDD_CPU_CV": 1000.0, "VIN_SYS_5V0": 3500.0, "VDDQ_VDD2_1V8AO": 700.0}
    )
    assert module_power_w(agx) == 8.5
    assert module_power_w(Reading(rails_mw={"VDD_GPU_SOC": 4000.0, "VDD_CPU_CV": 1000.0})) is None
    assert module_power_w(Reading()) is None
    assert module_power_w(Reading(power_mw=7000.0)) == 7.0


def recording(powers_mw: list[float], **held: Any) -> Recording:
    readings = [(100.0 + index, Reading(rails_mw={"VDD_IN": mw}, temperatures_c={"tj": 50.0 + index}))
                for index, mw in enumerate(powers_mw)]  # fmt: skip
    return Recording("tegrastats", (), Held(None, None), readings, **held)


def test_energy_is_mean_power_times_duration_over_pairs() -> None:
    # The first and the last reading lie outside of the run.
    power = summarise(recording([90000, 8000, 10000, 12000, 90000]), start=100.5, end=103.5, pairs=60, idle_w=4.0)
    assert (power.mean_w, power.peak_w, power.idle_w, power.n) == (10.0, 12.0, 4.0, 3)
    assert power.energy_per_pair_j == pytest.approx(10.0 * 3.0 / 60)
    assert power.max_temperature_c == 53.0
    assert (power.throttled, power.throttling) == (None, ())
    assert [sample.t_s for sample in power.samples] == [0.5, 1.5, 2.5]
    assert [sample.power_w for sample in power.samples] == [8.0, 10.0, 12.0]
    assert power.mean_gpu_load_pct is None


def test_nothing_told_is_null_and_not_zero() -> None:
    power = summarise(Recording("tegrastats", (), Held(None, None)), start=0.0, end=1.0, pairs=5, idle_w=None)
    assert (power.mean_w, power.peak_w, power.energy_per_pair_j, power.max_temperature_c) == (None,) * 4
    assert (power.rails, power.samples, power.n) == ((), (), 0)
    stopped = summarise(recording([8000]), start=99.0, end=101.0, pairs=0, idle_w=None)
    assert (stopped.mean_w, stopped.energy_per_pair_j) == (8.0, None)


def test_thinning_keeps_the_mean_and_both_ends() -> None:
    timed = [(float(index), Reading(rails_mw={"VDD_IN": 1e3 * index})) for index in range(1000)]
    samples = thinned(timed)
    assert len(samples) <= 120
    assert (samples[0].t_s, samples[0].power_w) == (4.0, 4.0)  # of 0 to 8
    assert samples[-1].t_s == 999.0
    assert [sample.t_s for sample in thinned(timed[:3])] == [0.0, 1.0, 2.0]
    assert thinned([]) == ()


def test_the_program_is_ended_and_only_it(board: Any) -> None:
    feed = choose_feed("auto")
    assert isinstance(feed, Tegrastats)
    other = Tegrastats(str(board.programs / "tegrastats"))
    other.start(1.0)
    assert wait_until((board.programs / "busy").exists)
    try:
        with PowerRecorder(feed, seconds=1.0) as read:
            assert wait_until(lambda: len(read.readings) >= 3)
        (theirs, ours) = board.processes()
        assert not alive(ours)
        assert alive(theirs)
        count = len(read.readings)
        time.sleep(0.1)
        assert len(read.readings) == count
        assert read.readings[0][1].rails_mw["VDD_IN"] == 12000.0
        assert len(read.held) == count + 1
    finally:
        other.stop()


def test_a_program_that_will_not_leave_is_killed(board: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.board_feeds.LEAVES_IN_S", 0.1)
    line = "RAM 1/2MB VDD_IN 5000mW/5000mW"
    board.program("tegrastats", f"trap '' TERM\necho $$ > {board.programs}/tegrastats.pids\n"
                                f"while :; do echo '{line}'; sleep 0.02; done")  # fmt: skip
    with PowerRecorder(Tegrastats(str(board.programs / "tegrastats")), seconds=1.0) as read:
        assert wait_until(lambda: bool(read.readings))
    assert not alive(board.processes()[0])


def test_a_program_that_gives_up_is_told_once(board: Any, caplog: pytest.LogCaptureFixture) -> None:
    board.program("tegrastats", "echo 'RAM 1/2MB VDD_IN 5000mW/5000mW'; printf 'RAM 1/2MB VDD_IN 50mW'; exit 3")
    with PowerRecorder(Tegrastats(str(board.programs / "tegrastats")), seconds=1.0) as read:
        assert wait_until(lambda: "ended by itself" in caplog.text)
    assert caplog.text.count("tegrastats ended by itself") == 1
    assert [reading.rails_mw for _, reading in read.readings] == [{"VDD_IN": 5000.0}]  # not the line cut off


def test_a_program_that_does_not_start_is_no_end(board: Any, caplog: pytest.LogCaptureFixture) -> None:
    program = board.programs / "tegrastats"
    program.write_text("#!/no/such/interpreter\n")
    with PowerRecorder(Tegrastats(str(program)), seconds=1.0) as read:
        pass
    assert read.readings == []
    assert caplog.text.count("tegrastats does not start") == 1


def test_idle_power(board: Any) -> None:
    feed = choose_feed("tegrastats")
    assert feed is not None
    assert measure_idle(feed, 0.2) == 5.0


def test_missing_tegrastats_is_said_in_the_right_place(
    board: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (board.programs / "tegrastats").unlink()
    with caplog.at_level(logging.WARNING):
        assert choose_feed("auto") is None
    assert "tegrastats is missing on this Jetson" in caplog.text
    with pytest.raises(UserError, match="tegrastats is not on this machine"):
        choose_feed("tegrastats")
    caplog.clear()
    (board.root / "proc/device-tree/compatible").unlink()
    (board.root / "etc/nv_tegra_release").unlink()
    assert choose_feed("auto") is None
    assert choose_feed("off") is None
    assert caplog.text == ""


class FakeJtop:
    """What jetson-stats 4 offers, with one reading per `ok`."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.power = {"rail": {"VDD_GPU_SOC": {"power": 4000}}, "tot": {"power": 9000}}
        self.gpu = {"ga10b": {"status": {"load": 97.5}, "freq": {"cur": 1300500}}}
        self.memory = {"RAM": {"used": 1_000_000, "tot": 8_000_000}, "EMC": {"cur": 3199000, "val": 41}}
        self.temperature = {"tj": {"temp": 61.5, "online": True}, "cv0": {"temp": -256, "online": False}}

    def __enter__(self) -> FakeJtop:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def ok(self) -> bool:
        time.sleep(0.01)
        return True


@pytest.fixture
def jtop_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("jtop")
    module.jtop = FakeJtop  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "jtop", module)


def test_jtop_when_asked_for(jtop_module: None) -> None:
    feed = choose_feed("jtop")
    assert isinstance(feed, Jtop)
    with PowerRecorder(feed, seconds=1.0) as read:
        assert wait_until(lambda: bool(read.readings))
    reading = read.readings[0][1]
    assert (reading.power_mw, reading.gpu_load_pct, reading.gpu_mhz) == (9000.0, 97.5, 1300.5)
    assert (reading.emc_load_pct, reading.emc_mhz, reading.hottest_c) == (41.0, 3199.0, 61.5)
    assert (reading.ram_used_mb, reading.ram_total_mb) == (pytest.approx(1024.0), pytest.approx(8192.0))
    assert reading.temperatures_c == {"tj": 61.5}
    assert module_power_w(reading) == 9.0


def test_jtop_is_imported_only_when_asked_for(board: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jtop", None)
    assert isinstance(choose_feed("auto"), Tegrastats)
    with pytest.raises(UserError, match=r"cannot import jtop.*jetson-stats"):
        choose_feed("jtop")
