"""How long a partly quantised graph takes, as a share of FP32's time: for a search that has a budget of latency.

Estimated for a board (`deploy.estimate`; what stays float counts as FP32, so that an FP16 board is faster still), or
measured where the study runs, FP32 and the graph in turns.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx

from calibration.config import SensitivityConfig
from deploy.boards import Machine, parse_machine
from deploy.estimate import estimate, shipped_fit
from deploy.measure import Timing, time_rounds
from deploy.onnx_cost import model_cost
from deploy.runners.registry import open_runner
from stereo.errors import UserError

HERE = "here"
# A candidate differs from the one before by a block: the median of fewer rounds would be decided by noise.
ROUNDS = Timing(runs=15, seconds=120.0, warmup=2)


class LatencyShare(Protocol):
    """Latency of a graph by that of FP32; not a number where nobody asked."""

    def of(self, model: onnx.ModelProto) -> float:
        """The share of one graph."""
        ...


class NotAsked:
    """No budget was given: nothing is measured."""

    def of(self, model: onnx.ModelProto) -> float:
        """Not a number."""
        return math.nan


class Estimated:
    """On a board that is not at hand."""

    def __init__(self, fp32: onnx.ModelProto, machine: Machine) -> None:
        self._machine = machine
        self._fp32_ms = self._ms(fp32)

    def _ms(self, model: onnx.ModelProto) -> float:
        return estimate(model_cost(model), self._machine, shipped_fit()).latency_ms

    def of(self, model: onnx.ModelProto) -> float:
        """Estimated ms by FP32's estimated ms."""
        return self._ms(model) / self._fp32_ms


class Measured:
    """On this machine: median over rounds in which FP32 and the graph take turns."""

    def __init__(
        self, fp32: onnx.ModelProto, folder: Path, *, runtime: str, threads: int, timing: Timing = ROUNDS
    ) -> None:
        self._fp32, self._folder, self._runtime, self._threads = fp32, folder, runtime, threads
        self._timing = timing

    def of(self, model: onnx.ModelProto) -> float:
        """Median of the rounds' ratios."""
        runners = []
        try:
            for name, graph in (("timed_fp32", self._fp32), ("timed", model)):
                path = self._folder / f"{name}.onnx"
                onnx.save(graph, path)
                runners.append(open_runner(path, self._runtime, threads=self._threads, precision_hint="f32"))
            size = runners[0].input_size
            assert size is not None
            images = np.random.default_rng(0).integers(0, 256, (1, 3, *size)).astype(np.float32)
            steps = [lambda runner=runner: runner.run(images, images) for runner in runners]
            times_ms = time_rounds(steps, self._timing)
        finally:
            for runner in runners:
                runner.close()
        return float(np.median(times_ms[:, 1] / times_ms[:, 0]))


def check_budget(config: SensitivityConfig) -> None:
    """Refuse a latency budget that cannot be, before any work.

    Raises:
        UserError: not a positive share, or a board that is not known.
    """
    if config.latency_budget is None:
        if config.latency_on != HERE:
            raise UserError("a place without a budget", where=f"--latency_on {config.latency_on}",
                            fix="--latency_budget 0.7 allows 70 % of FP32's latency there")  # fmt: skip
        return
    if not 0 < config.latency_budget < math.inf:
        raise UserError(f"{config.latency_budget} is no share of FP32's latency", where="--latency_budget",
                        fix="such as 0.7")  # fmt: skip
    if config.latency_on != HERE:
        parse_machine(config.latency_on)


def latency_share(config: SensitivityConfig, fp32: onnx.ModelProto, folder: Path) -> LatencyShare:
    """What the options ask for; see `SensitivityConfig`."""
    if config.latency_budget is None:
        return NotAsked()
    if config.latency_on == HERE:
        return Measured(fp32, folder, runtime=config.runtime, threads=config.threads)
    return Estimated(fp32, parse_machine(config.latency_on))


def within_budget(share: float, budget: float | None) -> bool:
    """Whether a graph is fast enough; without a budget every one is."""
    return budget is None or share <= budget
