"""Rigs on disk, of images that are rectified: KITTI's `calib.txt` and `calib_cam_to_cam.txt`, Middlebury's `calib.txt`.

How cameras are calibrated whose images are *not* rectified is read in `stereo.calibration_files`.

KITTI's `calib.txt` lies beside the folders of the views. One projection matrix per line, 12 numbers, row by row: KITTI
odometry writes `P0: ...` to `P3: ...`, some copies only the
numbers. P0 and P1 are the gray cameras (`image_0 image_1`), P2 and P3 the colour ones (`image_2 image_3`).
Format: https://www.cvlibs.net/datasets/kitti/eval_odometry.php
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
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
    return rig_of(matrices[first], matrices[first + 1])


def rig_of(left: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> Rig:
    """The rig of two 3×4 projection matrices of rectified views, in metres.

    Raises:
        UserError: the second camera is not to the right of the first.
    """
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


@dataclass(frozen=True)
class KittiSizes:
    """(H, W) px of KITTI's images before and after they are rectified."""

    raw: tuple[int, int]
    rectified: tuple[int, int]


def kitti_fields(path: Path, names: list[str], count: int) -> list[npt.NDArray[np.float64]]:
    """Fields of a `calib_cam_to_cam.txt`, `count` numbers each.

    Raises:
        UserError: one is missing, or has another number of numbers.
    """
    lines = read_bytes(path, what="calibration").decode("utf-8", errors="replace").splitlines()
    values = {name.strip(): rest.split() for name, colon, rest in (line.partition(":") for line in lines) if colon}
    found = []
    for name in names:
        try:
            numbers = np.array([float(word) for word in values.get(name, [])])
        except ValueError as error:
            raise UserError(f"'{name}' does not hold numbers: {error}", where=path) from error
        if len(numbers) != count:
            raise UserError(
                f"'{name}' holds {len(numbers)} numbers, expected {count}", where=path, fix="copy the calibration again"
            )
        found.append(numbers)
    return found


def kitti_stereo_sizes(path: Path, *, colour: bool) -> KittiSizes:
    """What sizes the images of a `calib_cam_to_cam.txt` have, not rectified and rectified.

    Raises:
        UserError: unreadable.
    """
    camera = "02" if colour else "00"
    raw, rectified = kitti_fields(path, [f"S_{camera}", f"S_rect_{camera}"], 2)
    return KittiSizes((int(raw[1]), int(raw[0])), (int(rectified[1]), int(rectified[0])))


def rectified_rig(path: Path, *, colour: bool) -> Rig:
    """The rig of the rectified images of a `calib_cam_to_cam.txt` (KITTI raw, KITTI 2015).

    Raises:
        UserError: unreadable, or the second camera is not to the right of the first.
    """
    first, second = ("02", "03") if colour else ("00", "01")
    left, right = kitti_fields(path, [f"P_rect_{first}", f"P_rect_{second}"], 12)
    return rig_of(left.reshape(3, 4), right.reshape(3, 4))


def middlebury_rig(path: Path) -> Rig:
    """The rig of a Middlebury 2014 (and ETH3D) `calib.txt`: `cam0=[f 0 cx; 0 f cy; 0 0 1]`, `baseline` in mm, `doffs`.
    Raises:
        UserError: a field is missing.
    """
    text = read_bytes(path, what="calibration").decode("utf-8", errors="replace")
    fields = {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in text.splitlines())}
    try:
        matrix = [float(word) for word in re.findall(r"[-+.\deE]+", fields["cam0"])]
        baseline, doffs = float(fields["baseline"]), float(fields.get("doffs", 0))
        focal_px, cx, cy = matrix[0], matrix[2], matrix[5]
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(
            f"not a Middlebury calibration: {error}", where=path, fix="expected cam0=[...], doffs=, baseline="
        ) from error
    return Rig(focal_px, baseline / 1000, doffs, cx=cx, cy=cy)
