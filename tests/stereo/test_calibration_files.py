"""Calibrations in every form, written here, and what is said when a field is missing or makes no sense."""

import re

import cv2
import numpy as np
import pytest
import yaml

from stereo.calibration_files import read_calibration
from stereo.calibration_model import CameraModel, StereoCalibration
from stereo.errors import UserError

LEFT, RIGHT = (458.5, 457.25, 367.25, 248.5), (457.5, 456.25, 379.5, 255.25)
LENS_LEFT, LENS_RIGHT = (-0.28, 0.07, 0.0002, 0.00002), (-0.27, 0.06, -0.0003, 0.00001)
ROTATION = cv2.Rodrigues(np.radians([0.7, -1.2, 0.4]))[0]
TRANSLATION = np.array([-0.11, 0.0004, -0.0008])
WIDTH, HEIGHT = 752, 480


def matrix(intrinsics):
    fx, fy, cx, cy = intrinsics
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def same(found, *, model="pinhole", distortion=(LENS_LEFT, LENS_RIGHT)):
    np.testing.assert_allclose(found.left.matrix, matrix(LEFT))
    np.testing.assert_allclose(found.right.matrix, matrix(RIGHT))
    assert (found.left.distortion, found.right.distortion) == distortion
    assert found.left.model == found.right.model == model
    np.testing.assert_allclose(found.rotation, ROTATION, atol=1e-9)
    np.testing.assert_allclose(found.translation, TRANSLATION, atol=1e-12)
    assert found.size == (HEIGHT, WIDTH)
    assert not found.right_first
    assert found.baseline_m == pytest.approx(np.linalg.norm(TRANSLATION))
    return True


def transform(rotation, translation):
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = rotation, translation
    return out


def write_opencv(path, fields):
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    for name, value in fields.items():
        storage.write(name, value)
    storage.release()
    return path


def opencv_fields(matrix_name="K{}", distortion_name="D{}"):
    return {
        matrix_name.format(1): matrix(LEFT), distortion_name.format(1): np.array([LENS_LEFT]),
        matrix_name.format(2): matrix(RIGHT), distortion_name.format(2): np.array([LENS_RIGHT]),
        "R": ROTATION, "T": TRANSLATION[:, None], "image_width": WIDTH, "image_height": HEIGHT,
    }  # fmt: skip


def kalibr_chain(model="radtan"):
    cameras = {
        name: {
            "camera_model": "pinhole", "intrinsics": list(intrinsics), "distortion_model": model,
            "distortion_coeffs": list(lens), "resolution": [WIDTH, HEIGHT], "rostopic": f"/{name}/image_raw",
        }
        for name, intrinsics, lens in (("cam0", LEFT, LENS_LEFT), ("cam1", RIGHT, LENS_RIGHT))
    }  # fmt: skip
    cameras["cam1"]["T_cn_cnm1"] = transform(ROTATION, TRANSLATION).tolist()
    return cameras


def euroc_sensor(intrinsics, lens, pose):
    return {
        "sensor_type": "camera", "T_BS": {"cols": 4, "rows": 4, "data": pose.ravel().tolist()}, "rate_hz": 20,
        "resolution": [WIDTH, HEIGHT], "camera_model": "pinhole", "intrinsics": list(intrinsics),
        "distortion_model": "radial-tangential", "distortion_coefficients": list(lens),
    }  # fmt: skip


def write_euroc(folder):
    left = transform(cv2.Rodrigues(np.array([0.01, -0.02, 1.55]))[0], (-0.02, -0.06, 0.01))
    right = left @ np.linalg.inv(transform(ROTATION, TRANSLATION))
    for name, sensor in (
        ("cam0", euroc_sensor(LEFT, LENS_LEFT, left)),
        ("cam1", euroc_sensor(RIGHT, LENS_RIGHT, right)),
    ):
        path = folder / "mav0" / name / "sensor.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(yaml.safe_dump(sensor))
    return folder


def kitti_text():
    """Cameras 00 and 01 as here, 02 and 03 the same rig 6 cm further left, all relative to camera 00."""

    def line(name, values):
        return f"{name}: " + " ".join(f"{value:.17e}" for value in np.ravel(values)) + "\n"

    text = "calib_time: 09-Jan-2012 13:57:47\ncorner_dist: 9.950000e-02\n"
    shift = np.array([0.06, 0.001, -0.002])
    for first, at in (("00", np.zeros(3)), ("02", shift)):
        for name, intrinsics, lens, rotation, translation in (
            (first, LEFT, LENS_LEFT, np.eye(3), at),
            (f"0{int(first) + 1}", RIGHT, LENS_RIGHT, ROTATION, ROTATION @ at + TRANSLATION),
        ):
            text += line(f"S_{name}", (WIDTH, HEIGHT)) + line(f"K_{name}", matrix(intrinsics))
            text += line(f"D_{name}", (*lens, 0.0)) + line(f"R_{name}", rotation) + line(f"T_{name}", translation)
            text += line(f"P_rect_{name}", np.zeros(12))
    return text


@pytest.mark.parametrize(("matrix_name", "distortion_name"), [
    ("K{}", "D{}"), ("M{}", "D{}"), ("cameraMatrix{}", "distCoeffs{}"), ("camera_matrix_{}", "dist_coeffs_{}"),
])  # fmt: skip
def test_opencv_in_one_file(tmp_path, matrix_name, distortion_name):
    assert same(read_calibration(write_opencv(tmp_path / "rig.yml", opencv_fields(matrix_name, distortion_name))))


@pytest.mark.parametrize("named", ["intrinsics.yml", "extrinsics.yml", "."])
def test_opencv_in_two_files(tmp_path, named):
    fields = opencv_fields("M{}")
    extrinsics = {name: fields.pop(name) for name in ("R", "T")}
    write_opencv(tmp_path / "intrinsics.yml", fields)
    write_opencv(tmp_path / "extrinsics.yml", extrinsics)
    assert same(read_calibration(tmp_path / named))


def test_opencv_as_versions_2_to_4_wrote_it(tmp_path):
    text = write_opencv(tmp_path / "new.yml", opencv_fields()).read_text()
    old = tmp_path / "old.yml"
    old.write_text(re.sub(r"\A%YAML.*\n", "%YAML:1.0\n", text))
    assert old.read_text().startswith("%YAML:1.0\n---\n")
    assert same(read_calibration(old))


def test_opencv_fisheye_and_unknown_size(tmp_path):
    fields = opencv_fields() | {"distortion_model": "fisheye"}
    del fields["image_width"]
    found = read_calibration(write_opencv(tmp_path / "rig.yml", fields))
    assert found.left.model == found.right.model == "fisheye"
    assert found.size is None


@pytest.mark.parametrize(("name", "model"), [("radtan", "pinhole"), ("equidistant", "fisheye")])
def test_kalibr(tmp_path, name, model):
    path = tmp_path / "camchain.yaml"
    path.write_text(yaml.safe_dump(kalibr_chain(name)))
    assert same(read_calibration(path), model=model)


@pytest.mark.parametrize("named", [".", "mav0", "mav0/cam0/sensor.yaml", "mav0/cam1/sensor.yaml"])
def test_euroc(tmp_path, named):
    assert same(read_calibration(write_euroc(tmp_path) / named))


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("named", [".", "calib_cam_to_cam.txt"])
def test_kitti_raw(tmp_path, named, colour):
    (tmp_path / "calib_cam_to_cam.txt").write_text(kitti_text())
    lenses = (*LENS_LEFT, 0.0), (*LENS_RIGHT, 0.0)
    assert same(read_calibration(tmp_path / named, colour=colour), distortion=lenses)


@pytest.mark.parametrize("field", ["K1", "D1", "K2", "D2", "R", "T"])
def test_opencv_fields_that_are_missing_are_named(tmp_path, field):
    fields = opencv_fields()
    del fields[field]
    with pytest.raises(UserError, match=rf"rig\.yml: no field '{field[0]}.*fields found"):
        read_calibration(write_opencv(tmp_path / "rig.yml", fields))


@pytest.mark.parametrize(("camera", "field"), [
    ("cam0", "intrinsics"), ("cam1", "intrinsics"), ("cam0", "distortion_model"), ("cam1", "T_cn_cnm1"),
])  # fmt: skip
def test_kalibr_fields_that_are_missing_are_named(tmp_path, camera, field):
    chain = kalibr_chain()
    del chain[camera][field]
    (tmp_path / "camchain.yaml").write_text(yaml.safe_dump(chain))
    with pytest.raises(UserError, match=rf"camchain\.yaml: no field '{field}'"):
        read_calibration(tmp_path / "camchain.yaml")


def test_a_kalibr_chain_of_one_camera(tmp_path):
    (tmp_path / "camchain.yaml").write_text(yaml.safe_dump({"cam0": kalibr_chain()["cam0"]}))
    with pytest.raises(UserError, match="no field 'cam1'"):
        read_calibration(tmp_path / "camchain.yaml")


@pytest.mark.parametrize("field", ["intrinsics", "distortion_model", "distortion_coefficients", "T_BS"])
def test_euroc_fields_that_are_missing_are_named(tmp_path, field):
    path = write_euroc(tmp_path) / "mav0/cam1/sensor.yaml"
    sensor = yaml.safe_load(path.read_text())
    del sensor[field]
    path.write_text(yaml.safe_dump(sensor))
    with pytest.raises(UserError, match=rf"cam1/sensor\.yaml: no field '{field}'"):
        read_calibration(tmp_path)


def test_euroc_with_one_camera(tmp_path):
    (write_euroc(tmp_path) / "mav0/cam1/sensor.yaml").unlink()
    with pytest.raises(UserError, match=r"cam1/sensor\.yaml: no such calibration"):
        read_calibration(tmp_path)


@pytest.mark.parametrize("field", ["S_00", "K_01", "D_00", "R_01", "T_01"])
def test_kitti_fields_that_are_missing_are_named(tmp_path, field):
    path = tmp_path / "calib_cam_to_cam.txt"
    path.write_text("".join(line for line in kitti_text().splitlines(keepends=True) if not line.startswith(field)))
    with pytest.raises(UserError, match=rf"no field '{field}'"):
        read_calibration(path)


@pytest.mark.parametrize(("change", "message"), [
    ({"K1": np.eye(2)}, "'K1' holds 4 numbers, expected 9"),
    ({"K1": np.zeros((3, 3))}, "not a camera matrix"),
    ({"D2": np.array([[0.1, 0.2, 0.3]])}, "3 distortion coefficients"),
    ({"R": np.diag([1.0, 1.1, 1.0])}, "not a rotation: R Rᵀ differs from the identity by 0.21"),
    ({"R": np.diag([1.0, 1.0, -1.0])}, "det R = -1.000"),
    ({"T": np.array([-110.0, 0.4, -0.8])}, "110.* m apart.*in metres"),
    ({"T": np.zeros(3)}, "0 m apart"),
    ({"K2": matrix(RIGHT) * np.nan}, "'K2' does not hold numbers"),
    ({"T": "left"}, "'T' does not hold numbers"),
    ({"image_width": 0}, "480x0 .height x width. is not positive"),
    ({"distortion_model": "double_sphere"}, "distortion model 'double_sphere'"),
])  # fmt: skip
def test_values_that_make_no_sense(tmp_path, change, message):
    with pytest.raises(UserError, match=message) as caught:
        read_calibration(write_opencv(tmp_path / "rig.yml", opencv_fields() | change))
    assert "rig.yml" in str(caught.value)


def test_other_kalibr_models_and_sizes_are_refused(tmp_path):
    path = tmp_path / "camchain.yaml"
    chain = kalibr_chain()
    chain["cam0"]["camera_model"] = "omni"
    path.write_text(yaml.safe_dump(chain))
    with pytest.raises(UserError, match=r"cam0 has camera model 'omni'.*pinhole"):
        read_calibration(path)
    chain = kalibr_chain("fov")
    path.write_text(yaml.safe_dump(chain))
    with pytest.raises(UserError, match=r"distortion model 'fov'.*equidistant"):
        read_calibration(path)
    chain = kalibr_chain()
    chain["cam1"]["resolution"] = [640, 480]
    path.write_text(yaml.safe_dump(chain))
    with pytest.raises(UserError, match=r"\(752, 480\) and \(640, 480\)"):
        read_calibration(path)


@pytest.mark.parametrize(("name", "text", "message"), [
    ("a.yaml", "{unclosed", "is not YAML"),
    ("a.yaml", "just words", "holds no fields"),
    ("a.yaml", "!!python/object/apply:os.system [true]", "is not YAML"),
    ("a.yaml", "", "is empty"),
    ("a.txt", "hello", "no field 'K_00'"),
])  # fmt: skip
def test_other_files(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        read_calibration(tmp_path / name)


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match="no such calibration"):
        read_calibration(tmp_path / "missing.yaml")
    with pytest.raises(UserError, match="no calibration known in there"):
        read_calibration(tmp_path)


def test_infinite_numbers_are_no_cameras():
    with pytest.raises(UserError, match="3x3 finite numbers"):
        CameraModel(matrix(LEFT) * np.inf)
    with pytest.raises(UserError, match="translation must be 3 finite numbers"):
        StereoCalibration(CameraModel(matrix(LEFT)), CameraModel(matrix(RIGHT)), np.eye(3), np.array([0.1, np.nan, 0]))


def test_order_and_exchange():
    rig = StereoCalibration(CameraModel(matrix(LEFT)), CameraModel(matrix(RIGHT)), ROTATION, TRANSLATION, (480, 752))
    other = rig.swapped()
    assert (rig.right_first, other.right_first) == (False, True)
    assert other.left is rig.right
    point = np.array([0.3, -0.2, 2.0])
    in_right = rig.rotation @ point + rig.translation
    np.testing.assert_allclose(other.rotation @ in_right + other.translation, point, atol=1e-12)
    np.testing.assert_allclose(rig.right_stands_at, other.translation)
