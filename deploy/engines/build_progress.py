"""How far a build is, told by TensorRT's progress monitor, and Ctrl-C that ends it cleanly.

TensorRT reports nested phases of known numbers of steps, from threads of its own. A child phase is one step of its
parent, so that the whole has one fraction.
https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api/infer/Core/ProgressMonitor.html
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stereo.progress import Ticker

PERCENT = 100
# How often the waiting main thread wakes, which is when Python sees Ctrl-C.
WAKE_EVERY_S = 0.1
log = logging.getLogger(__name__)


@dataclass
class Phase:
    """One phase under way."""

    parent: str | None
    steps: int
    done: int = 0


class BuildProgress:
    """Turns phases into percent on a ticker; knows nothing of TensorRT.

    Args:
        ticker: of `PERCENT` units.
    """

    def __init__(self, ticker: Ticker) -> None:
        self.cancelled = threading.Event()
        self._ticker = ticker
        self._lock = threading.Lock()
        self._phases: dict[str, Phase] = {}

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins."""
        with self._lock:
            self._phases[name] = Phase(parent, max(steps, 1))
            self._show(name)

    def step(self, name: str, step: int) -> bool:
        """A phase finished the step of this index. Returns whether the build shall go on."""
        with self._lock:
            if name in self._phases:
                self._phases[name].done = step + 1
                self._show(name)
        return not self.cancelled.is_set()

    def finish(self, name: str) -> None:
        """A phase is over."""
        with self._lock:
            phase = self._phases.get(name)
            if phase is not None:
                phase.done = phase.steps
                self._show(phase.parent or name)
            # What its parent counts as a finished step must not count twice.
            self._phases.pop(name, None)

    def complete(self) -> None:
        """The build is over."""
        with self._lock:
            self._advance(1.0, "")

    def fraction(self, name: str | None = None) -> float:
        """Share of the work that is done, of one phase or of the whole."""
        children = [child for child, phase in self._phases.items() if phase.parent == name]
        below = sum(self.fraction(child) for child in children)
        if name is None:
            return min(below, 1.0)
        phase = self._phases[name]
        return min((phase.done + below) / phase.steps, 1.0)

    def _show(self, name: str) -> None:
        if not self.cancelled.is_set():  # TensorRT finishes its open phases then
            self._advance(self.fraction(), name)

    def _advance(self, fraction: float, note: str) -> None:
        percent = int(PERCENT * fraction) - self._ticker.done
        if percent > 0:
            self._ticker.advance(percent, note=note)


def make_monitor(trt: Any, progress: BuildProgress) -> Any:
    """TensorRT's IProgressMonitor over a `BuildProgress`."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            super().__init__()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return progress.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            progress.finish(phase_name)

    return Monitor()


def run_interruptibly(work: Callable[[], Any], cancelled: threading.Event) -> Any:
    """Run work that keeps the interpreter's main thread in foreign code, so that Ctrl-C still arrives.

    Args:
        work: ends soon after `cancelled` is set.

    Raises:
        KeyboardInterrupt: after the work has ended.
    """
    results: list[Any] = []
    failures: list[BaseException] = []
    # Python 3.10 and 3.11 take a thread for dead whose join was interrupted, so an event tells when it has ended.
    ended = threading.Event()

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            failures.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=run, name="build", daemon=True)
    try:
        thread.start()
        while not ended.wait(WAKE_EVERY_S):
            pass
    except KeyboardInterrupt:
        cancelled.set()
        wait_for_end(thread, ended)
        raise
    if failures:
        raise failures[0]
    return results[0]


def wait_for_end(thread: threading.Thread, ended: threading.Event) -> None:
    """Until a thread has ended, if it ever began; leaving it alone in foreign code would end in a crash."""
    while True:
        try:
            while not ended.wait(WAKE_EVERY_S) and thread.ident is not None:
                pass
            return
        except KeyboardInterrupt:
            log.warning("the build ends at TensorRT's next step")
