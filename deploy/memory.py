"""Peak memory of one variant, measured in a process of its own so that variants do not hide in each other's heaps.

`python -m deploy.memory JSON` is that process: it imports the runtime, notes its memory, then loads and runs the model.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

from deploy.device import memory_mb
from deploy.jetson import is_jetson
from deploy.results import Memory
from deploy.runners.registry import import_runtime, open_runner
from stereo.errors import UserError

STATUS = Path("/proc/self/status")
# Linux only: writing 5 makes the kernel forget the peak so far, here the one of importing.
CLEAR = Path("/proc/self/clear_refs")
RUNS = 3
TIMEOUT_S = 600
LOOK_EVERY_S = 0.02


def measure_memory(
    path: Path, runtime: str, *, threads: int, precision_hint: str, size: tuple[int, int]
) -> Memory | None:
    """Load a model in a new process, run it a few times on noise, and ask for the peak.

    Args:
        size: (H, W) in pixels to run at.

    Returns:
        None where the system does not tell (not Linux).

    Raises:
        UserError: the process failed.
    """
    if not STATUS.exists():
        return None
    job = {"path": str(path), "runtime": runtime, "threads": threads, "precision_hint": precision_hint, "size": size}
    command = [sys.executable, "-m", "deploy.memory", json.dumps(job)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"measuring memory took longer than {TIMEOUT_S} s", where=path,
                        fix="--memory false leaves it out") from error  # fmt: skip
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise UserError(f"measuring memory failed: {reason}", where=path, fix="--memory false leaves it out")
    answer = json.loads(done.stdout.splitlines()[-1])
    over_baseline_mb = answer["peak_mb"] - answer["baseline_mb"]
    return Memory(peak_mb=answer["peak_mb"], peak_over_baseline_mb=over_baseline_mb, board_mb=answer["board_mb"])


def status_mb(key: str) -> float:
    """A line of /proc/self/status, such as VmRSS or VmHWM, in MB of 10^6 bytes."""
    for line in STATUS.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise UserError(f"no {key} in {STATUS}")


def measure_here(job: str) -> str:
    """What the process does: JSON in, JSON out."""
    work = json.loads(job)
    height, width = work.pop("size")
    import_runtime(work["runtime"])
    left, right = np.random.default_rng(0).uniform(0, 255, (2, 1, 3, height, width)).astype(np.float32)
    with contextlib.suppress(OSError):  # a locked-down container: the peak then includes that of importing
        CLEAR.write_text("5")
    baseline_mb = status_mb("VmRSS")
    with BoardMemory() as board:
        runner = open_runner(work.pop("path"), size=(height, width), **work)
        for _ in range(RUNS):
            runner.run(left, right)
    return json.dumps({"baseline_mb": baseline_mb, "peak_mb": status_mb("VmHWM"), "board_mb": board.fell_mb})


class BoardMemory:
    """Watch the free memory of a Jetson while a block runs: the GPU shares it, but its part is in no process's size."""

    def __init__(self) -> None:
        self.fell_mb: float | None = None
        self._before = memory_mb() if is_jetson() else None
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> BoardMemory:
        if self._before is not None:
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._leave.set()
        if self._before is not None:
            self._thread.join()

    def _watch(self) -> None:
        while True:
            now = memory_mb()
            if self._before is not None and now is not None:
                self.fell_mb = max(self.fell_mb or 0.0, self._before[1] - now[1])
            if self._leave.wait(LOOK_EVERY_S):
                return


if __name__ == "__main__":
    print(measure_here(sys.argv[1]))
