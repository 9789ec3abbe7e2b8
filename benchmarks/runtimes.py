"""How the variants of one student compare on this machine's CPU, runtime by runtime, all taking turns in one run.

    python benchmarks/runtimes.py DIR [--threads 1] [--rounds 30] [--target 0.6]

DIR holds fp32.onnx, fp16.onnx and int8.onnx, as `stereodistill quantize` writes them. Prints, for every variant, the
median time and the median and spread of time / FP32 of the same runtime, taken round by round; then whether INT8 under
OpenVINO keeps to the target. Exit code 3 when it does not.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence

import numpy as np

from deploy.device import device_name
from deploy.measure import Timing, time_rounds
from deploy.opening import Opened, opened, requests
from deploy.profile import prepare, run_size
from deploy.terminal_table import print_table
from deploy.textured_pair import textured_pair
from stereo.progress import progress

OPENVINO_INT8 = ("int8", "openvino", "f32")


def measure(options: argparse.Namespace) -> tuple[list[Opened], np.ndarray]:
    """What was opened, and the times of all rounds, rounds × variants, in ms."""
    jobs = requests(
        options.models,
        runtime=options.runtime,
        precision_hints=options.precision_hints,
        threads=options.threads,
        size="",
    )
    with contextlib.ExitStack() as stack:
        items = [stack.enter_context(opened(job, fixed_size=True)) for job in jobs]
        steps = [prepare(item.runner, textured_pair(*run_size(item)))[0] for item in items]
        with progress("timing", options.rounds, unit="rounds") as ticker:
            timing = Timing(options.rounds, seconds=float("inf"), warmup=3)
            return items, time_rounds(steps, timing, ticker=ticker)


def key(item: Opened) -> tuple[str | None, str, str]:
    """Precision, runtime and hint."""
    return item.model.precision, item.runner.runtime, item.runner.precision_hint


def ratios(items: Sequence[Opened], times_ms: np.ndarray, column: int) -> np.ndarray | None:
    """Time / FP32 of the same runtime, of each round; None without an FP32 variant."""
    bases = [index for index, item in enumerate(items) if key(item) == ("fp32", items[column].runner.runtime, "f32")]
    return times_ms[:, column] / times_ms[:, bases[0]] if bases else None


def main() -> int:
    """Measure and print; see the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--runtime", default="openvino,onnxruntime")
    parser.add_argument("--precision-hints", default="f32,bf16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--target", type=float, default=0.6, help="largest time of OpenVINO INT8 / FP32")
    options = parser.parse_args()
    items, times_ms = measure(options)
    print(f"{device_name()}, {options.threads} thread(s), {len(times_ms)} rounds")
    lines, measured = [], None
    for column, item in enumerate(items):
        _, runtime, hint = key(item)
        line = [item.model.variant, runtime, hint, f"{np.median(times_ms[:, column]):.1f}"]
        by_round = ratios(items, times_ms, column)
        if by_round is not None:
            low, middle, high = np.percentile(by_round, (10, 50, 90))
            line += [f"{middle:.3f}", f"{low:.3f} to {high:.3f}"]
            measured = middle if key(item) == OPENVINO_INT8 else measured
        lines.append(line + [""] * (6 - len(line)))
    print_table(("variant", "runtime", "hint", "p50 ms", "time / FP32", "p10 to p90"), lines, stderr=False)
    if measured is None:
        print("no INT8 and FP32 pair under OpenVINO was measured")
        return 0
    kept = measured <= options.target
    print(f"OpenVINO INT8 takes {measured:.3f} times its FP32: {'within' if kept else 'ABOVE'} {options.target}")
    return 0 if kept else 3


if __name__ == "__main__":
    sys.exit(main())
