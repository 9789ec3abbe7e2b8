"""Graphs in which only some of the quantised convolutions are quantised, made from one calibration.

    block   a named part of the network, such as backbone.stage_quarter or refinement.gru

Calibrating anew for every question would answer another one: ranges would differ as well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import onnx

from calibration.precision import QUANTISED_OPERATORS, quantised_nodes

# Parts of the network that are too large to be one block: their own parts are.
DIVIDED = ("backbone", "cost_filter", "refinement")


def block_of(convolution: str) -> str:
    """The block that a convolution belongs to, by its node's name."""
    module = convolution.rpartition("/")[0].split(".")
    return ".".join(module[: 2 if module[0] in DIVIDED else 1])


def blocks_of(convolutions: Iterable[str]) -> dict[str, list[str]]:
    """Block → its convolutions, both in graph order."""
    blocks: dict[str, list[str]] = {}
    for name in convolutions:
        blocks.setdefault(block_of(name), []).append(name)
    return blocks


def layers_of(convolutions: Iterable[str]) -> dict[str, list[str]]:
    """Module → its convolution, once for each time that it runs."""
    layers: dict[str, list[str]] = {}
    for name in convolutions:
        layers.setdefault(name.rpartition("/")[0], []).append(name)
    return layers


def quantise_only(quantised: onnx.ModelProto, original: onnx.ModelProto, names: Collection[str]) -> onnx.ModelProto:
    """A graph in which the named convolutions are quantised and all others compute in float32.

    Args:
        quantised: with Q/DQ around its convolutions and float32 for the rest.
        original: the graph that it was made from, whose nodes have the same names.
        names: of convolutions that are quantised in `quantised`.

    Raises:
        KeyError: a name that is not quantised there.
    """
    if unknown := set(names) - set(quantised_nodes(quantised)):
        raise KeyError(f"not quantised: {sorted(unknown)}")
    model = onnx.ModelProto()
    model.CopyFrom(quantised)
    graph = model.graph
    plain = {node.name: node for node in original.graph.node if node.op_type in QUANTISED_OPERATORS}
    weights = {tensor.name: tensor for tensor in original.graph.initializer}
    present = {tensor.name for tensor in graph.initializer}
    dequantised = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    source = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    for node in graph.node:
        if node.op_type not in QUANTISED_OPERATORS or node.name in names or node.name not in plain:
            continue
        if node.input[0] in dequantised:
            node.input[0] = source[dequantised[node.input[0]]]
        # Weights, and a bias that was quantised too, come back from the original.
        for position in range(1, len(node.input)):
            if node.input[position] in dequantised:
                own = weights[plain[node.name].input[position]]
                node.input[position] = own.name
                if own.name not in present:
                    graph.initializer.append(own)
                    present.add(own.name)
    drop_unused(graph)
    return model


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes and weights that nothing reads any more, in place."""
    read = {value.name for value in graph.output}
    alive = []
    for node in reversed(graph.node):  # in the order of computation: whoever reads an output comes later
        if any(name in read for name in node.output):
            alive.append(node)
            read.update(node.input)
    weights = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.node[:]
    graph.node.extend(reversed(alive))
    del graph.initializer[:]
    graph.initializer.extend(weights)
