"""Multiply-adds of every convolution and matrix product of a graph, by node name: what a share of kernels weighs."""

from __future__ import annotations

import math

import onnx


def multiply_adds(model: onnx.ModelProto) -> dict[str, int]:
    """Node name → multiply-adds for one run, of Conv, MatMul and Gemm; other operators are not counted.

    Args:
        model: with static shapes.
    """
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    shapes: dict[str, list[int]] = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        shapes[value.name] = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
    return {
        node.name: math.prod(shapes[node.output[0]]) * summed_length(node, shapes)
        for node in graph.node
        if node.op_type in ("Conv", "MatMul", "Gemm")
    }


def summed_length(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    """How many products each output value is the sum of."""
    if node.op_type == "Conv":
        return math.prod(shapes[node.input[1]][1:])  # weights: outputs, inputs of the group, kernel
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return shapes[node.input[0]][-2 if transposed else -1]
