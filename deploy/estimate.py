"""How long an ONNX graph would take on a board nobody has measured it on: a roofline for every kernel.

    kernel = max(arithmetic / peak rate, bytes / bandwidth) / efficiency + launch      graph = sum of its kernels

Peak rate and bandwidth come from `deploy/boards.yaml`. Efficiency and launch are the two fitted numbers: they, and how
far estimates lie off, come from published latencies (`benchmarks/estimates.py`) and stand in `estimate_fit.yaml`; see
docs/estimates.md. The roofline model: Williams, Waterman, Patterson 2009, https://doi.org/10.1145/1498765.1498785.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.boards import Machine
from deploy.onnx_cost import Kernel
from deploy.typed_json import parse
from stereo.errors import UserError
from stereo.yaml_files import read_yaml

FILE = Path(__file__).with_name("estimate_fit.yaml")


@dataclass(frozen=True)
class Point:
    """One published latency, and what the model says of it.

    Args:
        machine: board@mode, as assumed where the publication does not tell.
        latency_ms: as published.
        ideal_ms: of the roofline at full efficiency.
        launches: kernels.
        fitted_ms: the estimate with the numbers fitted to all points.
        left_out_ms: the estimate with those fitted to all other networks.
        assumed: what the publication does not tell.
    """

    network: str
    machine: str
    latency_ms: float
    ideal_ms: float
    launches: int
    fitted_ms: float
    left_out_ms: float
    source: str
    assumed: str

    @property
    def left_out_error(self) -> float:
        """Of the estimate without its own network: 0.5 is half as much again as published."""
        return self.left_out_ms / self.latency_ms - 1


@dataclass(frozen=True)
class Fit:
    """The two fitted numbers, and what they rest on.

    Args:
        efficiency: which part of the roofline's speed is reached.
        launch_us: what a kernel takes however little it does.
        low, high: estimates are multiplied with these for the error bar: published latencies lay that far from
            estimates that did not know their network.
        made_by, commit, date: how it was fitted.
    """

    efficiency: float
    launch_us: float
    low: float
    high: float
    made_by: str
    commit: str
    date: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Estimate:
    """An estimated latency.

    Args:
        low_ms, high_ms: the error bar.
        kernels: with the time of each, in ms.
    """

    latency_ms: float
    low_ms: float
    high_ms: float
    kernels: tuple[tuple[Kernel, float], ...]


@functools.cache
def shipped_fit() -> Fit:
    """The fit that comes with the package.

    Raises:
        UserError: the file was damaged.
    """
    return read_fit(FILE)


def read_fit(path: Path) -> Fit:
    """Read and check a fit.

    Raises:
        UserError: a field missing, unknown or of the wrong type, or numbers that cannot be.
    """
    fit: Fit = parse(Fit, dict(read_yaml(path, what="fit of the estimates")), where=str(path))
    if not (0 < fit.efficiency <= 1 and 0 < fit.low <= 1 <= fit.high and fit.launch_us >= 0 and fit.points):
        raise UserError("the fit's numbers cannot be", where=path, fix="python benchmarks/estimates.py makes it again")
    return fit


def estimate(kernels: Sequence[Kernel], machine: Machine, fit: Fit) -> Estimate:
    """Latency of a graph on a machine.

    Args:
        kernels: of `deploy.onnx_cost`.
    """
    times_ms = [ideal_ms(kernel, machine) / fit.efficiency + 1e-3 * fit.launch_us for kernel in kernels]
    total = sum(times_ms)
    return Estimate(total, total * fit.low, total * fit.high, tuple(zip(kernels, times_ms, strict=True)))


def ideal_ms(kernel: Kernel, machine: Machine) -> float:
    """The roofline: arithmetic at the peak rate or bytes at the full bandwidth, whichever takes longer."""
    return max(arithmetic_ms(kernel, machine), 1e3 * kernel.bytes_moved / machine.bandwidth_bytes)


def arithmetic_ms(kernel: Kernel, machine: Machine) -> float:
    """Multiply-adds at the peak rate, those included that only fill up the blocks of tensor cores."""
    peaks = machine.peak_tensor if kernel.tensor_cores else machine.peak_plain
    return 1e3 * 2 * kernel.filled_multiply_adds / peaks[kernel.precision]
