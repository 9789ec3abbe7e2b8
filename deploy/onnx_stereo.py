"""An ONNX file as this project exports it, read and checked before any runtime sees it.

One graph: inputs `left` and `right`, N×3×H×W float32 raw RGB 0–255; output `disparity`, N×1×H×W float32 px; facts in
`metadata_props`. Weights are not loaded into memory of their own, so the check is cheap.

    # N batch, H height, W width
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from stereo.errors import UserError

INPUTS, OUTPUT = ("left", "right"), "disparity"
FORM = "inputs left and right, float32 1x3xHxW, and an output disparity, float32 1x1xHxW"
HINT = "stereodistill export writes such files; other networks can serve as a teacher: label --teacher onnx"


@dataclass(frozen=True)
class StereoGraph:
    """What the file says about itself.

    Args:
        size: (H, W) in pixels, None when they are left open.
        metadata: `metadata_props`, as they are.
        precision: "int8" when it quantises activations, "fp16" when weights are half precision, else "fp32".
    """

    path: Path
    size: tuple[int, int] | None
    metadata: dict[str, str]
    precision: str

    def check_size(self, size: tuple[int, int] | None) -> None:
        """Refuse a wanted (H, W) that a graph of one fixed size does not take.

        Raises:
            UserError: they differ.
        """
        if size is not None and self.size is not None and size != self.size:
            raise UserError(
                f"was exported for {self.size[0]}x{self.size[1]} and cannot run at {size[0]}x{size[1]}",
                where=self.path,
                fix="leave --size out, or export it again with that --size",
            )


def read_stereo_graph(path: Path | str) -> StereoGraph:
    """Read and check a file.

    Raises:
        UserError: missing, not ONNX, or not a stereo network of the project's form.
    """
    path = Path(path)
    try:
        model = onnx.load(path, load_external_data=False)
    except FileNotFoundError as error:
        raise UserError("no such ONNX file", where=path, fix="check the path") from error
    except (OSError, DecodeError) as error:
        raise UserError("is not an ONNX file", where=path, fix=HINT) from error
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = {value.name: _tensor(value) for value in graph.input if value.name not in weights}
    outputs = {value.name: _tensor(value) for value in graph.output}
    if not graph.node or not outputs:
        raise UserError("is not an ONNX file", where=path, fix=HINT)
    wrong = _wrong_form(inputs, outputs)
    if wrong:
        raise UserError(f"is not a stereo network of this project: {wrong}, instead of {FORM}", where=path, fix=HINT)
    height, width = inputs["left"][1][2:]
    return StereoGraph(
        path=path,
        size=(height, width) if isinstance(height, int) and isinstance(width, int) else None,
        metadata={item.key: item.value for item in model.metadata_props},
        precision=_precision(graph),
    )


def _tensor(value: onnx.ValueInfoProto) -> tuple[int, tuple[int | None, ...]]:
    """Element type and shape; an open dimension is None."""
    tensor = value.type.tensor_type
    return tensor.elem_type, tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)


def _wrong_form(
    inputs: dict[str, tuple[int, tuple[int | None, ...]]], outputs: dict[str, tuple[int, tuple[int | None, ...]]]
) -> str | None:
    if sorted(inputs) != sorted(INPUTS):
        return f"its inputs are {', '.join(inputs) or 'none'}"
    if list(outputs) != [OUTPUT]:
        return f"its outputs are {', '.join(outputs)}"
    for (name, (kind, shape)), channels in [(item, 3) for item in inputs.items()] + [((OUTPUT, outputs[OUTPUT]), 1)]:
        text = "x".join("?" if size is None else str(size) for size in shape)
        if kind != onnx.TensorProto.FLOAT:
            return f"{name} is {onnx.TensorProto.DataType.Name(kind).lower()}"
        # Shape inference may leave the output's shape open; the runners check what really comes out.
        if name == OUTPUT and not any(shape):
            continue
        if len(shape) != 4 or shape[0] not in (1, None) or shape[1] not in (channels, None):
            return f"{name} is {text or 'of no known shape'}"
    if inputs["left"][1] != inputs["right"][1]:
        return "left and right have different shapes"
    return None


def _precision(graph: onnx.GraphProto) -> str:
    if any(node.op_type == "QuantizeLinear" for node in graph.node):
        return "int8"
    if any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph.initializer):
        return "fp16"
    return "fp32"
