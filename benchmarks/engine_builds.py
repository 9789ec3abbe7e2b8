"""Does TensorRT's own builder take every graph that this project makes? Ahead of time, without a GPU.

    python benchmarks/engine_builds.py [--students nano small] [--sizes 320x736 480x640 576x960] [--keep FOLDER]

Makes the FP32, FP16 and INT8 graphs of each student at each size, calibrated on two rendered scenes, and builds each
with TensorRT-RTX for compute capability 8.6. A preset that does not ship is taken with fresh weights: its graph is the
same. Prints nodes, seconds and sizes. Exit code 3 when a graph is refused.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch

from calibration.quantize import quantize_student
from deploy.config import BuildConfig
from deploy.engine import build
from deploy.engines.manifest import PRECISIONS
from deploy.models import shipped_students
from deploy.terminal_table import print_table
from distill.scenes import render_scenes
from distill.scenes_config import SceneOptions
from stereo.errors import UserError
from stereo.label_set import LabelledFrame, LabelSet
from stereo.label_set_writer import LabelSetWriter
from stereo.options import parse_size
from student.checkpoint import save_student
from student.presets import build_student

FRAMES = 2
MAX_DISP = 192


def scene_labels(folder: Path, size: tuple[int, int]) -> LabelSet:
    """Rendered scenes with their exact disparity, to calibrate on."""
    scenes = render_scenes(FRAMES, size, generator=torch.Generator().manual_seed(0), device="cpu",
                           options=SceneOptions(max_disp=MAX_DISP, bank_size=16))  # fmt: skip
    writer = LabelSetWriter(folder, identity={"source": {}, "teacher": {}}, max_disp=MAX_DISP)
    for index in range(FRAMES):
        left, right = (view[index].permute(1, 2, 0).round().byte().numpy() for view in (scenes.left, scenes.right))
        disparity = scenes.disparity[index, 0].numpy()
        writer.add(index, LabelledFrame(f"{index:06d}", left, right, disparity, np.ones(size, np.float32)))
    return LabelSet.open(writer.finish())


def student_file(name: str, folder: Path) -> Path:
    """A shipped student, or its preset with fresh weights."""
    if name in shipped_students():
        return shipped_students()[name]
    torch.manual_seed(0)
    return save_student(build_student(name).eval(), folder / f"{name}.safetensors", training={})


def build_all(folder: Path, graphs: Path, precisions: Sequence[str]) -> list[list[str]]:
    """Build each graph of one student at one size. Returns a line for each: the last cell says what came of it."""
    lines = []
    for precision in precisions:
        graph = graphs / f"{precision}.onnx"
        nodes = len(onnx.load(graph, load_external_data=False).graph.node)
        out = folder / graphs.name / f"{precision}.engine"
        start = time.perf_counter()
        line = [precision, str(nodes), f"{graph.stat().st_size / 1e6:.1f}"]
        try:
            build(BuildConfig(str(graph), runtime="tensorrt_rtx", out=str(out)))
            line += [f"{out.stat().st_size / 1e6:.1f}", f"{time.perf_counter() - start:.1f}", "built"]
        except UserError as error:
            line += ["", "", str(error)]
        lines.append(line)
    return lines


def main() -> int:
    """Build and print; see the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", nargs="+", default=["nano", "small"])
    parser.add_argument("--sizes", nargs="+", default=["320x736", "480x640", "576x960"])
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS), choices=PRECISIONS)
    parser.add_argument("--keep", type=Path, help="folder for graphs and engines; a temporary one when left out")
    options = parser.parse_args()
    lines = []
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        labels = scene_labels(folder / "scenes", parse_size(options.sizes[0]))
        for name in options.students:
            for size in options.sizes:
                graphs = folder / f"{name}_{size}"
                quantize_student(student_file(name, folder), labels, size=parse_size(size), out=graphs,
                                 frame_count=FRAMES)  # fmt: skip
                for line in build_all(folder, graphs, options.precisions):
                    lines.append([name, size, *line])
                    print("\t".join(lines[-1]), file=sys.stderr, flush=True)
    header = ("student", "size", "graph", "nodes", "graph MB", "engine MB", "build s", "")
    print_table(header, lines, stderr=False)
    return 0 if all(line[-1] == "built" for line in lines) else 3


if __name__ == "__main__":
    sys.exit(main())
