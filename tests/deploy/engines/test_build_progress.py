"""deploy.engines.build_progress: nested phases as one fraction, and Ctrl-C that ends a build cleanly."""

from __future__ import annotations

import _thread
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.config import BuildConfig
from deploy.engine import build
from deploy.engines.build_progress import PERCENT, BuildProgress, run_interruptibly
from stereo.progress import Ticker

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def tracker() -> BuildProgress:
    """Nothing has begun."""
    return BuildProgress(Ticker("build", PERCENT, "%", None, elapsed=True))


def test_a_child_is_one_step_of_its_parent(tracker: BuildProgress) -> None:
    tracker.start("engine", None, 4)
    assert tracker.fraction() == 0
    tracker.step("engine", 0)
    assert tracker.fraction() == 0.25
    tracker.start("timing", "engine", 2)
    tracker.step("timing", 0)
    assert tracker.fraction() == 0.25 + 0.25 / 2
    tracker.start("kernels", "timing", 10)
    tracker.step("kernels", 4)
    assert tracker.fraction() == pytest.approx(0.25 + 0.25 * (1 + 0.5) / 2)
    tracker.finish("kernels")
    tracker.step("timing", 1)
    tracker.finish("timing")
    tracker.step("engine", 1)
    assert tracker.fraction() == 0.5


def test_the_bar_never_goes_back_and_ends_full(tracker: BuildProgress) -> None:
    seen = []
    tracker.start("engine", None, 2)
    for index in range(2):
        tracker.start("part", "engine", 3)
        for step in range(3):
            tracker.step("part", step)
            seen.append(tracker._ticker.done)
        tracker.finish("part")  # the parent has not counted it yet
        seen.append(tracker._ticker.done)
        tracker.step("engine", index)
    assert seen == sorted(seen)
    assert seen[2] == 50
    tracker.complete()
    assert tracker._ticker.done == PERCENT


def test_unknown_phases_and_empty_ones_do_no_harm(tracker: BuildProgress) -> None:
    assert tracker.step("never begun", 3)
    tracker.finish("never begun")
    tracker.start("nothing to do", None, 0)
    tracker.finish("nothing to do")
    assert tracker.fraction() == 0


def test_interrupted_work_is_told_and_waited_for() -> None:
    cancelled, ended = threading.Event(), []

    def work() -> None:
        _thread.interrupt_main()
        assert cancelled.wait(10), "nobody told"
        time.sleep(0.05)
        ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        run_interruptibly(work, cancelled)
    assert ended


def test_a_real_ctrl_c_waits_until_the_work_has_ended() -> None:
    """Twice, from an impatient user; in a process of its own, because a signal is the whole process's."""
    program = """
import os, signal, threading, time
from deploy.engines.build_progress import run_interruptibly
cancelled = threading.Event()
def work():
    time.sleep(0.3)
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
    print("told" if cancelled.is_set() else "not told", flush=True)
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    run_interruptibly(work, cancelled)
except KeyboardInterrupt:
    print("ended")
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.stdout == "told\nended\n", done.stderr


def test_results_and_errors_come_back() -> None:
    assert run_interruptibly(lambda: 7, threading.Event()) == 7
    with pytest.raises(ZeroDivisionError):
        run_interruptibly(lambda: 1 // 0, threading.Event())


def test_ctrl_c_writes_no_engine_and_keeps_what_was_measured(
    tmp_path: Path, network: Path, make_gpu: Callable[..., Any]
) -> None:
    board = make_gpu()
    steps = iter(range(100))

    def interrupt() -> None:
        if next(steps) == 8:  # in the fourth step of timing
            _thread.interrupt_main()
            time.sleep(0.5)

    board.workshop.during_build = interrupt
    cache, out = tmp_path / "t.cache", tmp_path / "out" / "e.engine"
    config = BuildConfig(str(network), runtime="tensorrt", out=str(out), timing_cache=str(cache))
    with pytest.raises(KeyboardInterrupt):
        build(config)
    assert not out.parent.exists()
    assert board.workshop.measured == 3
    board.workshop.during_build = None
    build(config)
    assert board.workshop.measured == 10
    assert next(steps) < 12, "the first build went on after Ctrl-C"
