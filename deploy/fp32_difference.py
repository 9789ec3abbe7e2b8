"""Variants compared with the FP32 variant of the same student, map by map, while `evaluate` runs one after the other.

The maps of the FP32 variant are kept in memory, of those images that pictures are saved of: few, whatever the data.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from deploy.results import Difference, ModelFacts
from deploy.runners.protocol import Runner
from stereo.pair import Disparity

# Twenty bins on either side of zero; what moved further is counted at the ends.
EDGES_PX = tuple(round(0.05 * step, 2) for step in range(-20, 21))


@dataclass
class Histogram:
    """Collects differences from one FP32 variant.

    Args:
        base: the FP32 variant.
        maps: its disparity by image, float32 H×W px.
    """

    base: ModelFacts
    maps: dict[str, Disparity]
    images: int = 0
    pixels: int = 0
    total_px: float = 0.0
    total_abs_px: float = 0.0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(len(EDGES_PX) + 1, np.int64))

    def see(self, image: str, disparity: Disparity) -> None:
        """Compare one image, where the FP32 variant's map of it is known."""
        base = self.maps.get(image)
        if base is None:
            return
        moved = (disparity.astype(np.float64) - base).ravel()
        moved = moved[np.isfinite(moved)]
        self.images += 1
        self.pixels += moved.size
        self.total_px += float(moved.sum())
        self.total_abs_px += float(np.abs(moved).sum())
        bins = np.searchsorted(np.array(EDGES_PX), moved, side="right")
        self.counts += np.bincount(bins, minlength=len(EDGES_PX) + 1)

    def difference(self) -> Difference | None:
        """What was found; None when no pixel could be compared."""
        if not self.pixels:
            return None
        return Difference(
            to_variant=self.base.variant, to_sha256=self.base.sha256, images=self.images, pixels=self.pixels,
            mean_px=self.total_px / self.pixels, mean_abs_px=self.total_abs_px / self.pixels, edges_px=EDGES_PX,
            counts=tuple(int(count) for count in self.counts),
        )  # fmt: skip


@dataclass
class Recorder:
    """Keeps the maps of an FP32 variant."""

    maps: dict[str, Disparity]
    wanted: frozenset[str]

    def see(self, image: str, disparity: Disparity) -> None:
        """Keep one image's map, when it is among the wanted ones."""
        if image in self.wanted:
            self.maps[image] = disparity

    def difference(self) -> None:
        """The FP32 variant differs from itself by nothing."""
        return None


class Fp32Maps:
    """Who is compared with whom.

    Args:
        wanted: names of the images to compare.
    """

    def __init__(self, wanted: Iterable[str]) -> None:
        self.wanted = frozenset(wanted)
        self._kept: dict[tuple[object, ...], tuple[ModelFacts, dict[str, Disparity]]] = {}

    def watch(self, model: ModelFacts, runner: Runner) -> Recorder | Histogram | None:
        """What looks at a variant's maps: a recorder at an FP32 variant, a histogram at those made of the same student.

        Returns: None where nothing is known to compare with.
        """
        if model.source_sha256 is None:
            return None
        key = (model.source_sha256, runner.runtime, runner.input_size)
        if (model.precision, runner.precision_hint) == ("fp32", "f32"):
            # One student at a time: maps of an earlier one would only fill memory.
            self._kept = {kept: value for kept, value in self._kept.items() if kept[0] == model.source_sha256}
            self._kept[key] = (model, {})
            return Recorder(self._kept[key][1], self.wanted)
        return Histogram(*self._kept[key]) if key in self._kept else None
