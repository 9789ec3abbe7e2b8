"""deploy.runners.tensorrt_runner through every supported TensorRT's names, both cuda-pythons and both kinds of memory.

The stand-ins run an engine's graph in onnxruntime on what stands in the addressed buffers when the stream is waited
for, so the disparity is real and every copy, address and wait must be right.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from deploy.config import BuildConfig, Convention, Pixels
from deploy.engine import build
from deploy.io_form import put_into_form
from deploy.layers import measure_layers
from deploy.models import model_facts
from deploy.opening import opened, place_of, requests
from deploy.runners.registry import open_runner
from deploy.runners.tensorrt_runner import TensorRtRunner
from stereo.cli import main
from stereo.errors import UserError
from stereo.pair import StereoPair
from stereo.pictures import write_png

pytest.importorskip("onnxruntime")
VERSIONS = ("10.3", "10.7", "10.16", "11.4")


def inputs_of(pair: StereoPair) -> tuple[np.ndarray, np.ndarray]:
    left, right = (image.transpose(2, 0, 1)[None].astype(np.float32) for image in (pair.left, pair.right))
    return left, right


@pytest.fixture
def built(tmp_path: Path, network: Path) -> Callable[..., Path]:
    """built(onnx=network, name="toy") → an engine of the graph, built on the board that stands there."""

    def make(source: Path = network, name: str = "toy") -> Path:
        out = tmp_path / f"{name}.engine"
        build(BuildConfig(str(source), runtime="tensorrt", out=str(out)))
        return out

    return make


@pytest.mark.parametrize("integrated", [True, False])
@pytest.mark.parametrize("version", VERSIONS)
def test_the_same_disparity_as_the_graph(
    network: Path, make_gpu: Callable[..., Any], make_pair: Callable[..., StereoPair], built: Callable[..., Path],
    version: str, integrated: bool,
) -> None:  # fmt: skip
    newer = "13.2" if integrated else "13.5"  # JetPack's, and what a server gets
    board = make_gpu(version, "12.6" if version == "10.3" else newer, integrated=integrated)
    runner = open_runner(built(), threads=2)
    reference = open_runner(network, "onnxruntime")
    results = [(runner.run(*inputs_of(pair)), reference.run(*inputs_of(pair))) for pair in map(make_pair, (3, 9, 5))]
    for found, expected in results:  # compared at the end: later runs leave earlier answers alone
        np.testing.assert_array_equal(found, expected)
    assert board.machine.calls.count("cudaMemcpyAsync") == (0 if integrated else 2 + 1 + 1 + 1 + 3 * 3)
    assert board.machine.calls.count("cudaGraphLaunch") == 4
    runner.close()
    runner.close()
    assert board.machine.leaks() == {}


def test_the_same_runner_on_tensorrt_rtx(
    tmp_path: Path, network: Path, make_gpu: Callable[..., Any], make_pair: Callable[..., StereoPair]
) -> None:
    """Built ahead of time for a compute capability, it runs on any GPU that has it."""
    board = make_gpu("rtx", "13.5", integrated=False)
    engine = tmp_path / "toy.engine"
    build(BuildConfig(str(network), runtime="tensorrt_rtx", out=str(engine)))
    runner = open_runner(engine)
    assert (runner.runtime, runner.runtime_version) == ("tensorrt_rtx", "1.7.0.26")
    pair = make_pair(4)
    expected = open_runner(network, "onnxruntime").run(*inputs_of(pair))
    np.testing.assert_array_equal(runner.run(*inputs_of(pair)), expected)
    runner.close()
    assert board.machine.leaks() == {}
    make_gpu("rtx", "13.5", integrated=False, capability=(8, 9), name="NVIDIA L4")
    with pytest.raises(UserError, match=r"was built for compute capability 8\.6, and this GPU has 8\.9"):
        open_runner(engine)


def test_runner_tells_what_it_is(make_gpu: Callable[..., Any], built: Callable[..., Path]) -> None:
    make_gpu("10.3")
    runner = open_runner(built())
    assert (runner.runtime, runner.precision_hint, runner.input_size) == ("tensorrt", "f32", (64, 96))
    assert runner.runtime_version.startswith("10.3.")
    facts = runner.metadata
    assert (facts["stereodistill.preset"], facts["stereodistill.precision"]) == ("toy", "fp32")
    assert facts["runtime.cuda_graph"] == "yes, 1 nodes"
    assert facts["runtime.memory"] == "shared with the GPU, not copied"
    assert facts["runtime.gpu"] == "Orin, compute capability 8.7"
    assert "runtime.device" not in facts, "the board's name says it better"
    runner.close()


def test_on_a_server_the_gpu_is_the_device(make_gpu: Callable[..., Any], built: Callable[..., Path]) -> None:
    make_gpu("10.16", "13.5", integrated=False)
    path = built()
    (job,) = requests([str(path)], runtime="auto", precision_hints="f32", threads=1, size="")
    with opened(job, fixed_size=True) as item:
        place = place_of(item.runner, (64, 96))
        assert place.device == "NVIDIA RTX A6000"
        assert "runtime.device" not in place.notes
        assert item.model.precision == "fp32"
        assert item.model.source_sha256 == "ab" * 32
    assert model_facts(path, {}, variant="x").source_sha256 is None, "an engine is made of a student, it is none"


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        ({"work_fails_in_capture": True}, "could not enqueue"),
        ({"failing": {"cudaStreamEndCapture": "cudaErrorStreamCaptureInvalidated"}}, "CaptureInvalidated"),
        ({"failing": {"cudaGraphInstantiate": "cudaErrorNotSupported"}}, "cudaErrorNotSupported"),
        ({"replay_differs": True}, "another answer"),
    ],
)
@pytest.mark.parametrize("integrated", [True, False])
def test_a_graph_that_does_not_work_is_told_and_not_used(
    make_gpu: Callable[..., Any], make_pair: Callable[..., StereoPair], built: Callable[..., Path], network: Path,
    caplog: pytest.LogCaptureFixture, trouble: dict[str, Any], told: str, integrated: bool,
) -> None:  # fmt: skip
    board = make_gpu("11.4", "13.2" if integrated else "13.5", integrated=integrated, **trouble)
    runner = open_runner(built())
    assert told in runner.metadata["runtime.cuda_graph"]
    assert "every layer is launched by itself" in caplog.text
    pair = make_pair(4)
    expected = open_runner(network, "onnxruntime").run(*inputs_of(pair))
    np.testing.assert_array_equal(runner.run(*inputs_of(pair)), expected)
    runner.close()
    assert {name: n for name, n in board.machine.leaks().items() if name != "graphs"} == {}


def test_measuring_without_copies(make_gpu: Callable[..., Any], built: Callable[..., Path]) -> None:
    board = make_gpu("10.16", "13.5", integrated=False)
    runner = open_runner(built())
    assert isinstance(runner, TensorRtRunner)
    before = board.machine.calls.count("cudaMemcpyAsync")
    runner.run_without_copies()
    assert board.machine.calls.count("cudaMemcpyAsync") == before
    assert board.machine.calls[-1] == "cudaStreamSynchronize"


def test_times_of_layers(make_gpu: Callable[..., Any], built: Callable[..., Path], network: Path) -> None:
    """By the profiler of a second context, which leaves no trace; named as profile's table takes them."""
    board = make_gpu("10.3")
    path = built()
    runner = open_runner(path)
    launched = board.machine.calls.count("cudaGraphLaunch")
    times_ms = measure_layers(runner, path, (np.zeros(1, np.float32), np.zeros(1, np.float32)))
    assert times_ms is not None
    assert times_ms.count == len(onnx.load(network).graph.node)
    assert times_ms.total_ms == pytest.approx(0.5 * times_ms.count)
    assert board.machine.calls.count("cudaGraphLaunch") == launched
    runner.close()
    assert board.machine.leaks() == {}


@pytest.mark.parametrize("function", ["cudaMalloc", "cudaHostAlloc", "cudaStreamCreateWithFlags"])
def test_what_fails_halfway_leaves_nothing_allocated(
    make_gpu: Callable[..., Any], built: Callable[..., Path], function: str
) -> None:
    board = make_gpu("10.16", "13.5", integrated=False)
    path = built()
    board.machine.failing = {function: "cudaErrorMemoryAllocation"}
    with pytest.raises(UserError, match=f"out of GPU memory in {function}"):
        open_runner(path)
    assert board.machine.leaks() == {}


def test_no_memory_for_a_context(make_gpu: Callable[..., Any], built: Callable[..., Path]) -> None:
    board = make_gpu("10.3")
    path = built()
    board.workshop.no_context = True
    with pytest.raises(UserError, match=r"no execution context: the GPU's memory may be used up"):
        open_runner(path)
    assert board.machine.leaks() == {}


def test_an_engine_from_elsewhere(make_gpu: Callable[..., Any], built: Callable[..., Path]) -> None:
    make_gpu("10.3")
    path = built()
    make_gpu("10.16", "13.2")
    with pytest.raises(UserError, match=r"was built by tensorrt 10\.3\.0\.26, and here is 10\.16\.0\.26"):
        open_runner(path)
    make_gpu("10.3", module="p3767-0003")
    with pytest.raises(UserError, match="another board: Jetson Orin NX 16GB; this is Jetson Orin Nano 8GB"):
        open_runner(path)
    make_gpu("10.3", capability=(7, 2))
    with pytest.raises(UserError, match=r"compute capability 8\.7, and this GPU has 7\.2"):
        open_runner(path)
    make_gpu("10.3")
    with pytest.raises(UserError, match="was built for 64x96 and cannot run at 480x640"):
        open_runner(path, size=(480, 640))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="damaged"):
        open_runner(path)


def test_tensorrt_s_own_refusal_is_told(make_gpu: Callable[..., Any], built: Callable[..., Path]) -> None:
    """A manifest that was edited to fit does not help."""
    make_gpu("10.3")
    path = built()
    manifest = path.with_suffix(".manifest.json")
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "runtime_version": "10.16.0.26"}))
    make_gpu("10.16", "13.2")
    with pytest.raises(UserError, match="TensorRT cannot load it: Serialization assertion"):
        open_runner(path)


def test_the_manifest_chooses_the_tensorrt(make_gpu: Callable[..., Any], built: Callable[..., Path]) -> None:
    make_gpu("10.3")
    path = built()
    with pytest.raises(UserError, match=r"opened by tensorrt, not by tensorrt_rtx"):
        open_runner(path, "tensorrt_rtx")
    manifest = path.with_suffix(".manifest.json")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "runtime": "tensorrt_rtx"}))
    with pytest.raises(UserError, match=r"opened by tensorrt_rtx, not by tensorrt"):
        open_runner(path, "tensorrt")


def test_a_batch_left_open_runs_with_one_pair(
    tmp_path: Path, make_gpu: Callable[..., Any], make_pair: Callable[..., StereoPair], built: Callable[..., Path],
    network: Path,
) -> None:  # fmt: skip
    model = onnx.load(network)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, tmp_path / "batch.onnx")
    board = make_gpu("10.16", "13.2")
    runner = open_runner(built(tmp_path / "batch.onnx", "batch"))
    (config,) = board.workshop.configs
    assert config._profiles == [dict.fromkeys(("left", "right"), ((1, 3, 64, 96),) * 3)]
    pair = make_pair(6)
    expected = open_runner(network, "onnxruntime").run(*inputs_of(pair))
    np.testing.assert_array_equal(runner.run(*inputs_of(pair)), expected)


@pytest.mark.parametrize("integrated", [True, False])
@pytest.mark.parametrize(("convention", "pixels"), [("nvlabs", "float32"), ("isaac_ros", "uint8")])
def test_graphs_in_the_names_and_pixels_of_other_programs(
    tmp_path: Path, make_gpu: Callable[..., Any], make_pair: Callable[..., StereoPair], built: Callable[..., Path],
    network: Path, convention: Convention, pixels: Pixels, integrated: bool,
) -> None:  # fmt: skip
    """Another output beside the disparity too, which nobody reads here."""
    model = onnx.load(network)
    extra = onnx.ValueInfoProto.FromString(model.graph.output[0].SerializeToString())
    extra.name = "confidence"
    model.graph.output.append(extra)
    model.graph.node.append(helper.make_node("Neg", ["disparity"], ["confidence"]))
    put_into_form(model, convention=convention, pixels=pixels)
    onnx.save(model, tmp_path / "form.onnx")
    board = make_gpu("11.4", "13.2" if integrated else "13.5", integrated=integrated)
    runner = open_runner(built(tmp_path / "form.onnx", "form"))
    pair = make_pair(6)
    expected = open_runner(network, "onnxruntime").run(*inputs_of(pair))
    np.testing.assert_array_equal(runner.run(*inputs_of(pair)), expected)
    runner.close()
    assert board.machine.leaks() == {}


def test_an_engine_of_something_else_is_refused(
    tmp_path: Path, make_gpu: Callable[..., Any], built: Callable[..., Path]
) -> None:
    make_gpu("10.3")
    path = built()
    other = helper.make_model(helper.make_graph(
        [helper.make_node("Identity", ["image"], ["label"])], "classifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 64, 96])],
        [helper.make_tensor_value_info("label", TensorProto.FLOAT, [1, 3, 64, 96])],
    ), opset_imports=[helper.make_opsetid("", 17)], ir_version=9)  # fmt: skip
    header = path.read_bytes().partition(b"\n")[0]
    path.write_bytes(header + b"\n" + other.SerializeToString())
    manifest = path.with_suffix(".manifest.json")
    from stereo.artifacts import sha256_file

    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "sha256": sha256_file(path)}))
    with pytest.raises(UserError, match="not a stereo network of this project: its tensors are image, label"):
        open_runner(path)


def test_images_of_another_shape_are_our_mistake(make_gpu: Callable[..., Any], built: Callable[..., Path]) -> None:
    make_gpu("10.3")
    runner = open_runner(built())
    small = np.zeros((1, 3, 32, 96), np.float32)
    with pytest.raises(ValueError, match="expected"):
        runner.run(small, small)


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ((128, 192), "images of 128x192 were scaled by 0.500 to fit the network's 64x96"),
        ((30, 50), "images of 30x50 were padded to the network's 64x96"),
        ((64, 96), None),
    ],
)
def test_predict_with_an_engine(
    tmp_path: Path, make_gpu: Callable[..., Any], make_pair: Callable[..., StereoPair], built: Callable[..., Path],
    network: Path, caplog: pytest.LogCaptureFixture, size: tuple[int, int], told: str | None,
) -> None:  # fmt: skip
    """The command line, with images of other sizes than the engine's: told once, and the disparity is the graph's."""
    make_gpu("10.3")
    pair = make_pair(4, *size)
    for name, image in (("left", pair.left), ("right", pair.right)):
        write_png(tmp_path / f"{name}.png", image)
    caplog.set_level("INFO", logger="deploy.predict")
    words = ["predict", str(tmp_path / "left.png"), str(tmp_path / "right.png"), "--out"]
    assert main([*words, str(tmp_path / "engine"), "--model", str(built())]) == 0
    messages = [record.getMessage() for record in caplog.records if "images of" in record.getMessage()]
    assert len(messages) == (0 if told is None else 1)
    assert told is None or told in messages[0]
    assert main([*words, str(tmp_path / "graph"), "--model", str(network)]) == 0
    disparities = [(tmp_path / name / "disparity.pfm").read_bytes() for name in ("engine", "graph")]
    assert disparities[0] == disparities[1]
