"""How long a partly quantised graph takes, as a share of FP32's time: for a search that has a budget of latency.

Estimated for a board (`deploy.estimate`; what stays float counts as FP32, so that an FP16 board is faster still), or
measured where the study runs, FP32 and the graph in turns.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx

from calibration.config import SensitivityConfig
from deploy.boards import Machine, parse_machine
from deploy.estimate import estimate, shipped_fit
from deploy.measure import Timing, time_rounds
from deploy.onnx_cost import model_cost
from deploy.runners.protocol import Runner
from deploy.runners.registry import open_runner
from stereo.errors import UserError

HERE = "here"
# A candidate differs from the one before by a block: the median of fewer rounds would be decided by noise.
ROUNDS = Timing(runs=15, seconds=120.0, warmup=2)

# Latency of a graph by that of FP32.
LatencyShare = Callable[[onnx.ModelProto], float]


def check_budget(config: SensitivityConfig) -> None:
    """Refuse a latency budget that cannot be, before any work.

    Raises:
        UserError: not a positive share, a board that is not known, or a runtime whose times say nothing of INT8.
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
    elif config.runtime == "onnxruntime":
        raise UserError("onnxruntime computes quantised graphs in float: its times say nothing of INT8",
                        where="--latency_budget", fix="--runtime openvino, or --latency_on BOARD@MODE")  # fmt: skip


@contextlib.contextmanager
def latency_share(config: SensitivityConfig, fp32: onnx.ModelProto, folder: Path) -> Iterator[LatencyShare | None]:
    """What the options ask for; None without a budget. `folder` is for graphs that are timed."""
    if config.latency_budget is None:
        yield None
    elif config.latency_on == HERE:
        with opened(fp32, folder / "timed_fp32.onnx", config) as plain:
            yield lambda model: measured_share(model, plain, folder / "timed.onnx", config)
    else:
        machine = parse_machine(config.latency_on)
        fp32_ms = estimated_ms(fp32, machine)
        yield lambda model: estimated_ms(model, machine) / fp32_ms


@contextlib.contextmanager
def opened(model: onnx.ModelProto, path: Path, config: SensitivityConfig) -> Iterator[Runner]:
    """The graph in the study's runtime, in float32 for what is not quantised."""
    onnx.save(model, path)
    with contextlib.closing(open_runner(path, config.runtime, threads=config.threads, precision_hint="f32")) as runner:
        yield runner


def measured_share(
    model: onnx.ModelProto, plain: Runner, path: Path, config: SensitivityConfig, *, timing: Timing = ROUNDS
) -> float:
    """Median over rounds in which FP32, `plain`, and the graph take turns."""
    assert plain.input_size is not None
    images = np.random.default_rng(0).integers(0, 256, (1, 3, *plain.input_size)).astype(np.float32)
    with opened(model, path, config) as runner:
        steps = [lambda runner=runner: runner.run(images, images) for runner in (plain, runner)]
        times_ms = time_rounds(steps, timing)
    return float(np.median(times_ms[:, 1] / times_ms[:, 0]))


def estimated_ms(model: onnx.ModelProto, machine: Machine) -> float:
    """On a board that is not at hand."""
    return estimate(model_cost(model), machine, shipped_fit()).latency_ms


def within_budget(share: float | None, budget: float | None) -> bool:
    """Whether a graph is fast enough; without a budget every one is."""
    return share is None or budget is None or share <= budget
