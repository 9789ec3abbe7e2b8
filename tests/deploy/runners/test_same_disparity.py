"""Whatever runs a network, images of any size meet it in the same way: `stereo.fit_size` through `deploy.run_pair`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.config import BuildConfig
from deploy.engine import build
from deploy.run_pair import run_pair
from deploy.runners.protocol import Runner
from deploy.runners.registry import open_runner
from stereo.fit_size import Fit
from stereo.pair import StereoPair

GRAPH = (64, 96)
# Padded below and at the right; scaled by 1/2; scaled by another factor and padded; as it is.
SIZES = ((50, 70), (128, 192), (200, 150), GRAPH)
TENSORRT = ("tensorrt 10.3", "tensorrt 10.7", "tensorrt 10.16", "tensorrt 11.4")


@pytest.fixture
def open_one(tmp_path: Path, make_gpu: Callable[..., Any]) -> Callable[[str, Path], Runner]:
    """open_one(runtime, graph) → the graph in it; TensorRT's stand-ins with a board of that version."""

    def open_it(runtime: str, graph: Path) -> Runner:
        name, _, version = runtime.partition(" ")
        if name != "tensorrt":
            pytest.importorskip(name)
            return open_runner(graph, name, size=GRAPH)
        make_gpu(version, "12.6" if version == "10.3" else "13.2", integrated=version != "10.7")
        engine = tmp_path / f"{version}.engine"
        build(BuildConfig(str(graph), runtime="tensorrt", out=str(engine)))
        return open_runner(engine)

    return open_it


def compare(reference: Runner, runner: Runner, make_pair: Callable[..., StereoPair]) -> None:
    """Images of all sizes through both."""
    for height, width in SIZES:
        pair = make_pair(6, height, width)
        expected, found = run_pair(reference, pair), run_pair(runner, pair)
        assert found.disparity.shape == (height, width)
        assert found.fit == expected.fit == Fit.plan(height, width, GRAPH)
        # Two float32 implementations of one network; a wrong pad, crop or scale moves whole pixels.
        scale = 1 / Fit.plan(height, width, GRAPH).factor
        np.testing.assert_allclose(found.disparity, expected.disparity, atol=2e-3 * scale)
    runner.close()


@pytest.mark.parametrize("runtime", ["openvino", *TENSORRT])
def test_every_runtime_gives_the_same_disparity_for_images_of_any_size(
    open_one: Callable[..., Runner], make_pair: Callable[..., StereoPair], network: Path, runtime: str
) -> None:
    compare(open_one("onnxruntime", network), open_one(runtime, network), make_pair)


@pytest.mark.slow
def test_a_student_gives_the_same_disparity_in_torch_and_wherever_its_graph_runs(
    tmp_path: Path, student_file: Path, open_one: Callable[..., Runner], make_pair: Callable[..., StereoPair]
) -> None:
    pytest.importorskip("onnxscript")
    from student.config import ExportConfig
    from student.export import export

    graph = export(ExportConfig(str(student_file), size=f"{GRAPH[0]}x{GRAPH[1]}", out=tmp_path / "tiny.onnx"))
    torch_runner = open_one("torch", student_file)
    for runtime in ("onnxruntime", "openvino", "tensorrt 10.3", "tensorrt 11.4"):
        compare(torch_runner, open_one(runtime, graph), make_pair)


def test_a_larger_image_has_its_disparity_scaled_back(make_pair: Callable[..., StereoPair], network: Path) -> None:
    """What is equal above is also right: twice the size, twice the disparity."""
    pytest.importorskip("onnxruntime")
    pair = make_pair(12, 2 * GRAPH[0], 2 * GRAPH[1])
    disparity = run_pair(open_runner(network, "onnxruntime"), pair).disparity
    assert pair.noc is not None
    # Half of 12 px is a whole number of planes of the toy network, so its softmax is one-hot.
    assert np.abs(disparity - 12)[pair.noc].mean() < 0.3
