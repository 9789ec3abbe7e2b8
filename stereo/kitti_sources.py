"""KITTI raw and KITTI odometry as stereo streams.

    DATE/calib_cam_to_cam.txt, DATE/DATE_drive_NNNN_sync/image_02/data/*.png     raw; *_extract is not rectified
    sequences/NN/calib.txt, sequences/NN/image_2/*.png                           odometry

Cameras 0 and 1 are gray, 2 and 3 colour. https://www.cvlibs.net/datasets/kitti/
"""

from __future__ import annotations

from pathlib import Path

from stereo.calibration_files import read_kitti_raw
from stereo.errors import UserError
from stereo.image_sources import ImagePairs, images_in
from stereo.pair import read_image
from stereo.rig_files import kitti_rig, kitti_stereo_sizes, rectified_rig
from stereo.source_kinds import (
    COLOUR,
    GRAY,
    SHORT_COLOUR,
    SHORT_GRAY,
    both_in,
    folders,
    is_odometry_sequence,
    is_raw_drive,
)
from stereo.source_options import Camera, SourceOptions
from stereo.sources import StereoSource


def only_one(found: list[Path], *, where: Path, what: str) -> Path:
    """The one path of a list.

    Raises:
        UserError: none, or several: a source is one recording with one calibration.
    """
    if len(found) == 1:
        return found[0]
    names = ", ".join(str(path.relative_to(where)) for path in found[:5]) + (", ..." if len(found) > 5 else "")
    if not found:
        raise UserError(f"no {what} in there", where=where, fix=f"give the folder of one {what}")
    raise UserError(f"{len(found)} {what}s in there: {names}", where=where, fix=f"give one of them: {found[0]}")


def chosen_cameras(
    folder: Path, camera: Camera, colour: tuple[str, str], gray: tuple[str, str], *, below: str = ""
) -> tuple[Path, Path]:
    """The folders of the two cameras that the options choose.

    Args:
        below: where in a camera's folder its images are.

    Raises:
        UserError: they are not there.
    """
    choices = {"colour": (colour,), "gray": (gray,), "auto": (colour, gray)}[camera]
    for left, right in choices:
        pair = folder / left / below, folder / right / below
        if all(each.is_dir() for each in pair):
            return pair
    there = [name for name in (*gray, *colour) if (folder / name).is_dir()]
    raise UserError(
        f"the {'stereo' if camera == 'auto' else camera} cameras {' or '.join('/'.join(each) for each in choices)} "
        f"are not both there, only {', '.join(there) or 'none'}",
        where=folder,
        fix="download both cameras of a pair, or choose the other with --source.camera",
    )


def open_raw(path: Path, right: Path | None, options: SourceOptions) -> StereoSource:
    """A drive of KITTI raw, rectified (`sync`) or not (`extract`); which of the two shows in the size of its images.

    Raises:
        UserError: no or several drives, no calibration, or one of other cameras.
    """
    drives = [path] if is_raw_drive(path) else folders(path, "*_drive_*", "*/*_drive_*")
    drive = only_one([each for each in drives if is_raw_drive(each)], where=path, what="drive")
    left, right_folder = chosen_cameras(drive, options.camera, COLOUR, GRAY, below="data")
    colour = left.parent.name == COLOUR[0]
    source = ImagePairs.two_folders(left, right_folder, kind="kitti_raw")
    calibration = drive.parent / "calib_cam_to_cam.txt"
    if not calibration.exists():
        raise UserError("no such calibration", where=calibration, fix="download the calibration of that day")
    sizes = kitti_stereo_sizes(calibration, colour=colour)
    files = images_in(left)
    size = read_image(files[0]).shape[:2] if files else sizes.rectified
    if size == sizes.rectified:
        source.rig, source.rectified = rectified_rig(calibration, colour=colour), True
    elif size == sizes.raw:
        source.calibration, source.rectified = read_kitti_raw(calibration, colour=colour), False
    else:
        raise UserError(
            f"the images are {size[1]}x{size[0]}, but the calibration is for {sizes.raw[1]}x{sizes.raw[0]} "
            f"(raw) or {sizes.rectified[1]}x{sizes.rectified[0]} (rectified), width x height",
            where=calibration,
            fix="take the calibration of the day on which the drive was recorded",
        )
    return source


def open_odometry(path: Path, right: Path | None, options: SourceOptions) -> StereoSource:
    """A sequence of KITTI odometry; its images are rectified.

    Raises:
        UserError: no or several sequences, or cameras that are not there.
    """
    found = [path] if is_odometry_sequence(path) else folders(path, "sequences/*")
    cameras = (SHORT_COLOUR, SHORT_GRAY)
    sequence = only_one([each for each in found if any(both_in(each, names) for names in cameras)], where=path,
                        what="sequence")  # fmt: skip
    left, right_folder = chosen_cameras(sequence, options.camera, SHORT_COLOUR, SHORT_GRAY)
    source = ImagePairs.two_folders(left, right_folder, kind="kitti_odometry")
    if (sequence / "calib.txt").exists():
        source.rig = kitti_rig(sequence / "calib.txt", colour=left.name == SHORT_COLOUR[0])
    source.rectified = True
    return source
