"""Multiply-adds of every convolution and matrix product of a graph, by node name: what a share of kernels weighs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import onnx


def multiply_adds(model: onnx.ModelProto) -> dict[str, int]:
    """Node name → multiply-adds for one run, of Conv, ConvTranspose, MatMul and Gemm; others are not counted.

    Args:
        model: with static shapes.
    """
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    shapes: dict[str, list[int]] = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        shapes[value.name] = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
    counts = ((node.name, node_multiply_adds(node, shapes)) for node in graph.node)
    return {name: count for name, count in counts if count is not None}


def node_multiply_adds(node: onnx.NodeProto, shapes: Mapping[str, Sequence[int]]) -> int | None:
    """Multiply-adds of one node, None for operators that are not counted.

    Args:
        shapes: of its inputs and outputs.
    """
    if node.op_type == "ConvTranspose":
        # Every input value is spread over the kernel: weights are inputs, outputs of the group, kernel.
        return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])
    length = summed_length(node, shapes)
    return None if length is None else math.prod(shapes[node.output[0]]) * length


def summed_length(node: onnx.NodeProto, shapes: Mapping[str, Sequence[int]]) -> int | None:
    """How many products each output value is the sum of; None where it is no such sum."""
    if node.op_type == "Conv":
        return math.prod(shapes[node.input[1]][1:])  # weights: outputs, inputs of the group, kernel
    if node.op_type not in ("MatMul", "Gemm"):
        return None
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return shapes[node.input[0]][-2 if transposed else -1]
