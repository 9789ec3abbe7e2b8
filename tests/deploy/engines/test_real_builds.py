"""Real ahead-of-time builds of every preset at every usual size, and a real Ctrl-C: TensorRT-RTX needs no GPU for them.

`python benchmarks/engine_builds.py` prints a table of them; docs/results.md has one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from deploy.config import BuildConfig
from deploy.engine import build
from deploy.operators import foreign_operators

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]
PRECISIONS = ("fp32", "fp16", "int8")
# What ships, and with fresh weights what does not yet: the graphs are the same.
PRESETS = [(name, size) for name in ("nano", "small") for size in ((320, 736), (480, 640), (576, 960))]


@pytest.fixture(scope="module")
def graphs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fp32.onnx, fp16.onnx and int8.onnx, calibrated on two frames of noise: the ranges do not matter here."""
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed (extra rtx)")
    pytest.importorskip("modelopt", reason="nvidia-modelopt is not installed (extra quantize)")
    from calibration.quantize import quantize_student
    from deploy.models import shipped_students
    from stereo.label_set import LabelledFrame, LabelSet
    from stereo.label_set_writer import LabelSetWriter
    from student.checkpoint import save_student
    from student.presets import build_student

    name, size = request.param
    folder = tmp_path_factory.mktemp(name)
    student = shipped_students().get(name)
    if student is None:
        student = save_student(build_student(name).eval(), folder / f"{name}.safetensors", training={})
    rng = np.random.default_rng(0)
    writer = LabelSetWriter(folder / "labels", identity={"source": {}, "teacher": {}}, max_disp=64)
    for index in range(2):
        left, right = rng.integers(0, 256, (2, *size, 3)).astype(np.uint8)
        disparity = rng.uniform(1, 60, size).astype(np.float32)
        writer.add(index, LabelledFrame(f"{index:06d}", left, right, disparity, np.ones(size, np.float32)))
    labels = LabelSet.open(writer.finish())
    return quantize_student(student, labels, size=size, out=folder / "graphs", frame_count=2)


@pytest.mark.parametrize("graphs", PRESETS, indirect=True, ids=str)
def test_tensorrt_s_builder_takes_every_precision(tmp_path: Path, graphs: Path) -> None:
    plain = onnx.load(graphs / "fp32.onnx").graph
    assert len(plain.node) <= 600, "each is launched by itself"
    largest = max(len(tensor.raw_data) for tensor in plain.initializer)
    assert largest < 1_000_000, "a constant of the size of a map"
    for precision in PRECISIONS:
        assert not foreign_operators(onnx.load(graphs / f"{precision}.onnx"))
        out = tmp_path / f"{precision}.engine"
        build(BuildConfig(str(graphs / f"{precision}.onnx"), runtime="tensorrt_rtx", out=str(out)))
        manifest = json.loads(out.with_suffix(".manifest.json").read_text())
        size = json.loads((graphs / "manifest.json").read_text())["config"]["size"]
        assert (manifest["precision"], f"{manifest['height']}x{manifest['width']}") == (precision, size)
        weights = sum(tensor.ByteSize() for tensor in onnx.load(graphs / f"{precision}.onnx").graph.initializer)
        assert out.stat().st_size > weights / 2, "an engine that lost its weights"


@pytest.mark.parametrize("graphs", PRESETS[:1], indirect=True)
def test_ctrl_c_ends_a_real_build_and_leaves_nothing(tmp_path: Path, graphs: Path) -> None:
    out = tmp_path / "out" / "int8.engine"
    words = ["build", str(graphs / "int8.onnx"), "--runtime", "tensorrt_rtx", "--out", str(out)]
    program = f"""
import sys
from deploy.engines.build_progress import BuildProgress
from stereo.cli import main
step = BuildProgress.step
def told(self, *arguments):
    print("step", flush=True)
    return step(self, *arguments)
BuildProgress.step = told
sys.exit(main({words!r}))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "step\n", "the build never began"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "100/100" not in errors, "it went on to the end"
    assert not out.parent.exists()
