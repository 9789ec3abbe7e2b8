"""An ONNX file as this project exports it, read and checked before any runtime sees it.

One graph: inputs `left` and `right`, N×3×H×W float32 raw RGB 0–255; output `disparity`, N×1×H×W float32 px; facts in
`metadata_props`. Also graphs in the names and pixels that other programs expect (`deploy.io_form`), and with further
outputs. Weights are not loaded into memory of their own, so the check is cheap.

    # N batch, H height, W width
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError

from deploy.config import Convention, Pixels
from stereo.errors import UserError

INPUTS, OUTPUT = ("left", "right"), "disparity"
# Convention → names of the inputs, left first, and of the disparity.
CONVENTIONS: dict[Convention, tuple[tuple[str, str], str]] = {
    "stereodistill": (INPUTS, OUTPUT),
    "nvlabs": (INPUTS, "disp"),
    "isaac_ros": (("left_image", "right_image"), OUTPUT),
}
# What a graph may put out beside its disparity.
EXTRA_OUTPUTS = ("confidence", "disparity_quarter")
FORM = "inputs left and right, float32 1x3xHxW, and an output disparity, float32 1x1xHxW"
HINT = "stereodistill export writes such files; other networks can serve as a teacher: label --teacher onnx"


@dataclass(frozen=True)
class StereoGraph:
    """What the file says about itself.

    Args:
        size: (H, W) in pixels, None when they are left open.
        metadata: `metadata_props`, as they are.
        precision: "int8" when it quantises activations, "fp16" when weights are half precision, else "fp32".
        convention: whose names its inputs and its output have.
        pixels: "float32", 1×3×H×W, or "uint8", 1×H×W×3.
        extra_outputs: those of `EXTRA_OUTPUTS` that it has.
    """

    path: Path
    size: tuple[int, int] | None
    metadata: dict[str, str]
    precision: str
    convention: Convention = "stereodistill"
    pixels: Pixels = "float32"
    extra_outputs: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, str]:
        """Names of the inputs, left first."""
        return CONVENTIONS[self.convention][0]

    @property
    def output(self) -> str:
        """Name of the disparity."""
        return CONVENTIONS[self.convention][1]

    def feed(self, left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.generic]]:
        """What the inputs get: name → array in the graph's own pixels.

        Args:
            left, right: float32 1×3×H×W, whole numbers 0–255.
        """
        if self.pixels == "float32":
            return dict(zip(self.inputs, (left, right), strict=True))
        return {name: to_uint8(view) for name, view in zip(self.inputs, (left, right), strict=True)}

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
    convention = _convention(inputs, outputs)
    pixels: Pixels = "uint8" if {kind for kind, _ in inputs.values()} == {onnx.TensorProto.UINT8} else "float32"
    wrong = _wrong_form(inputs, outputs, convention, pixels)
    if wrong:
        raise UserError(f"is not a stereo network of this project: {wrong}, instead of {FORM}", where=path, fix=HINT)
    shape = inputs[CONVENTIONS[convention][0][0]][1]
    height, width = shape[2:] if pixels == "float32" else shape[1:3]
    return StereoGraph(
        path=path,
        size=(height, width) if isinstance(height, int) and isinstance(width, int) else None,
        metadata={item.key: item.value for item in model.metadata_props},
        precision=_precision(graph),
        convention=convention,
        pixels=pixels,
        extra_outputs=tuple(name for name in EXTRA_OUTPUTS if name in outputs),
    )


def to_uint8(view: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """float32 N×3×H×W of whole numbers 0–255 → uint8 N×H×W×3."""
    return np.ascontiguousarray(view.transpose(0, 2, 3, 1).astype(np.uint8))


Tensors = Mapping[str, tuple[int, tuple[int | None, ...]]]


def _convention(inputs: Tensors, outputs: Tensors) -> Convention:
    """Whose names these are; the project's own where nobody's."""
    for convention, (names, output) in CONVENTIONS.items():
        if sorted(inputs) == sorted(names) and output in outputs:
            return convention
    return "stereodistill"


def _tensor(value: onnx.ValueInfoProto) -> tuple[int, tuple[int | None, ...]]:
    """Element type and shape; an open dimension is None."""
    tensor = value.type.tensor_type
    return tensor.elem_type, tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)


def _wrong_form(inputs: Tensors, outputs: Tensors, convention: Convention, pixels: Pixels) -> str | None:
    names, output = CONVENTIONS[convention]
    if sorted(inputs) != sorted(names):
        return f"its inputs are {', '.join(inputs) or 'none'}"
    if sorted(set(outputs) - set(EXTRA_OUTPUTS)) != [output]:
        return f"its outputs are {', '.join(outputs)}"
    for (name, (kind, shape)), channels in [(item, 3) for item in inputs.items()] + [((output, outputs[output]), 1)]:
        text = "x".join("?" if size is None else str(size) for size in shape)
        whole = pixels == "uint8" and name != output
        if kind != (onnx.TensorProto.UINT8 if whole else onnx.TensorProto.FLOAT):
            return f"{name} is {onnx.TensorProto.DataType.Name(kind).lower()}"
        # Shape inference may leave the output's shape open; the runners check what really comes out.
        if name == output and not any(shape):
            continue
        place = 3 if whole else 1
        if len(shape) != 4 or shape[0] not in (1, None) or shape[place] not in (channels, None):
            return f"{name} is {text or 'of no known shape'}"
    if inputs[names[0]][1] != inputs[names[1]][1]:
        return "left and right have different shapes"
    return None


def _precision(graph: onnx.GraphProto) -> str:
    if any(node.op_type == "QuantizeLinear" for node in graph.node):
        return "int8"
    if any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph.initializer):
        return "fp16"
    return "fp32"
