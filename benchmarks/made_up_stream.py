"""A stream and a teacher that cost next to nothing, to measure what labelling itself takes; see `labelling.py`."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from stereo.frame_writer import StoredFrame
from stereo.label_set import PARTS, LabelledFrame
from stereo.pair import StereoPair
from stereo.sources import Frame, StereoSource
from teacher.config import LabelConfig
from teacher.labelling import Task
from teacher.labelling_steps import Steps
from teacher.protocol import TeacherOutput
from teacher.trust_options import TrustOptions

# Made-up lines that enter the journal at once.
BATCH = 1000


class FlatSource(StereoSource):
    """A stream of frames without texture, as long as one likes, each of another gray."""

    kind = "made_up"

    def __init__(self, count: int, size: tuple[int, int]) -> None:
        self._count, self._size = count, size

    def __len__(self) -> int:
        return self._count

    def name(self, index: int) -> str:
        return f"{index:06d}"

    def paths(self) -> list[Path]:
        return []

    def read(self, index: int) -> Frame:
        view = np.full((*self._size, 3), index % 256, np.uint8)
        return Frame(index, self.name(index), StereoPair(view, view.copy(), self.name(index)))


class ConstantTeacher:
    """The same disparity for every frame; notes peak memory and time as frames come.

    Args:
        size: (H, W) of the frames.
    """

    name = "constant"
    max_disp = 64

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self.peaks_mb: list[float] = []
        self.first_s: float | None = None
        self.first_cpu_s: float | None = None

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "weights_sha256": None}

    def left_disparity(self, pair: StereoPair) -> np.ndarray:
        return np.full(self._size, 8, np.float32)

    def predict(self, pair: StereoPair) -> TeacherOutput:
        if self.first_s is None:
            self.first_s, self.first_cpu_s = time.perf_counter(), time.process_time()
        self.peaks_mb.append(peak_mb())
        return TeacherOutput(self.left_disparity(pair), np.ones(self._size, np.float32))


def peak_mb() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def constant_task(out: Path, count: int, size: tuple[int, int]) -> tuple[Task, ConstantTeacher]:
    """A labelling of a made-up stream."""
    teacher = ConstantTeacher(size)
    config = LabelConfig("made up", out=str(out), pictures=0)
    source, steps = FlatSource(count, size), Steps(teacher, trust=TrustOptions(combined=False))
    return Task(config, source, range(count), teacher, steps, rectifier=None, checked=None), teacher


def make_up_set(out: Path, task: Task, frames: int, real: int) -> None:
    """A set that was interrupted after so many frames: all their files exist, those of the last `real` hold labels."""
    writer = task.make_set(verify=False)
    size = (48, 64)
    frame = LabelledFrame("0", *[np.zeros((*size, 3), np.uint8)] * 2, *[np.ones(size, np.float32)] * 2)
    template = writer.store(0, frame).line
    for start in range(0, frames - real, BATCH):
        batch = []
        for number in range(start, min(start + BATCH, frames - real)):
            files = {f"{part}/{number:06d}.png": template["files"][f"{part}/0.png"] for part in PARTS}
            batch.append(StoredFrame(template | {"frame": number, "name": f"{number:06d}", "files": files}))
            for path in files:
                (out / path).touch()
        writer.commit(*batch)
    for number in range(frames - real, frames):
        writer.add(number, LabelledFrame(f"{number:06d}", frame.left, frame.right, frame.disparity, frame.confidence))
    writer.close()
