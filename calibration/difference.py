"""How far the disparity of a converted graph is from that of its FP32 original, on the same frames in one runtime.

# H height, W width
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration.frames import FittedFrame, read_fitted
from deploy.runners.registry import open_runner
from stereo.errors import UserError
from stereo.label_set import LabelSet

# The reference runtime of the project: it runs every variant everywhere.
RUNTIME = "onnxruntime"
# A pixel that moves by more than this is an outlier of the quantisation.
FAR_PX = 3.0


@dataclass(frozen=True)
class Difference:
    """Absolute differences from the FP32 graph over all pixels of some frames, padding left out.

    In px of the graph's resolution.

    Args:
        frames: how many.
        mean_px, p99_px, max_px: of the absolute difference.
        over_3_px_pct: share of pixels that move by more than 3 px, percent.
        runtime: in which both ran.
    """

    frames: int
    mean_px: float
    p99_px: float
    max_px: float
    over_3_px_pct: float
    runtime: str = RUNTIME


def differences_from_fp32(
    folder: Path, roles: Sequence[str], *, labels: LabelSet, frames: Sequence[int], size: tuple[int, int]
) -> dict[str, Difference]:
    """Run all graphs on the same frames.

    Args:
        folder: holds fp32.onnx, the reference, and ROLE.onnx for each role.
        frames: positions in the label set.
        size: (H, W) of the graphs.

    Raises:
        UserError: a graph gives NaN or infinity.
    """
    read = [read_fitted(labels, index, size) for index in frames]
    wanted = run(folder / "fp32.onnx", read)
    found: dict[str, Difference] = {}
    for role in roles:
        moved = np.abs(run(folder / f"{role}.onnx", read) - wanted)
        found[role] = Difference(
            frames=len(frames),
            mean_px=round(float(moved.mean()), 6),
            p99_px=round(float(np.quantile(moved, 0.99)), 6),
            max_px=round(float(moved.max()), 6),
            over_3_px_pct=round(100.0 * float((moved > FAR_PX).mean()), 4),
        )
    return found


def run(path: Path, frames: Sequence[FittedFrame]) -> np.ndarray:
    """Disparities of all frames without their padding, in one row of float32.

    Raises:
        UserError: one of them is NaN or infinite.
    """
    runner = open_runner(path, RUNTIME, threads=1)
    try:
        disparities = [frame.without_padding(runner.run(frame.left, frame.right)[0, 0]).ravel() for frame in frames]
    finally:
        runner.close()
    joined = np.concatenate(disparities)
    if not np.isfinite(joined).all():
        raise UserError("the graph gives NaN or infinite disparities", where=path.name,
                        fix="train the student further, or report which student this is")  # fmt: skip
    return joined
