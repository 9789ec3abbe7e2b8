"""OpenVINO rounds the inputs of convolutions behind a concatenation far too coarsely; the runner keeps it from that."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from deploy.runners.openvino_runner import keep_concatenations

ov = pytest.importorskip("openvino", reason="OpenVINO is not installed")


def rounded_concatenation(dimensions: int, half: bool) -> onnx.ModelProto:
    """Two inputs of 16 channels → concatenation → Q/DQ → 1×1 convolution with per-channel Q/DQ weights.

    Args:
        half: the concatenation's type is FP16, as in the graphs of `quantize`; the rounding's is FP32.
    """
    generator = np.random.default_rng(0)
    weight = generator.normal(size=(16, 32, *[1] * dimensions)).astype(np.float32)
    constants = {
        "w": weight, "w_scale": np.abs(weight).reshape(16, -1).max(1).astype(np.float32) / 127,
        "w_zero": np.zeros(16, np.int8), "scale": np.float32(0.01), "zero": np.int8(0),
    }  # fmt: skip
    kind = onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT
    nodes = [
        *[helper.make_node("Cast", [name], [f"{name}_c"], to=kind) for name in ("a", "b")],
        helper.make_node("Concat", ["a_c", "b_c"], ["x_c"], axis=1),
        helper.make_node("Cast", ["x_c"], ["x"], to=onnx.TensorProto.FLOAT),
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["x_q"]),
        helper.make_node("DequantizeLinear", ["x_q", "scale", "zero"], ["x_d"]),
        helper.make_node("QuantizeLinear", ["w", "w_scale", "w_zero"], ["w_q"], axis=0),
        helper.make_node("DequantizeLinear", ["w_q", "w_scale", "w_zero"], ["w_d"], axis=0),
        helper.make_node("Conv", ["x_d", "w_d"], ["y"]),
    ]
    sides = [4, 6, 8][:dimensions]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 16, *sides]) for name in ("a", "b")],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 16, *sides])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def in_openvino(model: onnx.ModelProto, feed: dict[str, np.ndarray], *, kept: bool) -> tuple[np.ndarray, list[Any]]:
    """The result, and the precision that each convolution runs in."""
    core = ov.Core()
    network = core.read_model(model.SerializeToString())
    if kept:
        keep_concatenations(ov, network)
    compiled = core.compile_model(network, "CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"})
    facts = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    kinds = [fact["runtimePrecision"].astype(str) for fact in facts if fact["layerType"].astype(str) == "Convolution"]
    return next(iter(compiled(feed).values())), kinds


def inputs(dimensions: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    shape = [1, 16, *[4, 6, 8][:dimensions]]
    return {name: generator.uniform(-1, 1, shape).astype(np.float32) for name in ("a", "b")}


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_convolution_behind_a_rounded_concatenation_keeps_its_integers_and_its_result(
    dimensions: int, half: bool
) -> None:
    model, feed = rounded_concatenation(dimensions, half), inputs(dimensions)
    (wanted,) = ReferenceEvaluator(model).run(None, feed)
    found, kinds = in_openvino(model, feed, kept=True)
    assert kinds in (["u8"], ["i8"])
    # A value between two steps may fall to either side.
    assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()


def test_openvino_still_needs_it() -> None:
    """Without the workaround inputs are rounded to steps of 1, not of .01; where they no longer are, it is told."""
    model = rounded_concatenation(2, False)
    feed = {name: 0.5 * view for name, view in inputs(2).items()}
    (wanted,) = ReferenceEvaluator(model).run(None, feed)
    lost, _ = in_openvino(model, feed, kept=False)
    if np.abs(lost - wanted).max() < 0.05 * np.abs(wanted).max():
        pytest.skip(f"OpenVINO {ov.__version__} rounds well on this processor: keep_concatenations is not needed")
    assert np.abs(lost).max() == 0
