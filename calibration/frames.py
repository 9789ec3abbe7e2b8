"""Which frames of a label set calibrate a student, and how they reach the graph.

Chosen for what they show (`calibration.coverage`) by default. The other ways look at no frame: stratified cuts the set
into as many equal stretches as frames are wanted and draws one from each, random draws from the whole set, consecutive
takes one stretch, as whoever calibrates on the first seconds of a video does. Every choice is a function of the set,
the number and the seed; the manifest and calibration.json list the frames and the checksums of the pixels that went in,
and a calibration can be repeated from the latter.

    # H height, W width of the graph
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration.config import Selection
from calibration.coverage import cover
from stereo.errors import UserError
from stereo.fit_size import Fit
from stereo.label_set import LabelSet

# Ranges found on fewer frames change visibly with the seed.
FEW_FRAMES = 16

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrameRecord:
    """One frame as it went into the calibration.

    Args:
        index: position in the label set.
        name: of the frame.
        fit: "as is", "padded" or "scaled": how it came to the graph's size.
        sha256: of the left and right pixels after fitting, uint8, left first.
    """

    index: int
    name: str
    fit: str
    sha256: str


@dataclass(frozen=True)
class Choice:
    """The calibration frames of a run.

    Args:
        indices: their positions in the label set, ascending.
        selection: how they were chosen; begins with "repeated: " when they are those of an earlier run.
        seed: of the choice.
        asked: frames wanted.
        covering_radius: coverage alone: how far the worst covered frame is from them; `calibration.coverage`'s units.
    """

    indices: list[int]
    selection: str
    seed: int
    asked: int
    covering_radius: float | None = None


def choose_frames(labels: LabelSet, count: int, *, selection: Selection, seed: int) -> Choice:
    """Choose the frames to calibrate on; warns when they are few.

    Args:
        labels: the label set.
        count: frames wanted; all are taken when there are not more.
        selection: how; see the module.
        seed: of the draw; coverage has none.

    Raises:
        UserError: nothing wanted, or nothing there.
    """
    total = len(labels)
    if selection != "coverage" or count < 1 or count >= total:
        return Choice(draw_frames(total, count, selection=selection, seed=seed), selection, seed, count)
    warn_if_few(total, count)
    indices, radius = cover(labels, count)
    return Choice(indices, selection, seed, count, round(radius, 4))


def draw_frames(total: int, count: int, *, selection: Selection, seed: int) -> list[int]:
    """Positions of the frames to calibrate on, ascending, without looking at any; warns when they are few.

    Args:
        total: frames in the label set.

    Raises:
        UserError: nothing wanted, or nothing there.
    """
    if count < 1:
        raise UserError(f"{count} calibration frames", where="--frame_count", fix=f"{FEW_FRAMES} or more")
    if total < 1:
        raise UserError("the label set has no frame to calibrate on", fix="run `stereodistill label` first")
    warn_if_few(total, count)
    if count >= total:
        return list(range(total))
    generator = np.random.default_rng(seed)
    if selection == "random":
        return sorted(generator.choice(total, count, replace=False).tolist())
    if selection == "consecutive":
        first = int(generator.integers(total - count + 1))
        return list(range(first, first + count))
    borders = np.arange(count + 1) * total // count
    return generator.integers(borders[:-1], borders[1:]).tolist()


def warn_if_few(total: int, count: int) -> None:
    """Say so when the frames are too few to represent a camera."""
    if min(count, total) < FEW_FRAMES:
        log.warning(
            "calibrating on %d frames (%d asked for, the label set has %d): %d or more represent a camera better",
            min(count, total), count, total, FEW_FRAMES,
        )  # fmt: skip


@dataclass(frozen=True)
class FittedFrame:
    """A frame at the graph's size.

    Args:
        left, right: float32 1×3×H×W, raw RGB 0–255.
        fit: how it came there.
        record: for the manifest.
    """

    left: npt.NDArray[np.float32]
    right: npt.NDArray[np.float32]
    fit: Fit
    record: FrameRecord

    def without_padding(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The part of a map H×W that shows the image and not the padding."""
        height, width = self.fit.resized
        return values[self.fit.top : self.fit.top + height, self.fit.left : self.fit.left + width]


def read_fitted(labels: LabelSet, index: int, size: tuple[int, int]) -> FittedFrame:
    """Read a frame, verify its checksums and bring it to the graph's size as `predict` does.

    Args:
        size: (H, W) of the graph.

    Raises:
        UserError: a file of the frame is missing or altered.
    """
    frame = labels.read(index)
    height, width = frame.left.shape[:2]
    fit = Fit.plan(height, width, size)
    left, right = fit.image(frame.left), fit.image(frame.right)
    how = "scaled" if fit.resized != (height, width) else "padded" if (height, width) != size else "as is"
    digest = hashlib.sha256(left.tobytes())
    digest.update(right.tobytes())
    record = FrameRecord(index, frame.name, how, digest.hexdigest())
    return FittedFrame(network_input(left), network_input(right), fit, record)


def network_input(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """uint8 H×W×3 → float32 1×3×H×W."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32)


def describe(records: Sequence[FrameRecord], choice: Choice, *, total: int) -> dict[str, Any]:
    """The part of the manifest that tells about the frames; warns when they repeat each other."""
    distinct = len({record.sha256 for record in records})
    fits = Counter(record.fit for record in records)
    if 2 * distinct <= len(records) and len(records) > 1:
        log.warning("only %d of the %d calibration frames differ from each other", distinct, len(records))
    if changed := len(records) - fits["as is"]:
        log.info("%d of %d calibration frames were fitted: %d padded, %d scaled", changed, len(records),
                 fits["padded"], fits["scaled"])  # fmt: skip
    return {
        "selection": choice.selection,
        "seed": choice.seed,
        "covering_radius": choice.covering_radius,
        "asked_for": choice.asked,
        "in_label_set": total,
        "used": len(records),
        "distinct": distinct,
        "fits": {how: fits[how] for how in ("as is", "padded", "scaled")},
        "frames": [asdict(record) for record in records],
    }
