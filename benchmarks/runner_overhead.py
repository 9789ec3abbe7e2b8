"""What a runner takes beyond its runtime's own time, at 480×640 or any graph's size: conversions, copies, calls.

    python benchmarks/runner_overhead.py MODEL.onnx [--runtimes onnxruntime,openvino] [--rounds 20] [--bound 3]

Two measurements in one process with one thread, in processor time, which other work on the machine does not add to.

* overhead: what our runner takes when its runtime is replaced by one that answers at once, as a share of the runtime's
  bare call on the same arrays. This is what the bound is for.
* difference: `run` of our runner and the bare call take turns; the median of (ours / bare − 1) over the rounds, with
  quartiles. It contains the noise of two long calls.

Exit code 3 when a runtime is beyond the bound.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploy.device import device_name
from deploy.onnx_stereo import OUTPUT
from deploy.run_pair import network_inputs, plan_fit
from deploy.runners.protocol import Floats
from deploy.runners.registry import open_runner
from deploy.terminal_table import print_table
from deploy.textured_pair import textured_pair
from stereo.progress import Ticker, progress

OWN_RUNS = 200


def bare_call(runner: Any, left: Floats, right: Floats) -> Callable[[], object]:
    """The runtime's own call on what the runner holds."""
    if runner.runtime == "onnxruntime":
        session = runner._session
        return lambda: session.run([OUTPUT], {"left": left, "right": right})
    request = runner._request
    return lambda: request.infer({"left": left, "right": right}, share_inputs=True)


class Idle:
    """A runtime that answers at once, with an array that is ready; takes the place of a session or a request."""

    def __init__(self, answer: Floats) -> None:
        self.data = answer

    def run(self, *_: object) -> list[Floats]:
        return [self.data]

    def infer(self, *_: object, **__: object) -> None:
        pass

    def get_tensor(self, _: str) -> Idle:
        return self


def own_time_ms(runner: Any, left: Floats, right: Floats) -> float:
    """Processor time of the runner's own part of `run`: the median of many."""
    name = "_session" if runner.runtime == "onnxruntime" else "_request"
    runtime, answer = getattr(runner, name), runner.run(left, right)
    setattr(runner, name, Idle(answer))
    times_ms = []
    for _ in range(OWN_RUNS):
        before = time.process_time()
        runner.run(left, right)
        times_ms.append(1e3 * (time.process_time() - before))
    setattr(runner, name, runtime)
    return float(np.median(times_ms))


def processor_times_ms(steps: Sequence[Callable[[], object]], rounds: int, ticker: Ticker) -> np.ndarray:
    """rounds × steps; an order that changes from round to round, after one round that does not count."""
    order, shuffle = list(range(len(steps))), random.Random(0).shuffle
    times_ms = np.zeros((rounds + 1, len(steps)))
    for line in times_ms:
        shuffle(order)
        for index in order:
            before = time.process_time()
            steps[index]()
            line[index] = 1e3 * (time.process_time() - before)
        ticker.advance()
    return times_ms[1:]


def measure(path: Path, runtimes: list[str], rounds: int) -> list[tuple[str, str, float, np.ndarray, np.ndarray]]:
    """(runtime, size, own ms, ours ms, bare ms) of each runtime."""
    names, steps = [], []
    for runtime in runtimes:
        runner = open_runner(path, runtime)
        assert runner.input_size is not None, "give a graph of one size"
        pair = textured_pair(*runner.input_size)
        left, right = network_inputs(plan_fit(runner, pair.height, pair.width), pair)
        names.append((runtime, "{}x{}".format(*runner.input_size), own_time_ms(runner, left, right)))
        steps += [lambda runner=runner, left=left, right=right: runner.run(left, right), bare_call(runner, left, right)]
    with progress("timing", rounds + 1, unit="rounds") as ticker:
        times_ms = processor_times_ms(steps, rounds, ticker)
    return [(*name, times_ms[:, 2 * index], times_ms[:, 2 * index + 1]) for index, name in enumerate(names)]


def main() -> int:
    """Measure and print; see the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--runtimes", default="onnxruntime,openvino")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--bound", type=float, default=3.0, help="largest overhead in percent")
    options = parser.parse_args()
    lines, beyond = [], False
    for runtime, size, own_ms, ours_ms, bare_ms in measure(options.model, options.runtimes.split(","), options.rounds):
        overhead = 100 * own_ms / float(np.median(bare_ms))
        beyond |= overhead > options.bound
        low, middle, high = 100 * (np.percentile(ours_ms / bare_ms, (25, 50, 75)) - 1)
        lines.append([runtime, size, f"{np.median(bare_ms):.1f}", f"{own_ms:.3f}", f"{overhead:.3f}",
                      f"{middle:+.2f} ({low:+.2f} to {high:+.2f})"])  # fmt: skip
    print(f"{device_name()}, 1 thread, {options.rounds} rounds")
    print_table(("runtime", "size", "bare ms", "own ms", "overhead %", "difference %"), lines, stderr=False)
    return 3 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
