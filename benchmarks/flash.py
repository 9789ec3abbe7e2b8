"""How long a bundle takes to become results: bundle, then flash to a board, step by step.

    python benchmarks/flash.py BOARD --models runs/nano --pairs PAIRS [more options of flash]

A board that was flashed before would have nothing left to do: give --directory a new name, or remove it there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from stereo.cli import main
from stereo.progress import clock


def run(*words: str) -> float:
    """Seconds that a command of ours took."""
    start = time.monotonic()
    if main(words):
        sys.exit(1)
    return time.monotonic() - start


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
        rows = [("bundle", run("bundle", options.models, *pairs, "--targets", options.targets, "--out", bundle), "")]
        size_mb = Path(bundle).stat().st_size / 1e6
        seconds = run("flash", bundle, options.board, "--out", out, *of_flash)
        record = json.loads(Path(out, "flash.json").read_text())
    rows += [
        (f"flash: {s['step']}", s["seconds"], "was done before" if s["continued"] else "") for s in record["steps"]
    ]
    print(f"bundle of {size_mb:.1f} MB, board {record['board']['target']}, {', '.join(record['variants'])}\n")
    print("| step | s | |\n|---|---|---|")
    for name, took, note in [*rows, ("flash, all", seconds, clock(seconds))]:
        print(f"| {name} | {took:.1f} | {note} |")


if __name__ == "__main__":
    measure()
