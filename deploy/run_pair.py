"""One pair of any size through one runner: the only path from images to disparity in deploy.

# H, W network size; h, w image size
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deploy.runners.protocol import Floats, NativeMethod, Runner
from stereo.errors import UserError
from stereo.fit_size import Fit
from stereo.pair import Disparity, StereoPair

# Networks that take any size still halve it a few times; the students do so five times.
ANY_SIZE_MULTIPLE = 32


@dataclass(frozen=True)
class Prediction:
    """What came out for one pair.

    Args:
        disparity: float32 h×w px, NaN where there is none.
        nonfinite_pixels: how many of those a network left NaN or infinite; None for a native method, which may.
        fit: how the pair met the network; None for a native method.
    """

    disparity: Disparity
    nonfinite_pixels: int | None
    fit: Fit | None


def plan_fit(runner: Runner, height: int, width: int) -> Fit:
    """How an image of height × width px meets this runner's network."""
    if runner.input_size is None:
        return Fit.to_multiple(height, width, ANY_SIZE_MULTIPLE)
    return Fit.plan(height, width, runner.input_size)


def network_inputs(fit: Fit, pair: StereoPair) -> tuple[Floats, Floats]:
    """Left and right as 1×3×H×W."""
    return fit.apply(pair.left)[None], fit.apply(pair.right)[None]


def check_output(runner: Runner, output: Floats, size: tuple[int, int]) -> None:
    """Refuse an output that is not one disparity map of the input's size.

    Raises:
        UserError: another shape.
    """
    if output.shape != (1, 1, *size):
        raise UserError(f"{runner.runtime} put out {output.shape} for an input of {size}, not {(1, 1, *size)}",
                        fix="this is not a stereo network of this project")  # fmt: skip


def run_pair(method: Runner | NativeMethod, pair: StereoPair) -> Prediction:
    """Disparity of a pair at its own size.

    Raises:
        UserError: the network put out something else than one disparity map.
    """
    if isinstance(method, NativeMethod):
        disparity = method.predict(pair)
        return Prediction(np.where(np.isfinite(disparity), disparity, np.nan).astype(np.float32), None, None)
    fit = plan_fit(method, pair.height, pair.width)
    output = method.run(*network_inputs(fit, pair))
    check_output(method, output, fit.network)
    disparity = fit.undo(np.where(np.isfinite(output), output, np.nan).astype(np.float32)[0, 0])
    return Prediction(disparity, int(np.count_nonzero(~np.isfinite(disparity))), fit)
