"""Labelling takes the same memory whatever the length of the stream, and goes on quickly behind many frames."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "labelling.py"


def measured(*arguments):
    """What the benchmark prints; in a process of its own, because peak memory never sinks."""
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), *arguments], capture_output=True, text=True, cwd=BENCHMARK.parents[1]
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_stream():
    """The journal's lines of these frames alone, kept as objects, would take more."""
    assert measured("memory", "--frames", "4000", "--after", "500", "--size", "48x64")["growth_mb"] < 8


@pytest.mark.slow
def test_only_unfinished_frames_are_labelled_behind_many_finished_ones():
    """The benchmark itself checks that the teacher gets the eight frames that are left, and no other."""
    assert measured("resume", "--frames", "5000")["journal_mb"] > 2
