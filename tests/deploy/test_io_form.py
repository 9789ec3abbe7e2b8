"""Graphs in other programs' names and pixels compute the same, and every runner reads them."""

import shutil

import numpy as np
import onnx
import pytest

from deploy.io_form import write_in_form
from deploy.onnx_stereo import CONVENTIONS, read_stereo_graph
from deploy.run_pair import run_pair
from deploy.runners.registry import open_runner

FORMS = [(convention, pixels) for convention in CONVENTIONS for pixels in ("float32", "uint8")]


def disparity(path, runtime, pair):
    runner = open_runner(path, runtime)
    try:
        return run_pair(runner, pair).disparity
    finally:
        runner.close()


@pytest.mark.parametrize(("convention", "pixels"), FORMS)
def test_every_form_gives_the_same_disparity(tmp_path, network, make_pair, convention, pixels):
    path = shutil.copy(network, tmp_path / "formed.onnx")
    write_in_form(path, convention=convention, pixels=pixels)
    model, graph = onnx.load(path), read_stereo_graph(path)
    names, output = CONVENTIONS[convention]
    assert [value.name for value in model.graph.input] == list(names)
    assert [value.name for value in model.graph.output] == [output]
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert shape == ([1, 64, 96, 3] if pixels == "uint8" else [1, 3, 64, 96])
    assert (graph.convention, graph.pixels, graph.size) == (
        "stereodistill" if convention == "stereodistill" else convention, pixels, (64, 96),
    )  # fmt: skip
    assert graph.metadata == read_stereo_graph(network).metadata
    pair = make_pair(5, 60, 90)  # smaller than the graph
    assert np.array_equal(disparity(path, "onnxruntime", pair), disparity(network, "onnxruntime", pair))


def test_openvino_reads_bytes_too(tmp_path, network, make_pair):
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    path = shutil.copy(network, tmp_path / "formed.onnx")
    write_in_form(path, convention="isaac_ros", pixels="uint8")
    pair = make_pair(5)
    found, wanted = disparity(path, "openvino", pair), disparity(network, "openvino", pair)
    assert np.abs(found - wanted).max() < 1e-3


def test_bytes_with_an_open_size(tmp_path, make_network, make_pair):
    path = make_network(tmp_path / "open.onnx", size=None)
    write_in_form(path, convention="nvlabs", pixels="uint8")
    assert read_stereo_graph(path).size is None
    pair = make_pair(5)
    runner = open_runner(path, "onnxruntime", size=(64, 96))
    assert np.abs(run_pair(runner, pair).disparity[:, 20:-8] - 5).mean() < 0.5
    runner.close()


def test_the_projects_own_form_leaves_the_file_alone(tmp_path, network):
    path = shutil.copy(network, tmp_path / "same.onnx")
    before = path.read_bytes(), path.stat().st_mtime_ns
    write_in_form(path, convention="stereodistill", pixels="float32")
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_tensorrt_rtx_builds_bytes(tmp_path, network):
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    from deploy.config import BuildConfig
    from deploy.engine import build

    path = shutil.copy(network, tmp_path / "formed.onnx")
    write_in_form(path, convention="nvlabs", pixels="uint8")
    assert build(BuildConfig(str(path), runtime="tensorrt_rtx", out=str(tmp_path / "e.engine"))).stat().st_size > 1000
