"""Let only quantised convolutions read quantised values.

The quantiser replaces a tensor by its quantised copy for everybody who reads it. What serves the convolution hurts the
others: features would be rounded to 256 steps before they are correlated, shortcuts and the recurrent state would carry
the rounding on, and a convolution that stays in float would see rounded inputs all the same. The float tensor is still
there, so the others are led back to it.
"""

from __future__ import annotations

import onnx

from calibration.precision import quantised_nodes


def restore_exact_readers(model: onnx.ModelProto) -> list[str]:
    """Make every node but the quantised convolutions read the float tensor again, in place.

    Returns: names of the nodes that were changed.
    """
    quantised = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    exact = {
        node.output[0]: quantised[node.input[0]]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in quantised
    }
    rounding = set(quantised_nodes(model))
    changed = []
    for node in model.graph.node:
        if node.name in rounding or not any(name in exact for name in node.input):
            continue
        for position, name in enumerate(node.input):
            node.input[position] = exact.get(name, name)
        changed.append(node.name)
    return changed
