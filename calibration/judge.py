"""Scores of graphs on the same pairs: errors against the truth, and how far the map moves from FP32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from calibration.difference import FAR_PX
from deploy.run_pair import run_pair
from deploy.runners.registry import open_runner
from stereo.artifacts import read_json, sha256_bytes, write_json
from stereo.errors import UserError
from stereo.metrics import errors_against_truth
from stereo.pair import Disparity, StereoPair


@dataclass(frozen=True)
class Score:
    """Errors of a graph over all pairs.

    Args:
        epe_px, bad2_pct: means over the pairs.
        max_error_px: largest of all pixels.
        moved_px, moved_max_px: mean and largest difference from FP32, over all pixels with truth or without.
        moved_far_pct: share of pixels that move by more than 3 px.
    """

    epe_px: float
    bad2_pct: float
    max_error_px: float
    moved_px: float
    moved_max_px: float
    moved_far_pct: float


class Judge:
    """Scores graphs on the same pairs.

    Args:
        pairs: with true disparity.
        folder: for graphs while they are measured.
        runtime, threads: what they run in.
        kept: file in which scores are kept, so that a study that is stopped goes on; None keeps none.
        identity: of the pairs; scores of other pairs are not taken up.
    """

    def __init__(
        self, pairs: Sequence[StereoPair], folder: Path, *, runtime: str, threads: int, kept: Path | None = None,
        identity: str = "",
    ) -> None:  # fmt: skip
        self._pairs, self._folder, self._runtime, self._threads = pairs, folder, runtime, threads
        self._plain: list[Disparity] = []
        self._kept, self._identity = kept, f"{identity} {runtime}"
        self._known: dict[str, Any] = {}
        if kept is not None and kept.exists():
            self._known = read_json(kept, what="file of scores")

    def score(self, model: onnx.ModelProto) -> Score:
        """Errors of a graph; the first one, FP32, is what later ones are compared with.

        Raises:
            UserError: it gives NaN or infinity.
        """
        digest = sha256_bytes(self._identity.encode() + model.SerializeToString(deterministic=True))
        if self._plain and digest in self._known:
            return Score(**self._known[digest])
        maps = self._run(model)
        self._plain = self._plain or maps
        score = self._compare(maps)
        self._known[digest] = asdict(score)
        if self._kept is not None:
            write_json(self._kept, self._known)
        return score

    def _run(self, model: onnx.ModelProto) -> list[Disparity]:
        path = self._folder / "judged.onnx"
        onnx.save(model, path)
        runner = open_runner(path, self._runtime, threads=self._threads)
        try:
            found = [run_pair(runner, pair) for pair in self._pairs]
        finally:
            runner.close()
        for prediction, pair in zip(found, self._pairs, strict=True):
            if prediction.nonfinite_pixels:
                raise UserError(f"{prediction.nonfinite_pixels} pixels of a graph are NaN or infinite", where=pair.name,
                                fix="train the student further, or report which student this is")  # fmt: skip
        return [prediction.disparity for prediction in found]

    def _compare(self, maps: Sequence[Disparity]) -> Score:
        errors = []
        for disparity, pair in zip(maps, self._pairs, strict=True):
            assert pair.disparity is not None
            errors.append(errors_against_truth(disparity, pair.disparity, mask=pair.noc))
        moved = np.concatenate([np.abs(a - b).ravel() for a, b in zip(maps, self._plain, strict=True)])
        return Score(
            epe_px=float(np.mean([error.epe_px for error in errors])),
            bad2_pct=float(np.mean([error.bad2_pct for error in errors])),
            max_error_px=float(np.max([error.max_error_px for error in errors])),
            moved_px=float(moved.mean()),
            moved_max_px=float(moved.max()),
            moved_far_pct=100.0 * float((moved > FAR_PX).mean()),
        )
