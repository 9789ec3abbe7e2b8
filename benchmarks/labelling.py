"""How fast `stereodistill label` runs with the SGBM teacher, and where the time goes.

    python benchmarks/labelling.py [--size 480x640] [--max_disp 128] [--frames 60] [--source images|video]

The input is Middlebury's Motorcycle (scikit-image carries it), resized and jittered so that no two frames are equal,
written as PNG files or as a side-by-side MJPEG video into a temporary folder. The whole run is timed as a user would
run it, reading and writing included; then each step alone on one frame after the other, which tells its share. On a
machine that does other things too, read the load average with the frames/s; the CPU time per frame depends on it less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from stereo.artifacts import commit, tool_versions
from stereo.benchmarks import motorcycle_pair
from stereo.label_set import LabelledFrame
from stereo.label_set_writer import LabelSetWriter
from stereo.options import parse_size
from stereo.pictures import write_png
from stereo.sources import open_source
from teacher.config import LabelConfig, TeacherOptions
from teacher.labelling import label
from teacher.registry import open_teacher


def make_source(folder: Path, size: tuple[int, int], frames: int, kind: str) -> Path:
    """Write the input; returns what to give `label`."""
    pair, random = motorcycle_pair(), np.random.default_rng(0)
    views = [cv2.resize(view, size[::-1], interpolation=cv2.INTER_AREA) for view in (pair.left, pair.right)]
    video = None
    if kind == "video":
        path = str(folder / "clip.avi")
        video = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 10, (2 * size[1], size[0]))
    for number in range(frames):
        noise = random.integers(-3, 4, (*size, 3))
        left, right = (np.clip(view + noise, 0, 255).astype(np.uint8) for view in views)
        if video is not None:
            video.write(np.concatenate([left, right], axis=1)[:, :, ::-1])
        else:
            write_png(folder / "left" / f"{number:06d}.png", left)
            write_png(folder / "right" / f"{number:06d}.png", right)
    if video is not None:
        video.release()
    return folder / "clip.avi" if video is not None else folder


def measure_steps(source_path: Path, out: Path, max_disp: int, count: int) -> dict[str, float]:
    """Milliseconds per frame of each step, one after the other in one thread (the matcher with its own threads)."""
    source, teacher = open_source(source_path), open_teacher(TeacherOptions(max_disp=max_disp))
    writer = LabelSetWriter(out, identity={}, max_disp=max_disp)
    spent: dict[str, float] = {"read": 0.0, "match": 0.0, "encode and write": 0.0, "journal": 0.0}

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        spent[step] += 1000 * (time.perf_counter() - start) / count

    for index in range(count):
        with timed("read"):
            frame = source.read(index)
        assert frame.pair is not None, frame.problem
        with timed("match"):
            output = teacher.predict(frame.pair)
        labelled = LabelledFrame(frame.name, frame.pair.left, frame.pair.right, output.disparity, output.confidence)
        with timed("encode and write"):
            stored = writer.store(frame.index, labelled, files=frame.files)
        with timed("journal"):
            writer.commit(stored)
    return spent


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="480x640")
    parser.add_argument("--max_disp", type=int, default=128)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--source", choices=("images", "video"), default="images")
    options = parser.parse_args()
    size = parse_size(options.size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = make_source(
            folder / "in" if options.source == "images" else folder, size, options.frames, options.source
        )
        teacher = TeacherOptions(max_disp=options.max_disp)
        start, start_cpu = time.perf_counter(), time.process_time()
        label(LabelConfig(str(source), out=str(folder / "out"), teacher=teacher))
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
        steps = measure_steps(source, folder / "steps", options.max_disp, min(20, options.frames))
    total = sum(steps.values())
    print(json.dumps({
        "what": "stereodistill label --teacher sgbm, reading and writing included",
        "frames_per_s": round(options.frames / seconds, 2),
        "cpu_ms_per_frame": round(1000 * cpu_seconds / options.frames, 1),
        "frames": options.frames,
        "size": options.size,
        "max_disp": options.max_disp,
        "source": options.source,
        "step_ms_alone": {step: round(value, 1) for step, value in steps.items()},
        "step_share_pct": {step: round(100 * value / total, 1) for step, value in steps.items()},
        "cores": len(os.sched_getaffinity(0)),
        "cpu": platform.processor() or platform.machine(),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "tools": tool_versions(),
        "commit": commit(),
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
