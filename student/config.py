"""Options of the student's verbs, without importing torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from deploy.config import Convention, Pixels
from stereo.options import positional

ApcForm = Literal["conv3d", "conv2d"]


@dataclasses.dataclass
class ExportConfig:
    """Options of `export`.

    Args:
        student: a shipped student's name or a .safetensors file.
        size: image size of the graph, HEIGHTxWIDTH, multiples of 32.
        out: the ONNX file to write.
        max_disp: disparity range of the graph in pixels, a multiple of 32; as trained when left out.
        iterations: refinement steps of the graph; as trained when left out.
        apc_form: how axial-planar convolutions are spelled: conv3d suits OpenVINO and INT8, conv2d onnxruntime.
        opset: ONNX operator set.
        io: names of inputs and output. nvlabs: left, right, disp; isaac_ros: left_image, right_image, disparity.
        pixels: what the inputs take. float32, 1x3xHxW, or uint8, 1xHxWx3, as cameras deliver; both RGB 0 to 255.
        outputs: what comes out beside the disparity: confidence, disparity_quarter.
        open_batch: take any number of pairs at a time instead of one.
    """

    student: str = positional()
    size: str = dataclasses.field(default="480x640", kw_only=True)
    out: Path = dataclasses.field(kw_only=True)
    max_disp: int | None = dataclasses.field(default=None, kw_only=True)
    iterations: int | None = dataclasses.field(default=None, kw_only=True)
    apc_form: ApcForm = dataclasses.field(default="conv3d", kw_only=True)
    opset: int = dataclasses.field(default=18, kw_only=True)
    io: Convention = dataclasses.field(default="stereodistill", kw_only=True)
    pixels: Pixels = dataclasses.field(default="float32", kw_only=True)
    outputs: list[str] = dataclasses.field(default_factory=list, kw_only=True)
    open_batch: bool = dataclasses.field(default=False, kw_only=True)


@dataclasses.dataclass
class SummaryConfig:
    """Options of `summary`.

    Args:
        preset: a preset's name, a shipped student's name or a .safetensors file.
        size: image size the cost is counted for.
        max_disp: disparity range in pixels.
        iterations: refinement steps.
    """

    preset: str = positional()
    size: str = dataclasses.field(default="480x640", kw_only=True)
    max_disp: int | None = dataclasses.field(default=None, kw_only=True)
    iterations: int | None = dataclasses.field(default=None, kw_only=True)


@dataclasses.dataclass
class WidenConfig:
    """Options of `widen`.

    Args:
        student: a shipped student's name or a .safetensors file.
        preset: the wider preset.
        out: the .safetensors file to write: what `train --init` begins with.
        seed: of the random shares of copied channels.
    """

    student: str = positional()
    preset: str = dataclasses.field(kw_only=True)
    out: Path = dataclasses.field(kw_only=True)
    seed: int = dataclasses.field(default=0, kw_only=True)
