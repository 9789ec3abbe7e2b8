"""stereo.pair_calibration: each form gives the rig that is written in it, or one line of what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stereo.errors import UserError
from stereo.pair import Rig, StereoPair
from stereo.pair_calibration import calibrated
from stereo.rectification import Rectifier

HEIGHT, WIDTH = 48, 64
MIDDLEBURY = "cam0=[60.5 0 31.25; 0 60.5 22.5; 0 0 1]\ncam1=[60.5 0 33.25; 0 60.5 22.5; 0 0 1]\ndoffs=2\n"
P_LEFT = "60.5 0 31.25 0 0 60.5 22.5 0 0 0 1 0"
P_RIGHT = "60.5 0 33.25 -12.1 0 60.5 22.5 0 0 0 1 0"
EXPECTED = Rig(60.5, 0.2, 2.0, cx=31.25, cy=22.5)
WITHOUT_DOFFS = Rig(60.5, 0.2, 0.0, cx=31.25, cy=22.5)
IDENTITY = "[1, 0, 0, 0, 1, 0, 0, 0, 1]"


def opencv(distortion: str = "[0, 0, 0, 0]", rotation: str = IDENTITY) -> str:
    """An OpenCV calibration in plain YAML."""
    return (
        "K1: [60.5, 0, 31.25, 0, 60.5, 22.5, 0, 0, 1]\nK2: [60.5, 0, 33.25, 0, 60.5, 22.5, 0, 0, 1]\n"
        f"D1: {distortion}\nD2: {distortion}\nR: {rotation}\nT: [-0.2, 0, 0]\n"
    )


def kalibr() -> str:
    """A Kalibr camchain of ideal cameras."""
    camera = "  camera_model: pinhole\n  distortion_model: none\n  resolution: [64, 48]\n"
    return (
        f"cam0:\n{camera}  intrinsics: [60.5, 60.5, 31.25, 22.5]\n"
        f"cam1:\n{camera}  intrinsics: [60.5, 60.5, 33.25, 22.5]\n"
        f"  T_cn_cnm1: [[1, 0, 0, -0.2], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]\n"
    )


@pytest.fixture
def pair() -> StereoPair:
    images = np.random.default_rng(0).integers(0, 256, (2, HEIGHT, WIDTH, 3), np.uint8)
    return StereoPair(images[0], images[1], name="made up")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("calib.txt", MIDDLEBURY + "baseline=200\nwidth=64\nheight=48\n", EXPECTED),
        ("calib.txt", f"P0: {P_LEFT}\nP1: {P_RIGHT}\n", EXPECTED),
        ("calib.txt", f"{P_LEFT}\n{P_RIGHT}\n", EXPECTED),
        (
            "calib_cam_to_cam.txt",
            f"S_00: 70 50\nS_rect_00: 64 48\nP_rect_00: {P_LEFT}\nP_rect_01: {P_RIGHT}\n",
            EXPECTED,
        ),
        ("K.txt", "60.5 0 31.25 0 60.5 22.5 0 0 1\n0.2\n", WITHOUT_DOFFS),
        ("camera.yaml", opencv(), EXPECTED),
        ("camchain.yaml", kalibr(), EXPECTED),
    ],
)
def test_rectified_forms_give_the_rig_and_leave_the_images(
    tmp_path: Path, pair: StereoPair, name: str, text: str, expected: Rig
) -> None:
    (tmp_path / name).write_text(text)
    found = calibrated(pair, tmp_path / name)
    assert found.rig is not None
    np.testing.assert_allclose(
        [found.rig.focal_px, found.rig.baseline_m, found.rig.doffs_px, found.rig.cx or 0, found.rig.cy or 0],
        [expected.focal_px, expected.baseline_m, expected.doffs_px, expected.cx or 0, expected.cy or 0],
    )
    assert found.left is pair.left
    assert found.right is pair.right


def test_colour_cameras_of_kitti_are_known_by_their_folder(tmp_path: Path, pair: StereoPair) -> None:
    far = P_RIGHT.replace("-12.1", "-24.2")
    (tmp_path / "calib.txt").write_text(f"P0: {P_LEFT}\nP1: {P_RIGHT}\nP2: {P_LEFT}\nP3: {far}\n")
    baselines = [
        calibrated(pair, tmp_path / "calib.txt", left=f"{folder}/000000.png").rig.baseline_m  # type: ignore[union-attr]
        for folder in ("image_0", "image_2")
    ]
    np.testing.assert_allclose(baselines, [0.2, 0.4])


@pytest.mark.parametrize("changes", [{"distortion": "[0.1, 0, 0, 0]"}, {"rotation": "turned"}])
def test_cameras_that_are_not_ideal_are_rectified(
    tmp_path: Path, pair: StereoPair, changes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "rotation" in changes:
        sine, cosine = np.sin(0.02), np.cos(0.02)
        changes = {"rotation": str([1, 0, 0, 0, float(cosine), -float(sine), 0, float(sine), float(cosine)])}
    (tmp_path / "camera.yaml").write_text(opencv(**changes))
    used: list[tuple[int, int]] = []
    apply = Rectifier.apply
    monkeypatch.setattr(Rectifier, "apply", lambda self, pair: used.append(self.size) or apply(self, pair))
    found = calibrated(pair, tmp_path / "camera.yaml")
    assert used == [(HEIGHT, WIDTH)]
    assert found.rig is not None
    assert found.rig.baseline_m == pytest.approx(0.2)
    assert (found.left != pair.left).any()


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("calib.txt", MIDDLEBURY, "not a Middlebury calibration: 'baseline'"),
        ("calib.txt", MIDDLEBURY + "baseline=200\nwidth=640\nheight=480\n", "for 640x480 px, the images have 64x48"),
        ("calib.txt", f"P0: {P_LEFT}\n", "1 projection matrices"),
        ("calib_cam_to_cam.txt", f"S_00: 70 50\nS_rect_00: 64 48\nP_rect_00: {P_LEFT}\n", "'P_rect_01' holds 0"),
        ("K.txt", "60.5 0 31.25 0 60.5 22.5 0 0 1\n", "holds 9 numbers"),
        ("K.txt", "0 0 31.25 0 60.5 22.5 0 0 1 0.2\n", "not a camera matrix"),
        ("K.txt", "60.5 0 31.25 0 60.5 22.5 0 0 1 -0.2\n", "must be positive"),
        ("notes.txt", "what: ever\n", "no form of calibration that is known"),
        ("notes.txt", "what ever\n", "no form of calibration that is known"),
        ("camera.yaml", opencv().replace("K2", "K3"), "no field 'K2'"),
        ("camera.yaml", opencv() + "image_width: 640\nimage_height: 480\n", "the calibration is for 640x480"),
        ("camchain.yaml", kalibr().replace("cam1", "cam2"), "no field 'cam1'"),
        ("gone.txt", None, "no such calibration"),
    ],
)
def test_what_is_wrong_is_told_with_the_file(
    tmp_path: Path, pair: StereoPair, name: str, text: str | None, told: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=told) as caught:
        calibrated(pair, tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_real_sequence(shared_data: Path) -> None:
    folder = shared_data / "video" / "kitti_odom_seq_1"
    image = np.zeros((370, 1226, 3), np.uint8)
    rig = calibrated(StereoPair(image, image, name="black"), folder / "calib.txt").rig
    assert rig is not None
    assert (rig.focal_px, rig.baseline_m) == pytest.approx((707.0912, 379.8145 / 707.0912))
