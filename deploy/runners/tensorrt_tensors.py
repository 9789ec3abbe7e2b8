"""The tensors that go into an engine and come out of it: whose names they have, and a buffer for each.

# H height, W width
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deploy.cuda import Cuda, SharedArray, allocate
from deploy.onnx_stereo import CONVENTIONS
from deploy.runners.protocol import Floats
from stereo.errors import UserError


@dataclass(frozen=True)
class EngineTensors:
    """Buffers by tensor name.

    Args:
        inputs: names, left first.
        output: name of the disparity.
    """

    inputs: tuple[str, str]
    output: str
    buffers: dict[str, SharedArray]

    def put(self, left: Floats, right: Floats, stream: Any) -> None:
        """Queue a pair, float32 1×3×H×W of raw RGB, on its way to the engine."""
        for name, image in zip(self.inputs, (left, right), strict=True):
            fill(self.buffers[name], image)
            self.buffers[name].upload(stream)

    @property
    def disparity(self) -> SharedArray:
        """float32 1×1×H×W px."""
        return self.buffers[self.output]


def allocate_tensors(
    trt: Any, engine: Any, cuda: Cuda, *, mapped: bool, size: tuple[int, int], path: Path, stack: ExitStack
) -> EngineTensors:
    """Allocate a buffer for each tensor, freed with the stack.

    Raises:
        UserError: not the tensors of a stereo network of this size, or the memory is used up.
    """
    types = {trt.DataType.FLOAT: np.float32, trt.DataType.UINT8: np.uint8}
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs, output = names_of(trt, engine, names, path)
    floats, whole = (1, 3, *size), (1, *size, 3)
    fitting: dict[str, tuple[tuple[type, tuple[int, ...]], ...]] = {
        **dict.fromkeys(inputs, ((np.float32, floats), (np.uint8, whole))),
        output: ((np.float32, (1, 1, *size)),),
    }
    buffers: dict[str, SharedArray] = {}
    for name in names:
        # A batch that was left open runs with one pair.
        shape = tuple(1 if length < 0 else int(length) for length in engine.get_tensor_shape(name))
        kind = types.get(engine.get_tensor_dtype(name))
        if kind is None or (kind, shape) not in fitting.get(name, ((kind, shape),)):
            raise UserError(f"{name} is {engine.get_tensor_dtype(name)} {shape}, which no stereo network of "
                            f"{size[0]}x{size[1]} has", where=path, fix="build the engine again")  # fmt: skip
        buffers[name] = allocate(cuda, shape, kind, mapped=mapped)
        stack.callback(buffers[name].free)
    return EngineTensors(inputs, output, buffers)


def names_of(trt: Any, engine: Any, names: list[str], path: Path) -> tuple[tuple[str, str], str]:
    """Names of the inputs, left first, and of the disparity, in any of the conventions.

    Raises:
        UserError: nobody's.
    """
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    for pair, output in CONVENTIONS.values():
        if sorted(inputs) == sorted(pair) and output in names:
            return pair, output
    raise UserError(f"is not a stereo network of this project: its tensors are {', '.join(names)}", where=path,
                    fix="build it from a graph that stereodistill export wrote")  # fmt: skip


def fill(tensor: SharedArray, image: Floats) -> None:
    """Put float32 1×3×H×W where the engine reads it, as float32 1×3×H×W or uint8 1×H×W×3.

    Raises:
        ValueError: another shape.
    """
    if tensor.host.dtype == np.uint8:
        image = image.transpose(0, 2, 3, 1)
    if image.shape != tensor.host.shape:
        raise ValueError(f"expected {tensor.host.shape}, got {image.shape}")
    # Pixels are whole numbers: bytes hold them exactly.
    np.copyto(tensor.host, image, casting="unsafe")
