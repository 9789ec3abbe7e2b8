"""deploy.measure: rounds take turns, percentiles are numpy's, ratios survive a machine that slows down."""

from __future__ import annotations

import numpy as np
import pytest

from deploy import measure
from deploy.measure import LEAST_ROUNDS, Timing, latency, time_rounds
from stereo.errors import UserError


class Clock:
    """A clock that only the steps move."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replaces the clock of `deploy.measure`."""
    clock = Clock()
    monkeypatch.setattr(measure, "time", clock)
    return clock


def test_each_round_runs_each_step_once_in_changing_order(clock: Clock) -> None:
    calls: list[int] = []
    steps = [lambda index=index: calls.append(index) for index in range(4)]
    times_ms = time_rounds(steps, Timing(runs=20, warmup=2))
    assert times_ms.shape == (20, 4)
    assert sorted(calls[:8]) == [0, 0, 1, 1, 2, 2, 3, 3]
    rounds = [tuple(calls[8 + 4 * i : 12 + 4 * i]) for i in range(20)]
    assert all(sorted(order) == [0, 1, 2, 3] for order in rounds)
    assert len(set(rounds)) > 5


def test_times_belong_to_their_step_and_warm_up_is_left_out(clock: Clock) -> None:
    def step(seconds: float) -> None:
        clock.now += seconds

    times_ms = time_rounds([lambda: step(0.010), lambda: step(0.030)], Timing(runs=5, warmup=3))
    np.testing.assert_allclose(times_ms, np.tile([10.0, 30.0], (5, 1)))


def test_ratio_is_taken_round_by_round(clock: Clock) -> None:
    """The machine gets three times slower half-way: medians of separate runs would be off, paired rounds are not."""

    def step(seconds: float) -> None:
        clock.now += seconds * (3 if clock.now > 0.5 else 1)

    times_ms = time_rounds([lambda: step(0.020), lambda: step(0.010)], Timing(runs=40, warmup=0))
    assert latency(times_ms[:, 1], warmup=0, fp32_ms=times_ms[:, 0]).ratio_to_fp32 == pytest.approx(0.5)


def test_stops_after_the_time_given_but_not_before_the_least_rounds(clock: Clock) -> None:
    def step() -> None:
        clock.now += 1.0

    assert len(time_rounds([step], Timing(runs=100, seconds=10, warmup=0))) == 11
    assert len(time_rounds([step], Timing(runs=100, seconds=0.1, warmup=0))) == LEAST_ROUNDS


def test_percentiles() -> None:
    times_ms = np.arange(1.0, 101.0)
    found = latency(times_ms, warmup=4)
    assert (found.p50_ms, found.mean_ms, found.n, found.warmup) == (50.5, 50.5, 100, 4)
    assert found.p90_ms == pytest.approx(90.1)
    assert found.p99_ms == pytest.approx(99.01)
    assert found.ratio_to_fp32 is None


@pytest.mark.parametrize("values", [{"runs": 0}, {"seconds": 0.0}, {"warmup": -1}, {"seconds": float("nan")}])
def test_impossible_timings_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(UserError, match="at least 1 run"):
        Timing(**values)  # type: ignore[arg-type]
