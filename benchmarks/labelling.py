"""What `stereodistill label` costs: speed and stages, memory over the length of a stream, time to resume.

    python benchmarks/labelling.py speed [--size 480x640] [--max_disp 128] [--frames 60] [--source images|video]
    python benchmarks/labelling.py memory [--size 480x640] [--frames 10000] [--after 500]
    python benchmarks/labelling.py resume [--frames 100000]

`speed`: the input is Middlebury's Motorcycle (scikit-image carries it), resized and jittered so that no two frames
are equal, written as PNG files or as a side-by-side MJPEG video into a temporary folder. The whole run with the SGBM
teacher is timed as a user would run it, reading and writing included; then each stage alone on one frame after the
other, on one core and with one thread, in CPU time (what the stage computes) and in wall time (waiting for the disk
included).

`memory`: frames without texture and a teacher that gives the same answer every time, so that all memory is the loop's
own: peak resident memory after so many frames, and at the end.

`resume`: a set with so many finished frames, made up except for the last ones, is resumed: seconds until the first new
frame reaches the teacher.

Each prints one JSON object. On a machine that does other things too, read the load average with the wall times.
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
from typing import Any

import cv2
import numpy as np
from made_up_stream import constant_task, make_up_set, peak_mb

from stereo.artifacts import commit, tool_versions
from stereo.benchmarks import motorcycle_pair
from stereo.frame_writer import Extras
from stereo.label_journal import JOURNAL_NAME
from stereo.label_set import LabelledFrame
from stereo.label_set_writer import LabelSetWriter
from stereo.options import parse_size
from stereo.pictures import write_png
from stereo.selection_options import SelectionOptions
from stereo.sources import open_source
from teacher.config import LabelConfig, TeacherOptions
from teacher.labelling import label, label_here
from teacher.labelling_steps import Steps
from teacher.registry import open_teacher

# The frames of `speed` show one scene.
ALL_FRAMES = SelectionOptions(near_duplicate_levels=None)


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


def measure_stages(source_path: Path, out: Path, max_disp: int, count: int) -> dict[str, dict[str, float]]:
    """Median milliseconds per frame of each stage, CPU and wall, one after the other on one core."""
    cores, threads = os.sched_getaffinity(0), cv2.getNumThreads()
    os.sched_setaffinity(0, {min(cores)})
    cv2.setNumThreads(1)
    source, teacher = open_source(source_path), open_teacher(TeacherOptions(max_disp=max_disp))
    steps = Steps(teacher, select=SelectionOptions())
    writer = LabelSetWriter(out, identity={}, max_disp=max_disp)
    spent: dict[str, list[tuple[float, float]]] = {}

    @contextmanager
    def timed(stage: str) -> Iterator[None]:
        start, start_cpu = time.perf_counter(), time.process_time()
        yield
        spent.setdefault(stage, []).append((time.process_time() - start_cpu, time.perf_counter() - start))

    for index in range(count):
        with timed("read"):
            frame = source.read(index)
        steps.begin_block()  # the frames show one scene; without this they would be near duplicates
        with timed("choose"):
            frame = steps.prepare(frame).frame
        assert frame.pair is not None, frame.problem
        with timed("teacher"):
            match = steps.match(frame.pair)
        with timed("confidence"):
            label = steps.weigh(frame.pair, match)
        labelled = LabelledFrame(frame.name, frame.pair.left, frame.pair.right, label.disparity, label.confidence)
        with timed("encode and write"):
            stored = writer.store(frame.index, labelled, Extras(frame.files, label.terms, label.verdict))
        with timed("journal"):
            writer.commit(stored)
    os.sched_setaffinity(0, cores)
    cv2.setNumThreads(threads)
    medians = {stage: np.median(np.asarray(values), axis=0) * 1000 for stage, values in spent.items()}
    return {stage: {"cpu_ms": round(cpu, 2), "wall_ms": round(wall, 2)} for stage, (cpu, wall) in medians.items()}


def speed(options: argparse.Namespace) -> dict[str, Any]:
    """The whole run, and every stage alone."""
    size = parse_size(options.size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = make_source(
            folder / "in" if options.source == "images" else folder, size, options.frames, options.source
        )
        teacher = TeacherOptions(max_disp=options.max_disp)
        start, start_cpu = time.perf_counter(), time.process_time()
        label(LabelConfig(str(source), out=str(folder / "out"), teacher=teacher, select=ALL_FRAMES))
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
        timing = json.loads((folder / "out" / "manifest.json").read_text())["timing"]
        stages = measure_stages(source, folder / "stages", options.max_disp, min(40, options.frames))
    others = [times for stage, times in stages.items() if stage != "teacher"]
    return {
        "what": "stereodistill label --teacher sgbm, reading and writing included",
        "frames_per_s": round(options.frames / seconds, 2),
        "cpu_ms_per_frame": round(1000 * cpu_seconds / options.frames, 1),
        "timing": timing,
        "max_disp": options.max_disp,
        "source": options.source,
        "stages_on_one_core": stages,
        "all_but_teacher_cpu_ms": round(sum(times["cpu_ms"] for times in others), 1),
        "all_but_teacher_wall_ms": round(sum(times["wall_ms"] for times in others), 1),
    }


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """How peak memory grows with the length of the stream."""
    with tempfile.TemporaryDirectory() as name:
        task, teacher = constant_task(Path(name) / "set", options.frames, parse_size(options.size))
        label_here(task)
        end_mb = peak_mb()
    early_mb = teacher.peaks_mb[min(options.after, options.frames) - 1]
    return {
        "what": "label with a constant teacher: peak resident memory",
        "after_frames": options.after,
        "peak_after_them_mb": round(early_mb, 1),
        "peak_at_the_end_mb": round(end_mb, 1),
        "growth_mb": round(end_mb - early_mb, 1),
    }


def resume(options: argparse.Namespace) -> dict[str, Any]:
    """How long a set with many finished frames takes to go on."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "set"
        task, teacher = constant_task(out, options.frames + 8, (48, 64))
        make_up_set(out, task, options.frames, 32)
        journal_mb = (out / JOURNAL_NAME).stat().st_size / 1e6
        start, start_cpu = time.perf_counter(), time.process_time()
        label_here(task)
        assert teacher.first_s is not None
        assert teacher.first_cpu_s is not None
        assert len(teacher.peaks_mb) == 8, "only what was not finished is labelled"
        end = time.perf_counter()
    return {
        "what": "resume of a label set: seconds until the teacher gets the first new frame",
        "seconds": round(teacher.first_s - start, 2),
        "cpu_seconds": round(teacher.first_cpu_s - start_cpu, 2),
        "seconds_to_label_8_more_and_finish": round(end - teacher.first_s, 2),
        "journal_mb": round(journal_mb, 1),
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measure", choices=("speed", "memory", "resume"))
    parser.add_argument("--size", default="480x640")
    parser.add_argument("--max_disp", type=int, default=128)
    parser.add_argument("--frames", type=int)
    parser.add_argument("--after", type=int, default=500)
    parser.add_argument("--source", choices=("images", "video"), default="images")
    options = parser.parse_args()
    measure, frames = {"speed": (speed, 60), "memory": (memory, 10_000), "resume": (resume, 100_000)}[options.measure]
    options.frames = options.frames or frames
    result = measure(options)
    print(json.dumps(result | {
        "frames": options.frames,
        "size": options.size,
        "cores": len(os.sched_getaffinity(0)),
        "cpu": platform.processor() or platform.machine(),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "tools": tool_versions(),
        "commit": commit(),
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
