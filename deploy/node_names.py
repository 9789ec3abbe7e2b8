"""Meaningful, unique names for the nodes of an exported graph, so that tables can speak of them.

The exporter numbers its nodes ("node_conv2d_12"), and every change of the network shifts the numbers. It also notes the
module each node came from; from that a node gets the name of its module and its operator:

    refinement.gru.large_gru.gates/Conv       a module called for the second time: .../Conv_1
    mask.2/then/Exp                           arithmetic of the outermost module, named after the last module before it
    inputs/Sub                                arithmetic before the first module

A convolution with a folded batch norm is named after its weights, not after the norm.
"""

from __future__ import annotations

import ast
from collections import Counter

import onnx

SCOPES_KEY = "pkg.torch.onnx.name_scopes"


def name_nodes(model: onnx.ModelProto) -> None:
    """Rename all nodes in place, from the exporter's metadata, which must still be there.

    A graph without that metadata keeps its names.
    """
    scopes = [module_of(node) for node in model.graph.node]
    if not any(scopes):
        return
    # Tensor → (position, module) of the last named module it depends on.
    origins: dict[str, tuple[int, str]] = {}
    used: Counter[str] = Counter()
    for position, (node, scope) in enumerate(zip(model.graph.node, scopes, strict=True)):
        last = max((origins[name] for name in node.input if name in origins), default=(-1, ""))
        module = scope or (f"{last[1]}/then" if last[1] else "inputs")
        origin = (position, scope) if scope else last
        origins.update((name, origin) for name in node.output)
        name = f"{module}/{node.op_type}"
        node.name = f"{name}_{used[name]}" if used[name] else name
        used[name] += 1


def module_of(node: onnx.NodeProto) -> str:
    """Path of the innermost module a node came from, "" for the outermost one or when nothing is known."""
    if node.op_type == "Conv" and node.input[1].endswith(".weight"):
        return node.input[1].removesuffix(".weight")
    for entry in node.metadata_props:
        if entry.key == SCOPES_KEY:
            # Outermost module, ..., innermost module, the operation itself.
            path = ast.literal_eval(entry.value)
            return path[-2] if len(path) > 1 else ""
    return ""


def module_of_name(name: str) -> str:
    """Path of the module in a name that `name_nodes` gave, "" where it tells none: the way back from an error.

    Arithmetic of the outermost module is told by where it stands: "after mask.2", "before the first module".
    """
    module, slash, _ = name.rpartition("/")
    if not slash:
        return ""
    if module == "inputs":
        return "before the first module"
    return f"after {module.removesuffix('/then')}" if module.endswith("/then") else module
