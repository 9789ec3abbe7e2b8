"""deploy.soak: a run without a pause, cut into intervals; Ctrl-C keeps what was measured."""

from __future__ import annotations

import time

import pytest

from deploy.profile_records import Interval
from deploy.soak import SteadyRun, drift_pct, run_steadily, split, summarise_soak
from stereo.progress import Ticker


def steady(times_ms: list[float]) -> SteadyRun:
    run = SteadyRun(0.0)
    for time_ms in times_ms:
        run.ends_s.append(run.seconds + time_ms / 1e3)
    return run


def test_intervals_hold_the_runs_that_ended_in_them() -> None:
    # Ten of 100 ms, then five of 250 ms: the sixteenth run passes the end and belongs to the last interval.
    run = steady([100] * 9 + [90] + [250] * 4 + [260])
    intervals = split(run, 1.0, seconds=2.0)
    assert [(item.t_s, item.n) for item in intervals] == [(0.0, 10), (1.0, 5)]
    assert [item.p50_ms for item in intervals] == [100.0, 250.0]
    assert intervals[0].p99_ms == pytest.approx(100.0)
    assert intervals[1].p99_ms == pytest.approx(250 + 0.96 * 10)


def test_a_stretch_without_an_end_of_a_run_is_left_out() -> None:
    assert [(item.t_s, item.n) for item in split(steady([500, 2700]), 1.0, seconds=4.0)] == [(0.0, 1), (3.0, 1)]


def test_soak_of_minutes_tells_its_drift() -> None:
    # Two minutes in 60 intervals of 2 s: 50 ms for the first minute, 60 ms for the second.
    run = steady([50.0] * 1200 + [60.0] * 1000)
    soak = summarise_soak(run, minutes=2.0)
    assert soak is not None
    assert len(soak.intervals) == 60
    assert soak.drift_pct == pytest.approx(20.0)
    assert soak.pairs_per_s == pytest.approx(2200 / 120, abs=1e-4)
    assert (soak.minutes, soak.seconds) == (2.0, 120.0)


def test_drift_is_between_the_tenths_at_both_ends() -> None:
    # One odd interval at either end of twenty is not the drift: the median of two lies between.
    times = [10.0, 12.0, *[11.0] * 16, 22.0, 20.0]
    assert drift_pct(tuple(Interval(float(i), ms, ms, 5) for i, ms in enumerate(times))) == pytest.approx(90.91)
    assert drift_pct((Interval(0.0, 10.0, 10.0, 5),)) is None


def test_short_runs_tell_no_drift() -> None:
    soak = summarise_soak(steady([100] * 50 + [200] * 25), minutes=1 / 6)
    assert soak is not None
    assert soak.drift_pct is None
    assert len(soak.intervals) == 10


def test_interruption_keeps_what_was_measured() -> None:
    calls = []

    def step() -> None:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt

    run = run_steadily(step, 60.0)
    assert run.stopped
    assert len(run.ends_s) == 3
    soak = summarise_soak(run, minutes=1.0)
    assert soak is not None
    assert soak.seconds < 1.0
    assert sum(item.n for item in soak.intervals) == 3
    assert summarise_soak(SteadyRun(0.0, stopped=True), minutes=1.0) is None


def test_runs_until_the_time_is_over_and_tells_all_but_the_last_second() -> None:
    ticker = Ticker("soak", None, "pairs", None)
    run = run_steadily(lambda: time.sleep(0.05), 1.2, ticker=ticker)
    assert not run.stopped
    assert 1.2 <= run.seconds < 2.0
    assert 10 <= ticker.done < len(run.ends_s)
    assert len(run_steadily(lambda: time.sleep(0.02), 0.001).ends_s) == 1
