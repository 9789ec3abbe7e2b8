"""What each kernel of an ONNX graph has to do: multiply-adds, bytes moved, and the arithmetic the graph prescribes."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx

from deploy.multiply_adds import node_multiply_adds
from deploy.onnx_fusion import Group, fuse, inputs_of
from deploy.onnx_tensors import Tensors, read_tensors, read_tensors_of

Precision = Literal["fp32", "tf32", "fp16", "int8"]

STORED: dict[Precision, int] = {
    "fp32": onnx.TensorProto.FLOAT, "tf32": onnx.TensorProto.FLOAT, "fp16": onnx.TensorProto.FLOAT16,
    "int8": onnx.TensorProto.INT8,
}  # fmt: skip
PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
# They read only what they hand on, not all of the tensor they take it from.
PICKING = frozenset({"Gather", "GatherElements", "GatherND", "Slice"})
# Mean and variance first, then the values once more.
READ_TWICE = frozenset({"GroupNormalization", "InstanceNormalization"})
# Tensor cores multiply blocks of channels: fewer are filled up with zeros, at the same cost.
CHANNEL_BLOCK: dict[Precision, int] = {"fp32": 1, "tf32": 4, "fp16": 8, "int8": 32}


@dataclass(frozen=True)
class Kernel:
    """One launch on the GPU.

    Args:
        name: of the node it is built around.
        kind: that node's operator, and how many nodes run with it.
        precision: of its arithmetic, as the graph says it.
        multiply_adds: that the result needs.
        filled_multiply_adds: that are done, channels filled up to the blocks of the tensor cores.
        tensor_cores: whether it can use them; depth-wise convolutions and FP32 cannot.
        bytes_moved: read and written, each tensor once.
    """

    name: str
    kind: str
    precision: Precision
    multiply_adds: int
    filled_multiply_adds: int
    tensor_cores: bool
    bytes_moved: int


def graph_cost(path: Path) -> list[Kernel]:
    """The kernels of a file, in the order they run.

    Raises:
        UserError: sizes are left open, or an operator whose cost cannot be told.
    """
    return _kernels(*read_tensors_of(path))


def model_cost(model: onnx.ModelProto, *, where: object = "the graph") -> list[Kernel]:
    """`graph_cost` of a graph in memory."""
    return _kernels(model.graph, read_tensors(model, where=where))


def cost_in(graph: onnx.GraphProto, tensors: Tensors, precision: Precision) -> list[Kernel]:
    """The kernels of a float graph if everything were stored and computed in one precision, as builders used to choose.

    Graphs of this project say their precision themselves: this is for engines whose latencies others published.
    TF32, which those compute FP32 graphs in unless told otherwise, stores 32 bits and multiplies on tensor cores.
    """
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    types = {name: STORED[precision] if kind in floats else kind for name, kind in tensors.types.items()}
    everything = set(types) if precision == "int8" else set()
    stored = dataclasses.replace(tensors, types=types)
    return [_kernel(group, stored, everything, single=precision) for group in fuse(graph, stored)]


def _kernels(graph: onnx.GraphProto, tensors: Tensors) -> list[Kernel]:
    dequantised = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    return [_kernel(group, tensors, dequantised) for group in fuse(graph, tensors)]


def _kernel(group: Group, tensors: Tensors, dequantised: set[str], *, single: Precision = "fp32") -> Kernel:
    node = group.anchor or group.nodes[0]
    precision = _precision(node, tensors, dequantised)
    if single == "tf32" and precision == "fp32":
        precision = single
    exact = filled = 0
    tensor_cores = False
    if node.op_type in PRODUCTS:
        exact = node_multiply_adds(node, tensors.shapes) or 0
        inputs, outputs, groups = _channels(node, tensors)
        tensor_cores = precision != "fp32" and (groups == 1 or inputs >= CHANNEL_BLOCK["fp16"])
        block = CHANNEL_BLOCK[precision] if tensor_cores else 1
        filled = round(exact * _filling(inputs, block) * _filling(outputs, block))
    kind = node.op_type if len(group.nodes) == 1 else f"{node.op_type} + {len(group.nodes) - 1}"
    return Kernel(
        node.name or node.output[0], kind, precision, exact, filled, tensor_cores, _bytes_moved(group, tensors)
    )


def _filling(channels: int, block: int) -> float:
    return math.ceil(channels / block) * block / channels


def _precision(node: onnx.NodeProto, tensors: Tensors, dequantised: set[str]) -> Precision:
    """Integers where both factors are dequantised ones, else what the result is stored in.

    Builders run a dequantised transposed convolution in floats.
    """
    if node.op_type in PRODUCTS and node.op_type != "ConvTranspose" and dequantised.issuperset(node.input[:2]):
        return "int8"
    return "fp16" if tensors.types.get(node.output[0]) == onnx.TensorProto.FLOAT16 else "fp32"


def _channels(node: onnx.NodeProto, tensors: Tensors) -> tuple[int, int, int]:
    """Summed channels and outputs of one group, and how many groups there are."""
    shape = tensors.shapes[node.input[1]]
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    if node.op_type == "Conv":
        return shape[1], shape[0] // groups, groups
    if node.op_type == "ConvTranspose":
        return shape[0] // groups, shape[1], groups
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    rows, columns = (*shape, 1)[:2] if len(shape) == 1 else shape[-2:]
    return (columns, rows, 1) if transposed else (rows, columns, 1)


def _bytes_moved(group: Group, tensors: Tensors) -> int:
    made = {name for node in group.nodes for name in node.output}
    written = sum(tensors.size_bytes(name) for name in group.tails)
    read: dict[str, int] = {}
    for node in group.nodes:
        for index, name in enumerate(inputs_of(node, tensors)):
            if name in made:
                continue
            size = tensors.size_bytes(name)
            if node.op_type in PICKING and index == 0:
                size = min(size, tensors.size_bytes(node.output[0]))
            read[name] = max(read.get(name, 0), size * (2 if node.op_type in READ_TWICE and index == 0 else 1))
    return written + sum(read.values())
