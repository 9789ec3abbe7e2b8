"""Rigs on disk: KITTI's `calib.txt`, which lies beside the folders of the views.

One projection matrix per line, 12 numbers, row by row: KITTI odometry writes `P0: ...` to `P3: ...`, some copies only
the numbers. P0 and P1 are the gray cameras (`image_0 image_1`), P2 and P3 the colour ones (`image_2 image_3`).
Format: https://www.cvlibs.net/datasets/kitti/eval_odometry.php
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stereo.errors import UserError
from stereo.pair import Rig, read_bytes

KITTI_NAME = "calib.txt"
COLOUR_FOLDERS = ("image_2", "image_02")

log = logging.getLogger(__name__)


def projections(path: Path) -> list[npt.NDArray[np.float64]]:
    """The 3×4 projection matrices of a KITTI calibration, in order; other lines (`Tr: ...`) are left out.

    Raises:
        UserError: a line is not made of numbers, or there are fewer than two matrices.
    """
    matrices = []
    for line in read_bytes(path, what="calibration").decode("utf-8", errors="replace").splitlines():
        name, colon, numbers = line.rpartition(":")
        if colon and not name.strip().startswith("P"):
            continue
        try:
            values = [float(word) for word in numbers.split()]
        except ValueError as error:
            raise UserError(
                f"not a KITTI calibration: {error}", where=path, fix="expected 12 numbers a line"
            ) from error
        if len(values) == 12:
            matrices.append(np.array(values).reshape(3, 4))
    if len(matrices) < 2:
        raise UserError(f"{len(matrices)} projection matrices, a stereo rig has two", where=path)
    return matrices


def kitti_rig(path: Path | str, *, colour: bool = False) -> Rig:
    """The rig of a KITTI calibration.

    The first camera's offset is subtracted, because P2 and P3 are both written relative to camera 0.

    Args:
        path: calib.txt.
        colour: take P2 and P3 instead of P0 and P1.

    Raises:
        UserError: unreadable, or the second camera is not to the right of the first.
    """
    matrices = projections(Path(path))
    first = 2 if colour and len(matrices) >= 4 else 0
    left, right = matrices[first], matrices[first + 1]
    return Rig(
        focal_px=float(left[0, 0]),
        baseline_m=float((left[0, 3] - right[0, 3]) / left[0, 0]),
        doffs_px=float(right[0, 2] - left[0, 2]),
        cx=float(left[0, 2]),
        cy=float(left[1, 2]),
    )


def rig_beside(left_folder: Path) -> Rig | None:
    """The rig that a `calib.txt` beside a view's folder tells.

    None without such a file, and with a warning when it has another form: labelling needs no rig.
    """
    path = left_folder.parent / KITTI_NAME
    if not path.exists():
        return None
    try:
        return kitti_rig(path, colour=left_folder.name in COLOUR_FOLDERS)
    except UserError as error:
        log.warning("the rig stays unknown: %s", error)
        return None
