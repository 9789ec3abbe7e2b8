"""deploy.onnx_cost, onnx_fusion, onnx_tensors: work counted by hand on graphs small enough to do that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploy.onnx_cost import Kernel, cost_in, graph_cost, model_cost
from deploy.onnx_tensors import read_tensors
from stereo.errors import UserError

HEIGHT, WIDTH = 10, 12
PIXELS = HEIGHT * WIDTH


def graph_of(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    *,
    inputs: dict[str, tuple[int, ...]],
    outputs: Sequence[str] = ("y",),
    dtype: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def weights(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return np.ones(shape, dtype)


def node(kind: str, inputs: Sequence[str], output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, list(inputs), [output], name=f"{output}/{kind}", **attributes)


def convolution(inputs: Sequence[str], output: str, **attributes: object) -> onnx.NodeProto:
    return node("Conv", inputs, output, pads=[1, 1, 1, 1], **attributes)


def only(kernels: Sequence[Kernel]) -> Kernel:
    assert len(kernels) == 1
    return kernels[0]


def test_convolution_with_bias_activation_and_residual_is_one_kernel() -> None:
    model = graph_of(
        [convolution(["x", "w", "b"], "c"), node("Relu", ["c"], "r"), node("Add", ["r", "other"], "y")],
        {"w": weights(8, 3, 3, 3), "b": weights(8)},
        inputs={"x": (1, 3, HEIGHT, WIDTH), "other": (1, 8, HEIGHT, WIDTH)},
    )
    kernel = only(model_cost(model))
    assert (kernel.name, kernel.kind, kernel.precision) == ("c/Conv", "Conv + 2", "fp32")
    assert kernel.multiply_adds == kernel.filled_multiply_adds == 8 * PIXELS * 3 * 9
    # image, weights, bias, the residual, and what is written; the two results in between stay on the chip.
    assert kernel.bytes_moved == 4 * (3 * PIXELS + 8 * 3 * 9 + 8 + 8 * PIXELS + 8 * PIXELS)


def test_a_result_that_two_kernels_read_is_written() -> None:
    model = graph_of(
        [
            convolution(["x", "w"], "c"),
            node("Relu", ["c"], "r"),
            convolution(["r", "v"], "d"),
            convolution(["c", "v"], "e"),
            node("Add", ["d", "e"], "y"),
        ],
        {"w": weights(8, 3, 3, 3), "v": weights(8, 8, 3, 3)},
        inputs={"x": (1, 3, HEIGHT, WIDTH)},
    )
    # The ReLU cannot join, for its input is read twice; the sum joins one of the two convolutions.
    assert [kernel.kind for kernel in model_cost(model)] == ["Conv", "Relu", "Conv", "Conv + 1"]


@pytest.mark.parametrize("readers_meet", [True, False])
def test_an_activation_spelled_out_joins_where_its_branches_meet_again(readers_meet: bool) -> None:
    last = node("Mul", ["c", "s"], "y")
    sideways = [convolution(["s", "v"], "d"), node("Mul", ["c", "d"], "y")]
    model = graph_of(
        [convolution(["x", "w"], "c"), node("Sigmoid", ["c"], "s"), *([last] if readers_meet else sideways)],
        {"w": weights(8, 3, 3, 3), "v": weights(8, 8, 3, 3)},
        inputs={"x": (1, 3, HEIGHT, WIDTH)},
    )
    kinds = [kernel.kind for kernel in model_cost(model)]
    assert kinds == (["Conv + 2"] if readers_meet else ["Conv", "Sigmoid", "Conv + 1"])


def test_a_small_result_spread_over_a_larger_one_is_written() -> None:
    model = graph_of(
        [convolution(["x", "w"], "c"), node("Add", ["c", "other"], "y")],
        {"w": weights(1, 3, 3, 3)},
        inputs={"x": (1, 3, HEIGHT, WIDTH), "other": (1, 8, HEIGHT, WIDTH)},
    )
    convolved, added = model_cost(model)
    assert convolved.bytes_moved == 4 * (3 * PIXELS + 3 * 9 + PIXELS)
    assert added.bytes_moved == 4 * (PIXELS + 8 * PIXELS + 8 * PIXELS)


def test_a_normalisation_reads_its_values_twice() -> None:
    model = graph_of([node("InstanceNormalization", ["x", "w", "b"], "y")], {"w": weights(3), "b": weights(3)},
                     inputs={"x": (1, 3, HEIGHT, WIDTH)})  # fmt: skip
    assert only(model_cost(model)).bytes_moved == 4 * (2 * 3 * PIXELS + 3 + 3 + 3 * PIXELS)


def test_views_and_constants_cost_nothing() -> None:
    model = graph_of(
        [
            node("Add", ["p", "p"], "twice"),
            node("Reshape", ["x", "shape"], "flat"),
            node("MatMul", ["flat", "twice"], "m"),
            node("Unsqueeze", ["m", "axes"], "y"),
        ],
        {"p": weights(PIXELS, 7), "shape": np.array([3, PIXELS]), "axes": np.array([0])},
        inputs={"x": (1, 3, HEIGHT, WIDTH)},
    )
    kernel = only(model_cost(model))
    assert kernel.multiply_adds == 3 * PIXELS * 7
    assert kernel.bytes_moved == 4 * (3 * PIXELS + PIXELS * 7 + 3 * 7)


def quantised(*, output_quantised: bool) -> onnx.ModelProto:
    """A 64-channel convolution between quantise and dequantise nodes, as explicit quantisation writes it."""
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], "xq"),
        node("DequantizeLinear", ["xq", "s", "z"], "xf"),
        node("DequantizeLinear", ["w", "s", "z"], "wf"),
        convolution(["xf", "wf"], "c"),
        node("Relu", ["c"], "r"),
        *([node("QuantizeLinear", ["r", "s", "z"], "y")] if output_quantised else [node("Identity", ["r"], "y")]),
    ]
    constants = {"w": weights(64, 64, 3, 3, dtype=np.int8), "s": np.float32(0.1), "z": np.int8(0)}
    return graph_of(nodes, {name: np.asarray(value) for name, value in constants.items()},
                    inputs={"x": (1, 64, HEIGHT, WIDTH)})  # fmt: skip


def test_quantised_convolution_reads_and_writes_bytes() -> None:
    quantise, kernel = model_cost(quantised(output_quantised=True))
    scales = 4 + 1
    assert (quantise.kind, kernel.kind) == ("QuantizeLinear", "Conv + 2")
    assert quantise.bytes_moved == (4 + 1) * 64 * PIXELS + scales
    assert (kernel.precision, kernel.tensor_cores) == ("int8", True)
    assert kernel.bytes_moved == 64 * PIXELS + 64 * 64 * 9 + 64 * PIXELS + scales
    floats = model_cost(quantised(output_quantised=False))[1]
    assert floats.bytes_moved - kernel.bytes_moved == 3 * 64 * PIXELS - scales


def test_integers_need_two_quantised_factors_and_no_transposed_convolution() -> None:
    for kind, second, precision in [("Conv", "wf", "int8"), ("Conv", "v", "fp32"), ("ConvTranspose", "wf", "fp32")]:
        nodes = [
            node("DequantizeLinear", ["x", "s", "z"], "xf"),
            node("DequantizeLinear", ["w", "s", "z"], "wf"),
            node(kind, ["xf", second], "y"),
        ]
        constants = {"w": weights(64, 64, 3, 3, dtype=np.int8), "v": weights(64, 64, 3, 3),
                     "s": np.asarray(np.float32(0.1)), "z": np.asarray(np.int8(0))}  # fmt: skip
        model = graph_of(nodes, constants, inputs={"x": (1, 64, HEIGHT, WIDTH)}, dtype=TensorProto.INT8)
        assert only(model_cost(model)).precision == precision, (kind, second)


def test_arithmetic_is_what_the_graph_says() -> None:
    half = graph_of([convolution(["x", "w"], "y")], {"w": weights(16, 3, 3, 3, dtype=np.float16)},
                    inputs={"x": (1, 3, HEIGHT, WIDTH)}, dtype=TensorProto.FLOAT16)  # fmt: skip
    kernel = only(model_cost(half))
    assert (kernel.precision, kernel.tensor_cores) == ("fp16", True)
    # Tensor cores take 8 channels at a time: 3 are filled up.
    assert kernel.filled_multiply_adds * 3 == kernel.multiply_adds * 8
    assert kernel.bytes_moved == 2 * (3 * PIXELS + 16 * 3 * 9 + 16 * PIXELS)


def test_a_depthwise_convolution_has_no_use_for_tensor_cores() -> None:
    model = graph_of([convolution(["x", "w"], "y", group=32)], {"w": weights(32, 1, 3, 3, dtype=np.float16)},
                     inputs={"x": (1, 32, HEIGHT, WIDTH)}, dtype=TensorProto.FLOAT16)  # fmt: skip
    kernel = only(model_cost(model))
    assert not kernel.tensor_cores
    assert kernel.multiply_adds == kernel.filled_multiply_adds == 32 * PIXELS * 9


def test_transposed_convolution_and_products() -> None:
    transposed = graph_of([node("ConvTranspose", ["x", "w"], "y", strides=[2, 2])], {"w": weights(4, 6, 2, 2)},
                          inputs={"x": (1, 4, HEIGHT, WIDTH)})  # fmt: skip
    assert only(model_cost(transposed)).multiply_adds == 4 * PIXELS * 6 * 2 * 2
    product = graph_of([node("Gemm", ["x", "w"], "y", transB=1)], {"w": weights(7, 5)}, inputs={"x": (3, 5)})
    kernel = only(model_cost(product))
    assert kernel.multiply_adds == 3 * 5 * 7
    assert only(cost_in(product.graph, read_tensors(product, where="g"), "fp16")).filled_multiply_adds == 3 * 8 * 8


def test_a_slice_reads_only_what_it_hands_on() -> None:
    constants = {"from": np.array([2]), "to": np.array([4]), "axis": np.array([3])}
    model = graph_of([node("Slice", ["x", "from", "to", "axis"], "y")], constants, inputs={"x": (1, 3, HEIGHT, WIDTH)})
    assert only(model_cost(model)).bytes_moved == 2 * 4 * 3 * HEIGHT * 2 + 3 * 8


def test_open_sizes_are_refused(tmp_path: Path, make_network: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"size of its input 'left' is open.*export"):
        graph_cost(make_network(tmp_path / "open.onnx", size=None))


def test_shapes_that_depend_on_values_are_refused() -> None:
    model = graph_of([node("NonZero", ["x"], "n"), node("Cast", ["n"], "y", to=1)], {}, inputs={"x": (4, 4)})
    with pytest.raises(UserError, match="shape of 'n'"):
        model_cost(model)


def test_control_flow_is_refused() -> None:
    body = helper.make_graph([], "body", [], [])
    loop = helper.make_node("Loop", ["n", "go"], [], name="again", body=body)
    constants = {"n": np.array(3), "go": np.array(True)}
    with pytest.raises(UserError, match="'again' is a Loop"):
        model_cost(graph_of([loop], constants, inputs={"x": (1,)}, outputs=["x"]))


def test_every_kernel_of_the_toy_network_is_counted(network: Path) -> None:
    kernels = graph_cost(network)
    height, width = 64, 96
    # 16 planes of a 1×1 convolution over 3 channels.
    assert sum(kernel.multiply_adds for kernel in kernels) == 16 * 3 * height * width
    assert sum(kernel.kind.startswith("AveragePool") for kernel in kernels) == 16
    assert min(kernel.bytes_moved for kernel in kernels) > 4 * height * width


@pytest.mark.slow
def test_an_exported_student_costs_what_torch_counts(tmp_path: Path, student_file: Path) -> None:
    from student.checkpoint import load_student
    from student.export import export_student
    from student.summary import count_macs

    student = load_student(student_file)
    path = export_student(student, tmp_path / "tiny.onnx", size=(64, 96), source_sha256="")
    counted = count_macs(load_student(student_file), (64, 96))["total"]
    found = sum(kernel.multiply_adds for kernel in graph_cost(path)) / 1e9
    # torch's counter leaves out the two products of fused attention, a few per mille.
    assert counted <= found < 1.02 * counted
