"""The names and pixels that other programs expect of a graph, put on after all else is done with it.

stereodistill   left, right → disparity               this project
nvlabs          left, right → disp                    FoundationStereo's and Fast-FoundationStereo's scripts
isaac_ros       left_image, right_image → disparity   Isaac ROS
uint8           N×H×W×3, what cameras deliver, instead of float32 N×3×H×W: a quarter of the bytes to copy

# N batch, H height, W width
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from deploy.config import Convention, Pixels
from deploy.onnx_stereo import CONVENTIONS, INPUTS, OUTPUT
from stereo.artifacts import atomic_path


def write_in_form(path: Path, *, convention: Convention, pixels: Pixels) -> None:
    """Change a graph's file, whole or not at all; see `put_into_form`."""
    if (convention, pixels) == ("stereodistill", "float32"):
        return
    model = onnx.load(path)
    put_into_form(model, convention=convention, pixels=pixels)
    onnx.checker.check_model(model)
    with atomic_path(path) as temporary:
        onnx.save(model, temporary)


def put_into_form(model: onnx.ModelProto, *, convention: Convention, pixels: Pixels) -> None:
    """Rename and retype the inputs and the output of a graph in place.

    Args:
        model: with inputs `left` and `right`, float32 N×3×H×W, and an output `disparity`.
    """
    names, output = CONVENTIONS[convention]
    graph = model.graph
    for old, new in (*zip(INPUTS, names, strict=True), (OUTPUT, output)):
        rename(graph, old, new)
    if pixels == "uint8":
        for name in names:
            take_bytes(graph, name)


def rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Give a tensor another name wherever it is written or read."""
    if old == new:
        return
    for node in graph.node:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name == old:
                    names[position] = new
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.name == old:
            value.name = new


def take_bytes(graph: onnx.GraphProto, name: str) -> None:
    """Make an input uint8 N×H×W×3: cast, then transposed to what the graph reads."""
    value = next(value for value in graph.input if value.name == name)
    inner = f"{name}/planes"
    rename_readers(graph, name, inner)
    tensor = value.type.tensor_type
    batch, channels, height, width = (onnx.TensorShapeProto.Dimension.FromString(d.SerializeToString())
                                      for d in tensor.shape.dim)  # fmt: skip
    tensor.elem_type = TensorProto.UINT8
    del tensor.shape.dim[:]
    tensor.shape.dim.extend([batch, height, width, channels])
    nodes = [
        helper.make_node("Cast", [name], [f"{name}/float"], name=f"inputs/{name}/Cast", to=TensorProto.FLOAT),
        helper.make_node(
            "Transpose", [f"{name}/float"], [inner], name=f"inputs/{name}/Transpose", perm=[0, 3, 1, 2]
        ),
    ]  # fmt: skip
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])


def rename_readers(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Let all nodes that read one tensor read another."""
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name == old:
                node.input[position] = new
