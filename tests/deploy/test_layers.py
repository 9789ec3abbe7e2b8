"""deploy.layers: every node of a real network has its time, under names that lead back to the modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from deploy.io_form import write_in_form
from deploy.layers import MOST, mean_of_events, measure_layers, part_of, summarise_layers
from deploy.runners.registry import open_runner
from stereo.errors import UserError


@pytest.fixture
def inputs() -> tuple[np.ndarray, np.ndarray]:
    left, right = np.random.default_rng(0).uniform(0, 255, (2, 1, 3, 64, 96)).astype(np.float32)
    return left, right


def test_onnxruntime_tells_the_nodes_of_the_graph(network: Path, inputs: Any) -> None:
    pytest.importorskip("onnxruntime")
    layers = measure_layers(open_runner(network, "onnxruntime"), network, inputs, runs=3)
    assert layers is not None
    assert layers.runs == 3
    assert layers.count == len(layers.layers) or layers.count > MOST
    kinds = {item.kind for item in layers.layers}
    assert {"AveragePool", "Softmax"} <= kinds
    assert layers.total_ms >= sum(item.mean_ms for item in layers.layers) > 0
    assert [item.mean_ms for item in layers.layers] == sorted((item.mean_ms for item in layers.layers), reverse=True)
    assert not list(Path.cwd().glob("layers*.json"))


def test_openvino_tells_its_layers(network: Path, inputs: Any) -> None:
    pytest.importorskip("openvino")
    layers = measure_layers(open_runner(network, "openvino"), network, inputs, runs=3)
    assert layers is not None
    assert layers.total_ms > 0
    assert any("avx" in item.kind or "ref" in item.kind or "jit" in item.kind for item in layers.layers)


@pytest.mark.parametrize("size", [(64, 96), None])
@pytest.mark.parametrize("pixels", ["float32", "uint8"])
@pytest.mark.parametrize("convention", ["stereodistill", "nvlabs", "isaac_ros"])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_graphs_in_every_form(
    tmp_path: Path, make_network: Any, inputs: Any, runtime: str, convention: Any, pixels: Any, size: Any
) -> None:
    pytest.importorskip(runtime)
    path = make_network(tmp_path / "toy.onnx", size=size)
    write_in_form(path, convention=convention, pixels=pixels)
    whole = tuple(np.round(view) for view in inputs)
    layers = measure_layers(open_runner(path, runtime, size=(64, 96)), path, whole, runs=1)  # pyright: ignore[reportArgumentType]
    assert layers is not None
    assert layers.count > 10


def test_blocked_convolutions_get_their_nodes_name_back(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    weight = onnx.numpy_helper.from_array(np.ones((16, 3, 3, 3), np.float32), "w")
    last = onnx.numpy_helper.from_array(np.ones((1, 16, 3, 3), np.float32), "v")
    make = onnx.helper.make_node
    nodes = [
        make("Sub", ["left", "right"], ["difference"], name="inputs/Sub"),
        make("Conv", ["difference", "w"], ["conv"], name="backbone.0/Conv", pads=[1, 1, 1, 1]),
        make("Relu", ["conv"], ["relu"], name="backbone.0/Relu"),
        make("Conv", ["relu", "v"], ["disparity"], name="head/Conv", pads=[1, 1, 1, 1]),
    ]
    ends = [onnx.helper.make_tensor_value_info(name, 1, [1, 3, 64, 96]) for name in ("left", "right")]
    out = onnx.helper.make_tensor_value_info("disparity", 1, [1, 1, 64, 96])
    graph = onnx.helper.make_graph(nodes, "g", ends, [out], [weight, last])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, tmp_path / "blocked.onnx")
    pair = np.ones((1, 3, 64, 96), np.float32)
    path = tmp_path / "blocked.onnx"
    layers = measure_layers(open_runner(path, "onnxruntime"), path, (pair, pair), runs=2)
    assert layers is not None
    assert {"backbone", "head", "inputs"} <= {item.name for item in layers.parts}
    assert not [item.name for item in layers.layers if item.name.endswith("_nchwc") and "ReorderInput" not in item.name]


def event(name: str, start: int, duration: int, operation: str = "Conv") -> dict[str, Any]:
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": start, "dur": duration, "args": {"op_name": operation}}


def test_warm_up_runs_do_not_count() -> None:
    runs = [{"cat": "Session", "name": "model_run", "ts": start, "dur": 90} for start in (0, 100, 200)]
    events = [
        *runs, event("a", 5, 9000), event("a", 105, 2000), event("b", 110, 500, "Relu"), event("a", 205, 4000),
        {"cat": "Node", "name": "a_fence_before", "ts": 204, "dur": 7000, "args": {"op_name": "Conv"}},
    ]  # fmt: skip
    assert mean_of_events(events, 2) == {("a", "Conv"): 3.0, ("b", "Relu"): 0.25}
    with pytest.raises(UserError, match="holds no times of nodes"):
        mean_of_events(runs, 2)


def test_only_the_slowest_are_kept_but_all_are_counted() -> None:
    times = {(f"part{index % 2}.layer{index}/Conv", "Conv"): 1.0 + index for index in range(60)} | {
        ("idle", "Relu"): 0.0
    }
    layers = summarise_layers(times, runs=4)
    assert (layers.count, len(layers.layers), layers.runs) == (60, 50, 4)
    assert layers.total_ms == pytest.approx(sum(range(1, 61)))
    assert layers.layers[0].name == "part1.layer59/Conv"
    assert [(item.name, item.mean_ms) for item in layers.parts] == [("part1", 930.0), ("part0", 900.0)]


def test_names_of_parts() -> None:
    told = {
        "a.b.c/Conv": "a", "a/Conv_1": "a", "a.0/Conv + b.0/Relu": "a", "PWN(PWN(a.0/Sigmoid), b/Mul)": "a",
        "Reformatting CopyNode for Input Tensor 0 to mask.2/then/Exp": "mask", "Reorder_7": "other", "/Conv": "other",
        "__myl_AddResSqr_0_myl0_1": "other",
    }  # fmt: skip
    assert {name: part_of(name) for name in told} == told


class TellingRunner:
    """A runner whose runtime profiles one run by itself, as TensorRT does."""

    runtime, runtime_version, precision_hint, threads, input_size = "tensorrt", "0", "f32", 1, (64, 96)
    metadata: dict[str, str] = {}  # noqa: RUF012

    def run(self, left: Any, right: Any) -> Any:
        return left[:, :1]

    def close(self) -> None: ...

    def layer_times_ms(self) -> dict[str, float]:
        return {"backbone.0/Conv + backbone.0/Relu": 3.0, "head/Conv": 1.0}


class SilentRunner(TellingRunner):
    layer_times_ms = None  # type: ignore[assignment]
    runtime = "torch"


def test_runners_may_tell_themselves_or_not_at_all(network: Path, inputs: Any) -> None:
    layers = measure_layers(TellingRunner(), network, inputs)
    assert layers is not None
    assert layers.runs is None
    assert [(item.name, item.mean_ms) for item in layers.parts] == [("backbone", 3.0), ("head", 1.0)]
    assert measure_layers(SilentRunner(), network, inputs) is None
