"""What every runtime looks like to the rest of the project: raw RGB in, disparity out, and the truth about itself.

# B batch (1), H height, W width
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from stereo.pair import Disparity, StereoPair

Floats = npt.NDArray[np.float32]


class Runner(Protocol):
    """One compiled model.

    Args:
        runtime, runtime_version: of the library that computes.
        precision_hint: the arithmetic it uses for what the graph leaves open, as read back from it: "f32", "bf16".
        threads: how many it may use for one pair.
        input_size: (H, W) in pixels when the model has one size, None when it takes any.
        metadata: the model's own facts under `stereodistill.`, and what the runtime told after compiling under
            `runtime.`.
    """

    runtime: str
    runtime_version: str
    precision_hint: str
    threads: int
    input_size: tuple[int, int] | None
    metadata: dict[str, str]

    def run(self, left: Floats, right: Floats) -> Floats:
        """Disparity of one pair.

        Args:
            left, right: float32 1×3×H×W, raw RGB 0–255.

        Returns:
            float32 1×1×H×W, px of that size; an array that later runs leave alone.
        """
        ...

    def close(self) -> None:
        """Free the runtime's memory; `run` must not be called afterwards."""
        ...


@runtime_checkable
class RunsWithoutCopies(Protocol):
    """What a runner may offer beyond `Runner` when its device has memory of its own, or could."""

    def run_without_copies(self) -> None:
        """Repeat the last inference on the buffers already on the device, and return when it is finished."""
        ...


@runtime_checkable
class TellsLayerTimes(Protocol):
    """What a runner may offer beyond `Runner` when its runtime profiles a model that is already open."""

    def layer_times_ms(self) -> dict[str, float]:
        """Mean time of each layer on the last inputs, by the name that the runtime gives it."""
        ...


@runtime_checkable
class TellsProblems(Protocol):
    """What a runner may offer beyond `Runner` when it knows why its numbers are not what they seem.

    Args:
        problems: one sentence each, for `deploy.results.ResultRow`.
    """

    problems: tuple[str, ...]


@dataclass(frozen=True)
class NativeMethod:
    """A method that takes a pair as it is, with its own pre- and post-processing: a teacher, or OpenCV's SGBM.

    Args:
        predict: pair → disparity, float32 H×W px of the pair's size, NaN where it has none.
        runtime, runtime_version, precision_hint, threads: as for `Runner`.
    """

    predict: Callable[[StereoPair], Disparity]
    runtime: str
    runtime_version: str
    precision_hint: str
    threads: int


def problems_of(method: Runner | NativeMethod) -> tuple[str, ...]:
    """What a reader of any number of this method must know; empty for most."""
    return method.problems if isinstance(method, TellsProblems) else ()
