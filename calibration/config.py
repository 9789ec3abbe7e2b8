"""Options of the quantiser, without importing torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from stereo.options import positional

ApcForm = Literal["conv3d", "conv2d"]
CalibrationMethod = Literal["max", "entropy"]
Selection = Literal["coverage", "stratified", "random", "consecutive"]


@dataclasses.dataclass
class QuantizeConfig:
    """Options of `quantize`.

    Args:
        student: a shipped student's name or a .safetensors file.
        frames: the label set that calibration frames are drawn from.
        out: folder for fp32.onnx, fp16.onnx, int8.onnx, calibration.json and their manifest.
        size: image size of the graphs, HEIGHTxWIDTH, multiples of 32.
        frame_count: calibration frames; all of the set when it has fewer.
        selection: how frames are chosen: coverage of what the set shows, stratified over its length, random, or
            consecutive; coverage decodes up to a thousand frames first.
        seed: of the choice of frames; coverage has none.
        calibration: calibration.json of an earlier run, whose frames are taken again, in place of a choice.
        method: how the range of an activation is found: max, or entropy (slower, cuts off rare large values).
        apc_form: how axial-planar convolutions are spelled: conv3d suits OpenVINO and INT8, conv2d onnxruntime.
        max_disp: disparity range of the graphs in pixels, a multiple of 32; as trained when left out.
        iterations: refinement steps of the graphs; as trained when left out.
    """

    student: str = positional()
    frames: Path = dataclasses.field(kw_only=True)
    out: Path = dataclasses.field(kw_only=True)
    size: str = dataclasses.field(default="480x640", kw_only=True)
    frame_count: int = dataclasses.field(default=128, kw_only=True)
    selection: Selection = dataclasses.field(default="coverage", kw_only=True)
    calibration: Path | None = dataclasses.field(default=None, kw_only=True)
    seed: int = dataclasses.field(default=0, kw_only=True)
    method: CalibrationMethod = dataclasses.field(default="max", kw_only=True)
    apc_form: ApcForm = dataclasses.field(default="conv3d", kw_only=True)
    max_disp: int | None = dataclasses.field(default=None, kw_only=True)
    iterations: int | None = dataclasses.field(default=None, kw_only=True)
