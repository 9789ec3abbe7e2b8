"""Data sets as stereo streams, in small copies of their layouts: EuRoC, KITTI raw and odometry, and benchmarks."""

import cv2
import numpy as np
import pytest

from stereo.errors import UserError
from stereo.pair import Rig
from stereo.pictures import write_png
from stereo.source_options import SourceOptions
from stereo.sources import open_source

HEIGHT, WIDTH = 24, 40


def view(number, side, height=HEIGHT, width=WIDTH):
    """A flat colour that tells frame and side."""
    return np.full((height, width, 3), (10 * number % 250, 200 if side == "right" else 50, 77), np.uint8)


def write_views(folder, names, sides, *, size=(HEIGHT, WIDTH)):
    for number, name in enumerate(names):
        for side, place in zip(("left", "right"), sides, strict=True):
            write_png(folder / place / name, view(number, side, *size))


def check(source, numbers, kind):
    assert source.kind == kind
    assert len(source) == len(numbers)
    for number, frame in zip(numbers, source, strict=True):
        assert frame.problem is None
        np.testing.assert_array_equal(frame.pair.left, view(number, "left", *frame.pair.left.shape[:2]))
        np.testing.assert_array_equal(frame.pair.right, view(number, "right", *frame.pair.left.shape[:2]))
    names = [source.name(index) for index in range(len(source))]
    assert len(set(names)) == len(names)


SENSOR = """%YAML:1.0
sensor_type: camera
T_BS:
  cols: 4
  rows: 4
  data: [1.0, 0.0, 0.0, {shift}, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]
resolution: [40, 24]
camera_model: pinhole
intrinsics: [45.8, 45.7, 19.5, 11.5]
distortion_model: radial-tangential
distortion_coefficients: [-0.28, 0.07, 0.0002, 0.00002]
"""


def write_euroc(folder, *, right_late_ns=0, drop=(), calibrated=True):
    for camera, side in (("cam0", "left"), ("cam1", "right")):
        rows = ["#timestamp [ns],filename"]
        for number in range(6):
            if (camera, number) in drop:
                continue
            stamp = 1403636579763555584 + 50_000_000 * number + (right_late_ns if side == "right" else 0)
            rows.append(f"{stamp},{stamp}.png")
            write_png(folder / "mav0" / camera / "data" / f"{stamp}.png", view(number, side))
        (folder / "mav0" / camera / "data.csv").write_text("\r\n".join(rows) + "\r\n")
        if calibrated:
            sensor = folder / "mav0" / camera / "sensor.yaml"
            sensor.write_text(SENSOR.format(shift=0.11 if side == "right" else 0.0))
    return folder


@pytest.mark.parametrize("below", ["", "mav0"])
def test_euroc(tmp_path, below):
    source = open_source(write_euroc(tmp_path) / below)
    check(source, range(6), "euroc")
    assert source.rectified is False
    np.testing.assert_allclose(source.calibration.translation, [-0.11, 0, 0])
    assert source.calibration.left.distortion == (-0.28, 0.07, 0.0002, 0.00002)
    assert source.name(1) == "1403636579813555584"
    assert source.read(1).files is not None


def test_euroc_without_calibration_is_read_all_the_same(tmp_path):
    source = open_source(write_euroc(tmp_path, calibrated=False))
    assert (source.calibration, source.rectified) == (None, None)


def test_euroc_is_paired_by_stamp(tmp_path, caplog):
    write_euroc(tmp_path, right_late_ns=1_000_000, drop=[("cam0", 1), ("cam1", 3)])
    frames = list(open_source(tmp_path))
    assert [frame.reason for frame in frames] == [None, "image missing", None, "image missing", None, None]
    np.testing.assert_array_equal(frames[4].pair.right, view(4, "right"))
    assert "1 of 5 left and 1 of 5 right images have no partner within 5 ms" in caplog.text
    with pytest.raises(UserError, match=r"within 0.5 ms: .* median 1 ms .*tolerance_ms"):
        open_source(tmp_path, options=SourceOptions(tolerance_ms=0.5))


def test_euroc_with_a_torn_list_or_a_missing_image(tmp_path):
    write_euroc(tmp_path)
    listed = tmp_path / "mav0/cam0/data.csv"
    (tmp_path / "mav0/cam1/data/1403636579863555584.png").unlink()
    assert [frame.reason for frame in open_source(tmp_path)][2] == "image missing"
    listed.write_text(listed.read_text() + "14036365")
    with pytest.raises(UserError, match=r"line 8 is '14036365'.*expected: stamp"):
        open_source(tmp_path)


def kitti_camera(number, baseline_m):
    raw = f"K_0{number}: 90 0 22 0 91 14 0 0 1\nD_0{number}: -0.37 0.2 0.001 0.001 -0.07"
    return (
        f"S_0{number}: 44.0 28.0\n{raw}\nR_0{number}: 1 0 0 0 1 0 0 0 1\nT_0{number}: {-baseline_m} 0 0\n"
        f"S_rect_0{number}: 40.0 24.0\nR_rect_0{number}: 1 0 0 0 1 0 0 0 1\n"
        f"P_rect_0{number}: 80 0 19 {-80 * baseline_m} 0 80 11 0 0 0 1 0\n"
    )


CAM_TO_CAM = "calib_time: 09-Jan-2012 13:57:47\ncorner_dist: 0.0995\n" + "".join(
    kitti_camera(number, baseline) for number, baseline in enumerate((0.0, 0.54, -0.06, 0.47))
)
NAMES = [f"{number:010d}.png" for number in range(3)]


def write_drive(root, name="2011_09_26_drive_0001_sync", *, gray=False, size=(HEIGHT, WIDTH)):
    day = root / "2011_09_26"
    cameras = ("image_00", "image_01") if gray else ("image_02", "image_03")
    write_views(day / name, NAMES, [f"{camera}/data" for camera in cameras], size=size)
    (day / "calib_cam_to_cam.txt").write_text(CAM_TO_CAM)
    return day / name


@pytest.mark.parametrize("up", [0, 1, 2])
def test_kitti_raw(tmp_path, up):
    path = write_drive(tmp_path)
    source = open_source([path, *path.parents][up])
    check(source, range(3), "kitti_raw")
    assert source.rectified is True
    assert source.rig == Rig(80.0, source.rig.baseline_m, 0.0, cx=19.0, cy=11.0)
    assert source.rig.baseline_m == pytest.approx(0.53)
    assert source.read(0).pair.rig == source.rig


def test_kitti_raw_gray_and_unrectified(tmp_path):
    path = write_drive(tmp_path, "2011_09_26_drive_0001_extract", gray=True, size=(28, 44))
    source = open_source(path)
    assert source.rectified is False
    assert source.rig is None
    assert source.calibration.size == (28, 44)
    np.testing.assert_allclose(source.calibration.translation, [-0.54, 0, 0])
    write_drive(tmp_path, path.name, size=(28, 44))
    np.testing.assert_allclose(open_source(path).calibration.translation, [-0.53, 0, 0])
    gray = open_source(path, options=SourceOptions(camera="gray"))
    np.testing.assert_allclose(gray.calibration.translation, [-0.54, 0, 0])


def test_kitti_raw_that_is_not_clear(tmp_path):
    path = write_drive(tmp_path)
    write_drive(tmp_path, "2011_09_26_drive_0002_sync")
    with pytest.raises(UserError, match=r"2 drives in there: 2011_09_26_drive_0001_sync.*give one of them"):
        open_source(path.parent)
    with pytest.raises(UserError, match=r"gray cameras image_00/image_01 are not both there, only image_02, image_03"):
        open_source(path, options=SourceOptions(camera="gray"))
    write_drive(tmp_path, size=(20, 30))
    with pytest.raises(UserError, match=r"images are 30x20, but the calibration is for 44x28"):
        open_source(path)


def matrix(offset, focal=700.0, cx=600.0):
    return f"{focal} 0 {cx} {offset} 0 {focal} 180.0 0 0 0 1 0\n"


ODOMETRY_CALIB = "".join(f"P{number}: {matrix(offset)}" for number, offset in enumerate((0, -378, 42, -329)))


def test_kitti_odometry(tmp_path):
    sequence = tmp_path / "sequences" / "07"
    write_views(sequence, ["000000.png", "000001.png"], ("image_0", "image_1"))
    (sequence / "calib.txt").write_text(ODOMETRY_CALIB)
    for path in (sequence, tmp_path):
        source = open_source(path)
        check(source, range(2), "kitti_odometry")
        assert source.rectified is True
        assert source.rig.baseline_m == pytest.approx(0.54)
    write_views(sequence, ["000000.png", "000001.png"], ("image_2", "image_3"))
    assert open_source(sequence).rig.baseline_m == pytest.approx(0.53), "colour comes first"
    write_views(tmp_path / "sequences" / "08", ["000000.png"], ("image_0", "image_1"))
    with pytest.raises(UserError, match=r"2 sequences in there: sequences/07, sequences/08"):
        open_source(tmp_path)


MIDDLEBURY_CALIB = (
    "cam0=[1758.23 0 953.34; 0 1758.23 552.29; 0 0 1]\ncam1=[1758.23 0 953.34; 0 1758.23 552.29; 0 0 1]\n"
)


def write_scenes(root, names, *, focal=None):
    for number, name in enumerate(names):
        for side, image in (("left", "im0"), ("right", "im1")):
            write_png(root / name / f"{image}.png", view(number, side))
        (root / name / "calib.txt").write_text(
            MIDDLEBURY_CALIB + f"doffs={number}\nbaseline=111.53\nwidth=40\nheight=24\n"
        )


def test_middlebury(tmp_path):
    write_scenes(tmp_path / "trainingH", ["Adirondack", "Jadeplant"])
    cv2.imwrite(str(tmp_path / "trainingH/Adirondack/im1E.png"), view(9, "right"))
    for path in (tmp_path, tmp_path / "trainingH"):
        source = open_source(path)
        check(source, range(2), "middlebury")
        rigs = [frame.pair.rig for frame in source]
        assert rigs[1] == Rig(1758.23, 0.11153, 1.0, cx=953.34, cy=552.29)
        assert rigs[0].doffs_px == 0
        assert source.rectified
        assert source.rig is None, "every scene has its own"
    assert open_source(tmp_path / "trainingH/Jadeplant").rig == rigs[1]
    write_scenes(tmp_path / "testH", ["Plants"])
    part = open_source(tmp_path, options=SourceOptions(benchmark_part="testH"))
    assert [part.name(index) for index in range(len(part))] == ["Plants"]
    with pytest.raises(UserError, match=r"no part 'testX'.*testH, trainingH"):
        open_source(tmp_path, options=SourceOptions(benchmark_part="testX"))


@pytest.mark.parametrize("names", [("view1", "view5"), ("im2", "im6")])
def test_older_years_of_middlebury(tmp_path, names):
    for scene, number in (("Aloe", 0), ("Cones", 1)):
        for side, name in zip(("left", "right"), names, strict=True):
            write_png(tmp_path / scene / f"{name}.png", view(number, side))
    source = open_source(tmp_path, kind="middlebury")
    check(source, range(2), "middlebury")
    assert source.read(0).pair.rig is None
    write_png(tmp_path / "empty" / "x.png", view(0, "left"))
    with pytest.raises(UserError, match=r"no scenes of Middlebury.*im0/im1"):
        open_source(tmp_path / "empty", kind="middlebury")


def test_eth3d(tmp_path):
    write_scenes(tmp_path / "two_view_training", ["delivery_area_1l", "electro_3s"])
    for path in (tmp_path, tmp_path / "two_view_training"):
        source = open_source(path)
        check(source, range(2), "eth3d")
        assert source.read(1).pair.rig.baseline_m == pytest.approx(0.11153)


def test_kitti_2015(tmp_path):
    names = ["000000_10.png", "000000_11.png", "000001_10.png"]
    write_views(tmp_path / "training", names, ("image_2", "image_3"))
    write_png(tmp_path / "training/disp_occ_0/000000_10.png", view(0, "left"))
    for number in range(2):
        path = tmp_path / f"training/calib_cam_to_cam/{number:06d}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(CAM_TO_CAM if number else "hello\n")
    for path in (tmp_path, tmp_path / "training"):
        source = open_source(path)
        check(source, range(3), "kitti_stereo")
        assert source.read(2).pair.rig.baseline_m == pytest.approx(0.53)
        assert source.read(0).pair.rig is None, "its calibration is none"
    write_views(tmp_path / "testing", names, ("image_2", "image_3"))
    with pytest.raises(UserError, match=r"both training and testing in there .*benchmark_part"):
        open_source(tmp_path)
    check(open_source(tmp_path, options=SourceOptions(benchmark_part="testing")), range(3), "kitti_stereo")


def test_kitti_2012(tmp_path):
    for sides in (("colored_0", "colored_1"), ("image_0", "image_1")):
        write_views(tmp_path / "training", ["000000_10.png"], sides)
    (tmp_path / "training/calib").mkdir()
    (tmp_path / "training/calib/000000.txt").write_text(ODOMETRY_CALIB)
    source = open_source(tmp_path)
    check(source, [0], "kitti_stereo")
    assert source.read(0).pair.rig.baseline_m == pytest.approx(0.53)
    assert source.rig == source.read(0).pair.rig
    gray = open_source(tmp_path, options=SourceOptions(camera="gray"))
    assert gray.read(0).pair.rig.baseline_m == pytest.approx(0.54)


@pytest.mark.parametrize("set_name", ["TRAIN/A/0000", "15mm_focallength/scene_backwards/fast", "a_rain_of_stones_x2"])
def test_sceneflow(tmp_path, set_name):
    write_views(tmp_path / "frames_finalpass" / set_name, ["0006.png", "0007.png"], ("left", "right"))
    for path in (tmp_path, tmp_path / "frames_finalpass", tmp_path.parent / tmp_path.name):
        source = open_source(path)
        check(source, range(2), "sceneflow")
        assert source.rectified
        assert source.rig is None
    assert set_name.replace("/", "_") in source.name(0)
    with pytest.raises(UserError, match=r"no frames_cleanpass/\*\*/left in there, only frames_finalpass"):
        open_source(tmp_path, options=SourceOptions(render_pass="cleanpass"))


def test_kinds_that_do_not_fit_are_told(tmp_path):
    write_scenes(tmp_path, ["a"])
    with pytest.raises(UserError, match=r"unknown kind 'kittty'.*known: auto, image_folder"):
        open_source(tmp_path, kind="kittty")
    with pytest.raises(UserError, match="no image_2/image_3 or colored_0/colored_1 in there"):
        open_source(tmp_path, kind="kitti_stereo")
    with pytest.raises(UserError, match="no such list of images"):
        open_source(tmp_path, kind="euroc")
    with pytest.raises(UserError, match=r"no sequence in there"):
        open_source(tmp_path, kind="kitti_odometry")
    with pytest.raises(UserError, match=r"no drive in there"):
        open_source(tmp_path, kind="kitti_raw")
    with pytest.raises(UserError, match=r"no bag in there"):
        open_source(tmp_path, kind="bag")
    with pytest.raises(UserError, match=r"holds both views .*leave --right out"):
        open_source(tmp_path, kind="euroc", right=tmp_path)
