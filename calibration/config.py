"""Options of the quantiser, without importing torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from deploy.config import Convention, Pixels
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
        mixed: mixed.json of `sensitivity`: mixed.onnx is made too, with the convolutions in INT8 that its search left.
        method: how the range of an activation is found: max, or entropy (slower, cuts off rare large values).
        apc_form: how axial-planar convolutions are spelled: conv3d suits OpenVINO and INT8, conv2d onnxruntime.
        max_disp: disparity range of the graphs in pixels, a multiple of 32; as trained when left out.
        iterations: refinement steps of the graphs; as trained when left out.
        io, pixels, outputs: see `export`; of all graphs.
    """

    student: str = positional()
    frames: Path = dataclasses.field(kw_only=True)
    out: Path = dataclasses.field(kw_only=True)
    size: str = dataclasses.field(default="480x640", kw_only=True)
    frame_count: int = dataclasses.field(default=128, kw_only=True)
    selection: Selection = dataclasses.field(default="coverage", kw_only=True)
    calibration: Path | None = dataclasses.field(default=None, kw_only=True)
    mixed: Path | None = dataclasses.field(default=None, kw_only=True)
    seed: int = dataclasses.field(default=0, kw_only=True)
    method: CalibrationMethod = dataclasses.field(default="max", kw_only=True)
    apc_form: ApcForm = dataclasses.field(default="conv3d", kw_only=True)
    max_disp: int | None = dataclasses.field(default=None, kw_only=True)
    iterations: int | None = dataclasses.field(default=None, kw_only=True)
    io: Convention = dataclasses.field(default="stereodistill", kw_only=True)
    pixels: Pixels = dataclasses.field(default="float32", kw_only=True)
    outputs: list[str] = dataclasses.field(default_factory=list, kw_only=True)


@dataclasses.dataclass
class SensitivityConfig:
    """Options of `sensitivity`.

    Args:
        student: a shipped student's name or a .safetensors file.
        frames: the label set that calibration frames are drawn from.
        truth: what errors are measured on: a folder of pairs with truth, or of a benchmark; see `evaluate`.
        images: so many of its pairs, drawn as `evaluate` draws them; 0 takes all.
        out: folder for sensitivity.json, sensitivity.md, sensitivity.svg and mixed.json.
        size: image size of the graphs, HEIGHTxWIDTH, multiples of 32; pairs of other sizes are fitted.
        frame_count: calibration frames; all of the set when it has fewer.
        selection: how they are chosen; see `quantize`.
        seed: of their choice.
        method: how the range of an activation is found; see `quantize`.
        layers: ask each convolution, not each block.
        epe_budget_px: how much EPE the mixed-precision graph may lose against FP32, mean over the pairs.
        bad2_budget_points: how much bad-2 it may lose, in points.
        latency_budget: share of FP32's latency that it may take at most; goes before the budgets of errors.
        latency_on: where: here (measured, in --runtime openvino), or a BOARD@MODE that it is estimated for.
        runtime: what the graphs run in.
        threads: of it.
        max_disp: disparity range of the graphs in pixels, a multiple of 32; as trained when left out.
        iterations: refinement steps of the graphs; as trained when left out.
    """

    student: str = positional()
    frames: Path = dataclasses.field(kw_only=True)
    truth: Path = dataclasses.field(kw_only=True)
    images: int = dataclasses.field(default=0, kw_only=True)
    out: Path = dataclasses.field(kw_only=True)
    size: str = dataclasses.field(default="480x640", kw_only=True)
    frame_count: int = dataclasses.field(default=128, kw_only=True)
    selection: Selection = dataclasses.field(default="coverage", kw_only=True)
    seed: int = dataclasses.field(default=0, kw_only=True)
    method: CalibrationMethod = dataclasses.field(default="max", kw_only=True)
    layers: bool = dataclasses.field(default=False, kw_only=True)
    epe_budget_px: float = dataclasses.field(default=0.02, kw_only=True)
    bad2_budget_points: float = dataclasses.field(default=0.15, kw_only=True)
    latency_budget: float | None = dataclasses.field(default=None, kw_only=True)
    latency_on: str = dataclasses.field(default="here", kw_only=True)
    runtime: Literal["onnxruntime", "openvino"] = dataclasses.field(default="onnxruntime", kw_only=True)
    threads: int = dataclasses.field(default=1, kw_only=True)
    max_disp: int | None = dataclasses.field(default=None, kw_only=True)
    iterations: int | None = dataclasses.field(default=None, kw_only=True)
