"""How long a bundle takes to become results: bundle, then flash to a board, step by step.

    python benchmarks/flash.py BOARD --models runs/nano --pairs PAIRS [more options of flash]

A board that was flashed before would have nothing left to do: give --directory a new name, or remove it there.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from stereo.cli import main


@dataclass(frozen=True)
class Row:
    """A line of the table; None is not measured."""

    step: str
    wall_s: float
    processor_s: float | None = None


def own_processor_s() -> float:
    """Processor time of this process and of its finished children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def run(*words: str) -> Row:
    """What a command of ours took on this machine."""
    start, used = time.monotonic(), own_processor_s()
    if main(words):
        sys.exit(1)
    return Row(f"{words[0]}, all", time.monotonic() - start, own_processor_s() - used)


def measure() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("board")
    parser.add_argument("--models", required=True)
    parser.add_argument("--pairs", default="")
    parser.add_argument("--targets", default="aarch64-cp310,aarch64-cp312")
    options, of_flash = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as scratch:
        bundle, out = f"{scratch}/bundle.tar", f"{scratch}/results"
        pairs = ["--pairs", options.pairs] if options.pairs else []
        bundled = run("bundle", options.models, *pairs, "--targets", options.targets, "--out", bundle)
        size_mb = Path(bundle).stat().st_size / 1e6
        flashed = run("flash", bundle, options.board, "--out", out, *of_flash)
        record = json.loads(Path(out, "flash.json").read_text())
    steps = [
        Row(f"flash: {step['step']}, there", step["seconds"], step["processor_s"])
        for step in record["steps"]
        if not step["continued"]
    ]
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"bundle of {size_mb:.1f} MB, board {record['board']['target']}, {', '.join(record['variants'])}")
    print(f"load averages of this machine at the end: {load} on {os.cpu_count()} cores\n")
    print("| step | s | processor s |\n|---|---|---|")
    for row in (bundled, *steps, flashed):
        print(f"| {row.step} | {row.wall_s:.1f} | {'' if row.processor_s is None else f'{row.processor_s:.1f}'} |")


if __name__ == "__main__":
    measure()
