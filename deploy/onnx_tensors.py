"""What stands in an ONNX graph's tensors before it runs: shapes, sizes, which are constants and which are mere views.

A view (reshape, squeeze, dequantisation) has no memory of its own: it is another name for the tensor it was made of.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import onnx

from stereo.errors import UserError

# Other names for the tensor they take; dequantisation happens in the registers of whatever reads it.
VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout", "DequantizeLinear"})
CONTROL_FLOW = frozenset({"Loop", "If", "Scan"})
FIXED = "export it for one size: stereodistill export --size HEIGHTxWIDTH"


@dataclass(frozen=True)
class Tensors:
    """The tensors of a graph.

    Args:
        shapes: of every tensor that shape inference reached.
        types: element types, `onnx.TensorProto` numbers.
        constants: tensors that do not depend on the graph's inputs.
        views: tensor → the one whose memory it shows, followed to the end.
        where: for error messages.
    """

    shapes: dict[str, tuple[int, ...]]
    types: dict[str, int]
    constants: frozenset[str]
    views: dict[str, str]
    where: object

    def memory_of(self, name: str) -> str:
        """The tensor that a name is a view of, itself where it is none."""
        return self.views.get(name, name)

    def elements(self, name: str) -> int:
        """How many values a tensor has.

        Raises:
            UserError: its shape is not known.
        """
        if name not in self.shapes:
            raise UserError(f"the shape of '{name}' depends on what the graph is given", where=self.where, fix=FIXED)
        return math.prod(self.shapes[name])

    def size_bytes(self, name: str) -> int:
        """Bytes of a tensor as it lies in memory.

        Raises:
            UserError: its shape is not known.
        """
        dtype = onnx.helper.tensor_dtype_to_np_dtype(self.types.get(name, onnx.TensorProto.FLOAT))
        return self.elements(name) * dtype.itemsize


def read_tensors(model: onnx.ModelProto, *, where: object) -> Tensors:
    """Infer the shapes of a graph and sort its tensors.

    Raises:
        UserError: an input of open size, or control flow, whose cost cannot be told beforehand.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in weights and _fixed_shape(value) is None:
            raise UserError(f"the size of its input '{value.name}' is open", where=where, fix=FIXED)
    for node in model.graph.node:
        if node.op_type in CONTROL_FLOW:
            raise UserError(f"node '{node.name}' is a {node.op_type}: how often it runs is not known", where=where)
    # What the graph says of its own tensors is believed; only what it leaves out is inferred.
    graph = model.graph if _complete(model.graph) else onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        shape = _fixed_shape(value)
        if shape is not None:
            shapes[value.name] = shape
        types[value.name] = value.type.tensor_type.elem_type
    return Tensors(shapes, types, _constants(model.graph), _views(model.graph), where)


def read_tensors_of(path: Path) -> tuple[onnx.GraphProto, Tensors]:
    """The graph of a file, and its tensors; weights that lie in other files are not read.

    Raises:
        UserError: as `read_tensors`.
    """
    model = onnx.load(path, load_external_data=False)
    return model.graph, read_tensors(model, where=path)


def _complete(graph: onnx.GraphProto) -> bool:
    told = {value.name for value in (*graph.value_info, *graph.output) if _fixed_shape(value) is not None}
    return all(name in told for node in graph.node for name in node.output if name)


def _fixed_shape(value: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape") or not all(dimension.HasField("dim_value") for dimension in tensor.shape.dim):
        return None
    return tuple(dimension.dim_value for dimension in tensor.shape.dim)


def _constants(graph: onnx.GraphProto) -> frozenset[str]:
    """Initializers and whatever is computed of them alone; shapes of tensors of fixed shape are constant too."""
    found = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Shape" or all(name in found for name in node.input if name):
            found.update(node.output)
    return frozenset(found)


def _views(graph: onnx.GraphProto) -> dict[str, str]:
    views: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in VIEWS:
            views[node.output[0]] = views.get(node.input[0], node.input[0])
    return views
