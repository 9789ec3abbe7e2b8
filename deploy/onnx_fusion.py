"""Which nodes of an ONNX graph run together in one kernel, as an engine builder would plausibly arrange them.

A kernel is built around one node that does real work (a convolution, a reduction, a copy). Element-wise nodes join the
kernel that makes what they read, as long as nobody else reads that and it has as many values as they write; where all
readers of it are element-wise and come together again (x * sigmoid(x), GELU), they join it together. Element-wise nodes
without such a kernel form one of their own. Views and constants cost nothing. Copies are not removed, though builders
can write some concatenations in place: the count errs on the slow side there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx

from deploy.onnx_tensors import VIEWS, Tensors

ELEMENTWISE = frozenset({
    "Abs", "Add", "And", "BatchNormalization", "Cast", "CastLike", "Ceil", "Clip", "Cos", "Div", "Elu", "Equal", "Erf",
    "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "IsNaN", "LeakyRelu", "Less",
    "LessOrEqual", "Log", "Max", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "QuantizeLinear",
    "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Sqrt", "Sub", "Tanh", "Where", "Xor",
})  # fmt: skip
# Activations that are spelled out take fewer nodes than this.
LONGEST_DIAMOND = 12


@dataclass
class Group:
    """Nodes of one kernel.

    Args:
        anchor: the node it is built around; None for element-wise nodes alone.
        nodes: all of them, in the order of the graph.
        tails: the tensors it hands on.
    """

    anchor: onnx.NodeProto | None
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tails: list[str] = field(default_factory=list)


def fuse(graph: onnx.GraphProto, tensors: Tensors) -> list[Group]:
    """The kernels of a graph, in an order they can run in."""
    live = [
        node
        for node in graph.node
        if node.op_type not in VIEWS and not all(name in tensors.constants for name in node.output)
    ]
    readers = _readers(graph, live, tensors)
    groups: dict[int, Group] = {}
    maker: dict[str, Group] = {}
    done: set[int] = set()
    for index, node in enumerate(live):
        if index in done:
            continue
        members, before = [index], []
        if node.op_type in ELEMENTWISE:
            members = _diamond(index, live, readers, tensors) or members
            before = _joinable([live[member] for member in members], maker, readers, tensors)
        done.update(members)
        anchor = None if node.op_type in ELEMENTWISE else node
        anchor = next((group.anchor for group in before if group.anchor is not None), anchor)
        nodes = [inner for group in before for inner in group.nodes] + [live[member] for member in members]
        for group in before:
            del groups[id(group)]
        tails = [name for name in live[members[-1]].output if name and readers[name]]
        group = Group(anchor, nodes, tails)
        groups[id(group)] = group
        maker.update((name, group) for name in tails)
    return list(groups.values())


def inputs_of(node: onnx.NodeProto, tensors: Tensors) -> list[str]:
    """The memory a node reads, each once."""
    return list(dict.fromkeys(tensors.memory_of(name) for name in node.input if name))


def _readers(graph: onnx.GraphProto, live: Sequence[onnx.NodeProto], tensors: Tensors) -> defaultdict[str, list[int]]:
    """Which nodes read each tensor's memory; -1 stands for whoever takes the graph's outputs."""
    readers: defaultdict[str, list[int]] = defaultdict(list)
    for index, node in enumerate(live):
        for name in inputs_of(node, tensors):
            readers[name].append(index)
    for value in graph.output:
        readers[tensors.memory_of(value.name)].append(-1)
    return readers


def _diamond(
    first: int, live: Sequence[onnx.NodeProto], readers: Mapping[str, list[int]], tensors: Tensors
) -> list[int] | None:
    """Element-wise nodes, the given one first, that all hang on one tensor and come together in one node.

    None where there is no such set: a reader of another kind, or one that also waits for something else.
    """
    sources = [name for name in inputs_of(live[first], tensors) if name not in tensors.constants]
    if len(sources) != 1 or len(readers[sources[0]]) == 1:
        return None
    # Tensors inside → the nodes that have yet to read them.
    waiting = {sources[0]: set(readers[sources[0]])}
    members: list[int] = []
    while len(members) < LONGEST_DIAMOND:
        index = min(index for indices in waiting.values() for index in indices)
        node = live[index]
        needs = [name for name in inputs_of(node, tensors) if name not in tensors.constants]
        if index < 0 or node.op_type not in ELEMENTWISE or not all(name in waiting for name in needs):
            return None
        for name in needs:
            waiting[name].discard(index)
        members.append(index)
        waiting = {name: indices for name, indices in waiting.items() if indices}
        if not waiting:
            return members
        waiting[node.output[0]] = set(readers[node.output[0]])
    return None


def _joinable(
    nodes: Sequence[onnx.NodeProto],
    maker: Mapping[str, Group],
    readers: Mapping[str, list[int]],
    tensors: Tensors,
) -> list[Group]:
    """The kernels that element-wise nodes can be the end of: at most one that is built around something."""
    inside = {name for node in nodes for name in node.output}
    found: list[Group] = []
    for name in dict.fromkeys(name for node in nodes for name in inputs_of(node, tensors)):
        group = maker.get(name)
        if name in inside or group is None or len(group.tails) != 1 or any(group is other for other in found):
            continue
        mine = sum(name in inputs_of(node, tensors) for node in nodes)
        if len(readers[name]) == mine and tensors.elements(name) == tensors.elements(nodes[-1].output[0]):
            found.append(group)
    anchored = [group for group in found if group.anchor is not None]
    return [group for group in found if group.anchor is None or group is anchored[-1]]
