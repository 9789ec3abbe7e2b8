"""deploy.estimate and estimate_fitting: the roofline by hand, and that two numbers come back out of what they made."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from deploy.boards import Machine, parse_machine
from deploy.estimate import FILE, Fit, estimate, ideal_ms, read_fit, shipped_fit
from deploy.estimate_fitting import Published, fitted, left_out, spread
from deploy.onnx_cost import Kernel
from stereo.errors import UserError

# 1 GMAC that needs next to no memory, and 1 GB that needs no arithmetic.
BUSY = Kernel("busy", "Conv", "fp16", 10**9, 10**9, tensor_cores=True, bytes_moved=1000)
WIDE = Kernel("wide", "Transpose", "fp16", 0, 0, tensor_cores=False, bytes_moved=10**9)
MACHINE = parse_machine("orin-nx-16gb@MAXN")


def fit_of(efficiency: float, launch_us: float) -> Fit:
    return dataclasses.replace(shipped_fit(), efficiency=efficiency, launch_us=launch_us, low=0.5, high=2.0)


def test_the_longer_of_arithmetic_and_memory_counts() -> None:
    assert ideal_ms(BUSY, MACHINE) == pytest.approx(1e3 * 2e9 / (8 * 918e6 * 2048))
    assert ideal_ms(WIDE, MACHINE) == pytest.approx(1e3 * 1e9 / 102.4e9)


def test_efficiency_launches_and_error_bar_make_the_estimate() -> None:
    value = estimate([BUSY, WIDE], MACHINE, fit_of(0.25, 10.0))
    expected = 4 * (ideal_ms(BUSY, MACHINE) + ideal_ms(WIDE, MACHINE)) + 2 * 0.010
    assert value.latency_ms == pytest.approx(expected)
    assert (value.low_ms, value.high_ms) == (pytest.approx(expected / 2), pytest.approx(expected * 2))
    assert sum(time_ms for _, time_ms in value.kernels) == pytest.approx(expected)


def test_fewer_bits_are_faster() -> None:
    def time_ms(precision: str) -> float:
        kernel = dataclasses.replace(BUSY, precision=precision, tensor_cores=precision != "fp32")
        return estimate([kernel], MACHINE, shipped_fit()).latency_ms

    assert time_ms("int8") < time_ms("fp16") < time_ms("fp32")


def test_without_tensor_cores_arithmetic_is_slower() -> None:
    assert ideal_ms(dataclasses.replace(BUSY, tensor_cores=False), MACHINE) == pytest.approx(
        4 * ideal_ms(BUSY, MACHINE)
    )


@pytest.mark.parametrize(("kernel", "field"), [(BUSY, "gpu_mhz"), (WIDE, "bandwidth_bytes")])
def test_faster_clocks_are_never_slower(kernel: Kernel, field: str) -> None:
    def at(machine: Machine) -> float:
        return estimate([kernel], machine, shipped_fit()).latency_ms

    modes = ["10W", "15W", "25W", "MAXN"]
    machines = sorted((parse_machine(f"orin-nx-16gb@{mode}") for mode in modes), key=lambda item: getattr(item, field))
    if field == "gpu_mhz":
        machines = [machine for machine in machines if machine.sms == 8]
    times = [at(machine) for machine in machines]
    assert times == sorted(times, reverse=True)
    assert times[0] > times[-1]


def points(efficiency: float, launch_us: float) -> list[Published]:
    shapes = [("a", 10.0, 100), ("a", 12.0, 900), ("b", 1.0, 400), ("c", 300.0, 50), ("c", 90.0, 2000)]
    return [
        Published(name, ideal / efficiency + 1e-3 * launch_us * launches, ideal, launches)
        for name, ideal, launches in shapes
    ]


@pytest.mark.parametrize(("efficiency", "launch_us"), [(0.4, 12.0), (0.73, 0.0), (0.08, 55.0)])
def test_the_two_numbers_come_back(efficiency: float, launch_us: float) -> None:
    found = fitted(points(efficiency, launch_us))
    assert found == (pytest.approx(efficiency, rel=1e-4), pytest.approx(launch_us, abs=1e-2))
    assert spread(points(efficiency, launch_us)) == (pytest.approx(1, rel=1e-3), pytest.approx(1, rel=1e-3))


def test_every_network_counts_the_same() -> None:
    one = Published("a", 20.0, 10.0, 0)
    other = Published("b", 80.0, 10.0, 0)
    # The geometric mean of the efficiencies 1/2 and 1/8, however often one network was reported.
    assert fitted([one, other])[0] == pytest.approx(0.25, rel=1e-3)
    assert fitted([one, other, other, other])[0] == pytest.approx(0.25, rel=1e-3)


def test_a_left_out_network_is_estimated_by_the_others_alone() -> None:
    one, other = Published("a", 20.0, 10.0, 0), Published("b", 80.0, 10.0, 0)
    assert left_out([one, other]) == [pytest.approx(80.0, rel=1e-3), pytest.approx(20.0, rel=1e-3)]
    assert spread([one, other]) == (pytest.approx(0.25, rel=1e-3), pytest.approx(4.0, rel=1e-3))


def test_the_error_bar_contains_the_estimate() -> None:
    # Both numbers at their bounds estimate both too low; the bar still starts at the estimate itself.
    slow = [Published("a", 1e6, 1.0, 1), Published("b", 2e6, 1.0, 1)]
    low, high = spread(slow)
    assert low == 1.0
    assert high > 1e4


def test_all_points_of_one_network_leave_nothing_to_fit() -> None:
    with pytest.raises(ValueError, match="no published latencies"):
        left_out([Published("a", 20.0, 10.0, 0)])


def test_the_shipped_fit_is_what_its_points_give() -> None:
    fit = shipped_fit()
    known = [Published(point.network, point.latency_ms, point.ideal_ms, point.launches) for point in fit.points]
    assert fitted(known) == (pytest.approx(fit.efficiency, rel=1e-3), pytest.approx(fit.launch_us, abs=0.05))
    assert spread(known) == (pytest.approx(fit.low, abs=2e-3), pytest.approx(fit.high, abs=2e-3))
    for point, without in zip(fit.points, left_out(known), strict=True):
        assert point.left_out_ms == pytest.approx(without, rel=1e-3)
        assert point.machine == parse_machine(point.machine).key
        assert point.source


@pytest.mark.parametrize(
    ("change", "message"),
    [({"efficiency": 1.5}, "numbers cannot be"), ({"low": 1.2}, "numbers cannot be"), ({"points": []}, "cannot be"),
     ({"launch_us": "many"}, "expected float")],
)  # fmt: skip
def test_a_wrong_fit_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "fit.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(FILE.read_text()) | change))
    with pytest.raises(UserError, match=message):
        read_fit(path)
