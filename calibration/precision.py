"""What stays in higher precision, and why: the tables by which FP16 and INT8 graphs are made.

Nodes are named after their module (`deploy.node_names`), so a rule is a pattern over names and survives changes
elsewhere in the network. Two tables:

* `KEEP_FP32`: nodes that compute in float32 in the FP16 and INT8 graphs;
* `KEEP_FLOAT`: convolutions that are not quantised; in the INT8 graph they compute in FP16.

Only convolutions are quantised: quantising the inputs of element-wise, reshaping and sampling nodes as well costs
accuracy and brings no faster kernels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx

QUANTISED_OPERATORS = ("Conv",)
# Operators that only move values: between two float32 nodes they must not round.
MOVING_OPERATORS = (
    "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "Identity", "Pad", "Reshape", "Slice",
    "Split", "Squeeze", "Transpose", "Unsqueeze", "Where",
)  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """One line of a table.

    Args:
        name: what is protected.
        nodes: regular expression that the whole node name matches; a number after the operator is matched too.
        why: the reason, for people who read a manifest.
    """

    name: str
    nodes: str
    why: str

    def matches(self, node: str) -> bool:
        """Whether this rule speaks of a node."""
        return re.fullmatch(rf"(?:{self.nodes})(?:_\d+)?", node) is not None


# Features are compared by group at 1/8 (inside the cost volume) and at 1/4 (behind their projection).
CORRELATION = r"(?:cost_volume|matching\.\w+/then)"

KEEP_FP32 = (
    Rule("image normalisation", r"inputs/\w+?",
         "works on the float32 inputs; half precision would round the normalised image before the first convolution"),
    Rule("correlation normalisation", rf"{CORRELATION}/(?:Pow|ReduceSum|Add|Sqrt|Reciprocal|Mul)",
         "sums of squares overflow half precision, and the floor under the root is below its smallest normal number"),
    Rule("correlation", rf"{CORRELATION}/MatMul",
         "cosines of good matches lie near 1, where half precision steps by 0.0005, and the best one is decided there"),
    Rule("soft-argmin", r"classifier/then/\w+?",
         "the sum over planes loses sub-pixel precision: 24 planes times a rounded weight"),
    Rule("lookup", r"refinement\.motion_encoder/"
         r"(?:AveragePool|Div|Clip|Floor|Sub|Cast|Add|Mul|GreaterOrEqual|Less|And|GatherElements|Where)",
         "positions reach the image's width, where half precision steps by more than a tenth of a pixel"),
    Rule("disparity accumulator", r"refinement\.disparity_head\.\d+/then/\w+?",
         "corrections far smaller than the disparity are added to it in every iteration"),
    Rule("convex weights", r"(?:mask\.\d+|coarse_mask)/then/\w+?",
         "exponentials and their sum; the disparity itself passes through here, quantised weights give checkerboards"),
    Rule("layer norms", r"cost_filter\.transformer\.layers\.\d+\.norm\d+/LayerNormalization",
         "the variance is a sum of squares"),
    Rule("global pooling", r"context\.cam/ReduceMean",
         "a sum over all pixels of the map passes half precision's largest number"),
)  # fmt: skip

KEEP_FLOAT = (
    Rule("image stem", r"backbone\.stem\.0/Conv",
         "the first convolution sees every detail there is; three input channels gain little from integer kernels"),
    Rule("fine features", r"backbone\.stage_quarter\.(?:0\.0|1\.conv1\.0)/Conv",
         "matching gets its finest detail from here: rounding the inputs of these two costs more than all others do"),
    Rule("matching projections", r"matching\.\w+/Conv",
         "what is compared comes from here, and they are two 1x1 convolutions among fifty"),
    Rule("matching scores", r"classifier/Conv",
         "one output channel, and its differences decide between planes"),
    Rule("disparity input", r"refinement\.motion_encoder\.disparity_conv/Conv",
         "its input is the disparity: 256 steps over the whole range are coarser than a pixel"),
    Rule("disparity output", r"refinement\.disparity_head\.2/Conv",
         "its output is the correction of the disparity, one channel"),
    Rule("upsampling logits", r"(?:mask\.2|coarse_mask)/Conv",
         "the convex weights come from here; their errors show as checkerboards"),
    Rule("attention maps", r"context\.(?:cam\.mlp\.\d|sam\.conv)/Conv",
         "a few channels or a single pixel: nothing to gain"),
)  # fmt: skip


def by_rule(rules: Iterable[Rule], names: Sequence[str]) -> dict[str, list[str]]:
    """Name of each rule → the nodes it speaks of, in graph order; empty where it finds none."""
    return {rule.name: [name for name in names if rule.matches(name)] for rule in rules}


def node_names(model: onnx.ModelProto, *, operators: Sequence[str] = ()) -> list[str]:
    """Names of all nodes, or of those of some operators, in graph order."""
    return [node.name for node in model.graph.node if not operators or node.op_type in operators]


def nodes_kept_fp32(model: onnx.ModelProto, rules: Iterable[Rule] = KEEP_FP32) -> list[str]:
    """Nodes that compute in float32: those of the rules, and those that only move values between them."""
    names = node_names(model)
    kept = {name for found in by_rule(rules, names).values() for name in found}
    between = reaches_only(model.graph.node, kept) & reaches_only(model.graph.node, kept, backwards=True)
    return [name for name in names if name in kept or name in between]


def convolutions_kept_float(model: onnx.ModelProto, rules: Iterable[Rule] = KEEP_FLOAT) -> list[str]:
    """Convolutions that the rules keep from being quantised."""
    names = node_names(model, operators=QUANTISED_OPERATORS)
    return [name for name in names if any(rule.matches(name) for rule in rules)]


def reaches_only(nodes: Iterable[onnx.NodeProto], kept: set[str], *, backwards: bool = False) -> set[str]:
    """Moving nodes whose values come only from kept nodes (or constants and inputs), through moving nodes at most.

    Args:
        backwards: ask where the values go instead (the graph's output counts as kept).
    """
    listed = list(nodes)
    found: set[str] = set()
    unkept: set[str] = set()  # tensors made by, or backwards used by, a node that is not kept
    for node in reversed(listed) if backwards else listed:
        arriving, leaving = (node.output, node.input) if backwards else (node.input, node.output)
        clean = not any(name in unkept for name in arriving)
        if node.op_type in MOVING_OPERATORS and clean:
            found.add(node.name)
        elif node.name not in kept:
            unkept.update(leaving)
    return found


def quantised_nodes(model: onnx.ModelProto) -> list[str]:
    """Convolutions whose input and weights both come out of a DequantizeLinear."""
    dequantised = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in QUANTISED_OPERATORS and all(name in dequantised for name in node.input[:2])
    ]
