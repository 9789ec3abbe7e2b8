"""The Q/DQ graph of one calibration with float32 for all the rest: what studies of quantisation compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx

from calibration.config import CalibrationMethod
from calibration.frames import FrameRecord
from calibration.modelopt_process import run_modelopt
from calibration.modelopt_request import ModeloptRequest
from calibration.precision import nodes_kept_fp32
from stereo.label_set import LabelSet


def integer_graph(
    fp32: Path, folder: Path, *, labels: LabelSet, frames: Sequence[int], size: tuple[int, int],
    method: CalibrationMethod, keep_float: Sequence[str],
) -> tuple[onnx.ModelProto, list[FrameRecord]]:  # fmt: skip
    """Calibrate a graph.

    Args:
        fp32: the exported graph.
        folder: the child's working folder.
        labels, frames: the label set and the positions of the calibration frames.
        size: (H, W) of the graph.
        method: how activation ranges are found.
        keep_float: names of convolutions that are not quantised.

    Returns: the graph with the metadata that runners look for, and the frames as they went in.
    """
    original, made = onnx.load(fp32), folder / "integer.onnx"
    request = ModeloptRequest(
        fp32=str(fp32), int8=str(made), fp16=None, label_set=str(labels.path.resolve()), frames=list(frames), size=size,
        method=method, keep_fp32=nodes_kept_fp32(original), keep_float=list(keep_float),
    )  # fmt: skip
    records = run_modelopt(request, folder)
    model = onnx.load(made)
    # Converted graphs lose it.
    del model.metadata_props[:]
    model.metadata_props.extend(original.metadata_props)
    return model, records
