"""Calibrations on disk: OpenCV YAML, Kalibr camchain, KITTI raw, EuRoC.

| form | files | what is read |
|---|---|---|
| OpenCV | one YAML, or `intrinsics.yml extrinsics.yml` as OpenCV's samples write them | K1 D1 K2 D2 R T |
| Kalibr | `camchain*.yaml` | cam0 cam1: intrinsics, distortion, T_cn_cnm1 |
| KITTI raw | `calib_cam_to_cam.txt` | K D R T of cameras 00 and 01, or 02 and 03: of the *unrectified* images |
| EuRoC | `mav0/cam0/sensor.yaml mav0/cam1/sensor.yaml` | intrinsics, distortion, T_BS |

https://github.com/ethz-asl/kalibr/wiki/yaml-formats, https://www.cvlibs.net/datasets/kitti/raw_data.php
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stereo.calibration_model import CameraModel, LensModel, StereoCalibration
from stereo.errors import UserError
from stereo.pair import read_bytes
from stereo.yaml_files import read_yaml

KITTI_RAW_NAME = "calib_cam_to_cam.txt"
EUROC_SENSOR = "sensor.yaml"
OPENCV_SPLIT = ("intrinsics", "extrinsics")
YAML_SUFFIXES = (".yaml", ".yml")
# Names that OpenCV's samples, ROS tools and their descendants give to the same thing; {} is the camera, 1 or 2.
CAMERA_MATRIX = ("K{}", "M{}", "cameraMatrix{}", "camera_matrix_{}", "camera_matrix{}", "mtx{}", "CM{}")
DISTORTION = ("D{}", "distCoeffs{}", "dist_coeffs_{}", "dist_coeffs{}", "distortion_coefficients_{}", "dist{}")
LENSES: dict[str, LensModel] = {
    "radtan": "pinhole", "radial-tangential": "pinhole", "plumb_bob": "pinhole", "rational_polynomial": "pinhole",
    "pinhole": "pinhole", "none": "pinhole", "equidistant": "fisheye", "equi": "fisheye", "fisheye": "fisheye",
}  # fmt: skip

Numbers = npt.NDArray[np.float64]


def numbers(value: Any, *, name: str, where: Path, count: int | None = None) -> Numbers:
    """The numbers of a field, in reading order: a list, a list of rows, or a matrix with `data`.

    Raises:
        UserError: not numbers, or not `count` of them.
    """
    if isinstance(value, Mapping):
        value = value.get("data")
    try:
        found = np.asarray(value, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise UserError(f"'{name}' does not hold numbers: {str(value)[:80]}", where=where) from error
    if value is None or (count is not None and found.size != count):
        raise UserError(f"'{name}' holds {0 if value is None else found.size} numbers, expected {count}", where=where)
    return found


def field(values: Mapping[str, Any], *names: str, where: Path) -> tuple[str, Any]:
    """The first of some names that is there, with its value.

    Raises:
        UserError: none is there.
    """
    for name in names:
        if name in values:
            return name, values[name]
    others = f" (nor {', '.join(names[1:])})" if names[1:] else ""
    raise UserError(f"no field '{names[0]}'{others}", where=where, fix=f"fields found: {', '.join(map(str, values))}")


def lens(name: Any, *, where: Path) -> LensModel:
    """The lens model that a file calls `name`.

    Raises:
        UserError: a model that is not supported.
    """
    found = LENSES.get(str(name).lower())
    if found is None:
        raise UserError(f"distortion model '{name}'", where=where, fix=f"supported: {', '.join(LENSES)}")
    return found


def matrix_of(intrinsics: Numbers) -> Numbers:
    """fu fv pu pv → 3×3."""
    fu, fv, pu, pv = intrinsics
    return np.array([[fu, 0, pu], [0, fv, pv], [0, 0, 1]])


def read_opencv(path: Path) -> StereoCalibration:
    """One YAML file, or the intrinsics file with the extrinsics file beside it (either may be named).

    `distortion_model: fisheye` chooses that model. The image size is `image_width image_height`, `imageSize` or
    `image_size` (width first, as OpenCV writes it), and may be missing.

    Raises:
        UserError: a field is missing or malformed.
    """
    values = dict(read_yaml(path, what="calibration"))
    stem = path.stem.lower()
    for this, other in (OPENCV_SPLIT, OPENCV_SPLIT[::-1]):
        beside = path.with_name(stem.replace(this, other) + path.suffix)
        if this in stem and beside.exists():
            values = dict(read_yaml(beside, what="calibration")) | values
    model = lens(values.get("distortion_model", "pinhole"), where=path)
    cameras = []
    for number in (1, 2):
        name, value = field(values, *(each.format(number) for each in CAMERA_MATRIX), where=path)
        matrix = numbers(value, name=name, where=path, count=9).reshape(3, 3)
        name, value = field(values, *(each.format(number) for each in DISTORTION), where=path)
        cameras.append(CameraModel(matrix, tuple(numbers(value, name=name, where=path)), model))
    name, value = field(values, "R", "rotation", "R_stereo", where=path)
    rotation = numbers(value, name=name, where=path, count=9).reshape(3, 3)
    name, value = field(values, "T", "translation", "T_stereo", where=path)
    translation = numbers(value, name=name, where=path, count=3)
    return StereoCalibration(cameras[0], cameras[1], rotation, translation, opencv_size(values, path))


def opencv_size(values: Mapping[str, Any], path: Path) -> tuple[int, int] | None:
    """(H, W) of an OpenCV calibration, None when it does not tell."""
    if "image_width" in values and "image_height" in values:
        size = [values["image_width"], values["image_height"]]
    else:
        size = next((values[name] for name in ("imageSize", "image_size") if name in values), None)
    if size is None:
        return None
    width, height = numbers(size, name="image size", where=path, count=2)
    return int(height), int(width)


def read_kalibr(path: Path) -> StereoCalibration:
    """A Kalibr camchain; cam0 is the left camera, cam1 the right one.

    Raises:
        UserError: a field is missing or malformed, or a camera model other than pinhole.
    """
    chain = read_yaml(path, what="calibration")
    cameras = []
    for name in ("cam0", "cam1"):
        camera = field(chain, name, where=path)[1]
        if not isinstance(camera, Mapping):
            raise UserError(f"'{name}' is not a camera: {str(camera)[:80]}", where=path)
        if camera.get("camera_model", "pinhole") != "pinhole":
            raise UserError(
                f"{name} has camera model '{camera['camera_model']}'",
                where=path,
                fix="calibrate with pinhole-radtan or pinhole-equi",
            )
        model = lens(field(camera, "distortion_model", where=path)[1], where=path)
        intrinsics = numbers(field(camera, "intrinsics", where=path)[1], name="intrinsics", where=path, count=4)
        distortion = numbers(camera.get("distortion_coeffs", []), name="distortion_coeffs", where=path)
        cameras.append(CameraModel(matrix_of(intrinsics), tuple(distortion), model))
    transform = numbers(field(chain["cam1"], "T_cn_cnm1", where=path)[1], name="T_cn_cnm1", where=path, count=16)
    transform = transform.reshape(4, 4)
    size = resolution(chain["cam0"], chain["cam1"], where=path)
    return StereoCalibration(cameras[0], cameras[1], transform[:3, :3], transform[:3, 3], size)


def resolution(left: Mapping[str, Any], right: Mapping[str, Any], *, where: Path) -> tuple[int, int] | None:
    """(H, W) of `resolution: [width, height]`; None when it is missing.

    Raises:
        UserError: the cameras differ.
    """
    sizes = [
        tuple(int(side) for side in numbers(camera["resolution"], name="resolution", where=where, count=2))
        for camera in (left, right)
        if "resolution" in camera
    ]
    if len(set(sizes)) > 1:
        raise UserError(f"the cameras have {sizes[0]} and {sizes[1]} px (width, height)", where=where,
                        fix="both views must have one size")  # fmt: skip
    return (sizes[0][1], sizes[0][0]) if sizes else None


def read_euroc(folder: Path) -> StereoCalibration:
    """The two `sensor.yaml` of EuRoC MAV and its relatives; T_BS takes sensor coordinates to the body's.

    Args:
        folder: holds cam0 and cam1.

    Raises:
        UserError: a field is missing or malformed.
    """
    cameras, to_body, sensors = [], [], []
    for name in ("cam0", "cam1"):
        path = folder / name / EUROC_SENSOR
        sensor = read_yaml(path, what="calibration")
        model = lens(field(sensor, "distortion_model", where=path)[1], where=path)
        intrinsics = numbers(field(sensor, "intrinsics", where=path)[1], name="intrinsics", where=path, count=4)
        found, value = field(sensor, "distortion_coefficients", "distortion_coeffs", where=path)
        distortion = numbers(value, name=found, where=path)
        cameras.append(CameraModel(matrix_of(intrinsics), tuple(distortion), model))
        pose = numbers(field(sensor, "T_BS", where=path)[1], name="T_BS", where=path, count=16).reshape(4, 4)
        if abs(np.linalg.det(pose)) < 0.5:
            raise UserError("'T_BS' is not a rigid transform", where=path)
        to_body.append(pose)
        sensors.append(sensor)
    between = np.linalg.inv(to_body[1]) @ to_body[0]
    size = resolution(*sensors, where=folder)
    return StereoCalibration(cameras[0], cameras[1], between[:3, :3], between[:3, 3], size)


def read_kitti_raw(path: Path, *, colour: bool = False) -> StereoCalibration:
    """`calib_cam_to_cam.txt` of KITTI raw: how its *unrectified* images (`*_extract`) are rectified.

    The images of `*_sync` are rectified already. R and T of each camera take camera 0's frame to its own.

    Args:
        colour: cameras 02 and 03 instead of 00 and 01.

    Raises:
        UserError: a field is missing or malformed.
    """
    lines = read_bytes(path, what="calibration").decode("utf-8", errors="replace").splitlines()
    values = {name.strip(): rest.split() for name, colon, rest in (line.partition(":") for line in lines) if colon}
    cameras, poses, sizes = [], [], []
    for name in ("02", "03") if colour else ("00", "01"):

        def take(letter: str, count: int, name: str = name) -> Numbers:
            found, value = field(values, f"{letter}_{name}", where=path)
            return numbers(value, name=found, where=path, count=count)

        cameras.append(CameraModel(take("K", 9).reshape(3, 3), tuple(take("D", 5))))
        poses.append((take("R", 9).reshape(3, 3), take("T", 3)))
        sizes.append(tuple(int(side) for side in take("S", 2)))
    if sizes[0] != sizes[1]:
        raise UserError(f"the cameras have {sizes[0]} and {sizes[1]} px (width, height)", where=path)
    (left_r, left_t), (right_r, right_t) = poses
    rotation = right_r @ left_r.T
    translation = right_t - rotation @ left_t
    return StereoCalibration(cameras[0], cameras[1], rotation, translation, (sizes[0][1], sizes[0][0]))


def read_calibration(path: Path | str, *, colour: bool = False) -> StereoCalibration:
    """Read a calibration in any of the forms above; which one it is shows in its fields.

    Args:
        path: the file; or a folder with `cam0 cam1` (EuRoC; `mav0` may be left out), `calib_cam_to_cam.txt`, or
            `intrinsics.yml extrinsics.yml`.
        colour: KITTI raw only: the colour cameras.

    Raises:
        UserError: none of these forms, or a field that is missing or makes no sense; it names the file.
    """
    path = Path(path)
    try:
        return read_any(path, colour=colour)
    except UserError as error:
        if error.where is not None:
            raise
        raise UserError(error.what, where=path, fix=error.fix) from error


def read_any(path: Path, *, colour: bool) -> StereoCalibration:
    """`read_calibration` without the file's name in the errors about values."""
    if path.is_dir():
        for folder in (path, path / "mav0"):
            if (folder / "cam0" / EUROC_SENSOR).exists():
                return read_euroc(folder)
        if (path / KITTI_RAW_NAME).exists():
            return read_kitti_raw(path / KITTI_RAW_NAME, colour=colour)
        split = sorted(each for each in path.iterdir() if each.stem.lower() == "intrinsics")
        if split:
            return read_opencv(split[0])
        raise UserError("no calibration known in there", where=path, fix="give the calibration file itself")
    if path.suffix.lower() == ".txt":
        return read_kitti_raw(path, colour=colour)
    values = read_yaml(path, what="calibration")
    if "T_BS" in values:
        return read_euroc(path.parent.parent)
    return read_kalibr(path) if "cam0" in values else read_opencv(path)
