"""The ONNX operators that a graph of this project may have: those that TensorRT runs without a plug-in, fast, on 10.3.

Not among them: control flow and shapes that depend on data (Loop, If, NonZero, Unique), which cut an engine into
pieces; ScatterND and ScatterElements, which loops over disparity planes unroll into; GridSample, whose five-dimensional
form TensorRT lacks and whose four-dimensional one is slower than a gather; ConvTranspose, which has no fast INT8 form.
https://github.com/onnx/onnx-tensorrt/blob/main/docs/operators.md
"""

from __future__ import annotations

import onnx

ARITHMETIC = frozenset(
    {
        "Abs", "Add", "And", "Cast", "Clip", "Div", "Equal", "Erf", "Exp", "Floor", "Greater", "GreaterOrEqual", "Less",
        "LessOrEqual", "Max", "Min", "Mul", "Neg", "Not", "Pow", "Reciprocal", "Sqrt", "Sub", "Where",
    }
)  # fmt: skip
LAYERS = frozenset(
    {
        "AveragePool", "Conv", "DequantizeLinear", "Gelu", "Gemm", "GlobalAveragePool", "LayerNormalization", "MatMul",
        "MaxPool", "QuantizeLinear", "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Resize", "Sigmoid", "Softmax",
        "Tanh",
    }
)  # fmt: skip
# GatherElements is the lookup in the volume: one of ten taps, measured faster than all other forms.
MOVES = frozenset(
    {
        "Concat", "Constant", "ConstantOfShape", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements",
        "Identity", "Pad", "Reshape", "Shape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
ALLOWED = ARITHMETIC | LAYERS | MOVES


def foreign_operators(model: onnx.ModelProto) -> dict[str, str]:
    """Nodes with other operators: node name → operator. Names tell the module (`deploy.node_names`)."""
    return {
        node.name: f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        for node in model.graph.node
        if node.op_type not in ALLOWED or node.domain not in ("", "ai.onnx")
    }
