"""A calibration file beside one pair: the pair with its rig, rectified first where the file says that it is not.

| form | what is done |
|---|---|
| Middlebury, ETH3D `calib.txt` (`cam0=[...]`, `baseline`, `doffs`) | the rig is taken, the images stay |
| KITTI `calib.txt` (`P0: ...`), `calib_cam_to_cam.txt` (`P_rect_00: ...`) | the rig is taken, the images stay |
| FoundationStereo's `K.txt`: 9 numbers of K, then the baseline in metres | the rig is taken, the images stay |
| OpenCV or EuRoC YAML, Kalibr camchain | cameras as they are: the images are rectified, unless the cameras are ideal |

Forms of cameras that are not rectified are read by `stereo.calibration_files`.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np

from stereo.calibration_files import YAML_SUFFIXES, read_calibration
from stereo.calibration_model import StereoCalibration
from stereo.errors import UserError
from stereo.pair import Rig, StereoPair, read_bytes
from stereo.rectification import Rectifier
from stereo.rig_files import COLOUR_FOLDERS, kitti_rig, kitti_stereo_sizes, middlebury_rig, rectified_rig

FORMS = "Middlebury, KITTI, K.txt of FoundationStereo, OpenCV YAML, Kalibr and EuRoC are known"
# px: a row offset or difference of focal lengths below this moves no match by a sixteenth of a pixel.
IDEAL_PX = 0.05
IDEAL_RAD = 1e-5


def calibrated(pair: StereoPair, path: Path | str, *, left: Path | str = "") -> StereoPair:
    """The pair with the rig that a calibration file tells, rectified when the cameras of the file are not.

    Args:
        pair: as the files have it.
        path: the calibration.
        left: the left image's path; a folder `image_2` means KITTI's colour cameras.

    Raises:
        UserError: no known form, a field that is missing, or another image size than the calibration's.
    """
    path = Path(path)
    try:
        if path.suffix.lower() in YAML_SUFFIXES or path.is_dir():
            return by_cameras(pair, read_calibration(path))
        rig, size = rectified_form(path, colour=Path(left).parent.name in COLOUR_FOLDERS)
        check_size(size, pair)
    except UserError as error:
        if error.where is not None:
            raise
        raise UserError(error.what, where=path, fix=error.fix) from error
    return dataclasses.replace(pair, rig=rig)


def check_size(size: tuple[int, int] | None, pair: StereoPair) -> None:
    """Refuse a calibration of another image size, (H, W); its focal length would be wrong.

    Raises:
        UserError: it is.
    """
    if size is not None and size != (pair.height, pair.width):
        raise UserError(
            f"the calibration is for {size[1]}x{size[0]} px, the images have {pair.width}x{pair.height} "
            "(width x height)",
            fix="give images of that size, or the scaled numbers with --focal-px --baseline-m --doffs-px",
        )


def by_cameras(pair: StereoPair, calibration: StereoCalibration) -> StereoPair:
    """The pair under a calibration of two cameras as they are."""
    check_size(calibration.size, pair)
    rig = ideal_rig(calibration)
    if rig is None:
        return Rectifier(calibration, (pair.height, pair.width)).apply(pair)
    return dataclasses.replace(pair, rig=rig)


def ideal_rig(calibration: StereoCalibration) -> Rig | None:
    """The rig of cameras whose images are rectified as they are; None of others."""
    left, right = calibration.left, calibration.right
    turned = np.abs(calibration.rotation - np.eye(3)).max() > IDEAL_RAD
    shifted = np.abs(calibration.translation[1:]).max() > IDEAL_RAD * calibration.baseline_m
    focal_px = left.matrix[0, 0]
    focals = (left.matrix[1, 1], right.matrix[0, 0], right.matrix[1, 1])
    differing = any(abs(other - focal_px) > IDEAL_PX for other in focals)
    differing |= abs(left.matrix[1, 2] - right.matrix[1, 2]) > IDEAL_PX
    lenses = any((*left.distortion, *right.distortion)) or "fisheye" in (left.model, right.model)
    if turned or shifted or differing or lenses or calibration.right_first:
        return None
    return Rig(
        float(focal_px),
        calibration.baseline_m,
        float(right.matrix[0, 2] - left.matrix[0, 2]),
        cx=float(left.matrix[0, 2]),
        cy=float(left.matrix[1, 2]),
    )


def rectified_form(path: Path, *, colour: bool) -> tuple[Rig, tuple[int, int] | None]:
    """Rig and (H, W) of a text file about rectified images; None where it does not tell the size.

    Raises:
        UserError: no known form, or a field that is missing.
    """
    text = read_bytes(path, what="calibration").decode("utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if any(line.startswith("cam0") for line in lines):
        return middlebury_rig(path), middlebury_size(lines)
    if any(re.match(r"(P_rect_\d\d|K_\d\d|calib_time)\s*:", line) for line in lines):
        return rectified_rig(path, colour=colour), kitti_stereo_sizes(path, colour=colour).rectified
    first = lines[0] if lines else ""
    if re.match(r"P\d\s*:", first) or len(first.split()) == 12:
        return kitti_rig(path, colour=colour), None
    if ":" not in text and "=" not in text:
        return flat_rig(text.split(), path), None
    raise UserError("no form of calibration that is known", where=path, fix=FORMS)


def middlebury_size(lines: list[str]) -> tuple[int, int] | None:
    """(H, W) of a Middlebury calibration."""
    fields = dict(re.findall(r"^(width|height)\s*=\s*(\d+)$", "\n".join(lines), re.MULTILINE))
    return (int(fields["height"]), int(fields["width"])) if len(fields) == 2 else None


def flat_rig(words: list[str], path: Path) -> Rig:
    """The rig of a `K.txt`: nine numbers row by row, then the baseline in metres.

    Raises:
        UserError: another count, or not a camera matrix.
    """
    try:
        values = [float(word) for word in words]
    except ValueError as error:
        raise UserError("no form of calibration that is known", where=path, fix=FORMS) from error
    if len(values) != 10:
        raise UserError(
            f"holds {len(values)} numbers, K.txt has 9 of the camera matrix and then the baseline in metres",
            where=path,
            fix="add what is missing, or give --focal-px and --baseline-m",
        )
    if values[6:9] != [0, 0, 1] or values[0] <= 0:
        raise UserError(f"not a camera matrix: {values[:9]}", where=path, fix="expected fx 0 cx 0 fy cy 0 0 1")
    return Rig(values[0], values[9], cx=values[2], cy=values[5])
