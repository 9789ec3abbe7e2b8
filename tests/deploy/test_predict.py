"""deploy.predict: the files promised, with the values promised."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from deploy import models
from deploy.config import PredictConfig
from deploy.predict import depth_mm, predict, within_png
from stereo.artifacts import sha256_file
from stereo.cli import main
from stereo.disparity_files import read_kitti_png, read_pfm
from stereo.errors import UserError
from stereo.pair import Rig, StereoPair
from stereo.pictures import write_png


@pytest.fixture
def images(tmp_path: Path, make_pair: Callable[..., StereoPair]) -> tuple[str, str]:
    """Left and right image files, shifted by 5 px."""
    pair = make_pair(5)
    write_png(tmp_path / "left.png", pair.left)
    write_png(tmp_path / "right.png", pair.right)
    return str(tmp_path / "left.png"), str(tmp_path / "right.png")


def test_command_line_writes_disparity_depth_and_manifest(
    tmp_path: Path, network: Path, images: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    out = tmp_path / "out"
    words = ["predict", *images, "--model", str(network), "--out", str(out), "--focal-px", "500", "--baseline-m", "0.1"]
    assert main(words) == 0
    assert capsys.readouterr().out == f"{out}\n"
    disparity = read_pfm(out / "disparity.pfm")
    assert disparity.shape == (64, 96)
    assert np.median(disparity) == pytest.approx(5, abs=0.01)
    np.testing.assert_allclose(read_kitti_png(out / "disparity.png"), disparity, atol=1 / 256)
    assert cv2.imread(str(out / "color.png")).shape == (64, 96, 3)
    depth = cv2.imread(str(out / "depth.png"), cv2.IMREAD_UNCHANGED)
    assert depth.dtype == np.uint16
    assert np.median(depth) == pytest.approx(1000 * 500 * 0.1 / 5, rel=0.01)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["runtime"] == "onnxruntime"
    assert len(manifest["made_from"]["model"]) == 64


def test_points_lie_in_the_plane_that_the_images_show(
    tmp_path: Path, network: Path, images: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("onnxruntime")
    out = tmp_path / "out"
    words = ["predict", *images, "--model", str(network), "--out", str(out), "--focal-px", "500", "--baseline-m", "0.1"]
    with caplog.at_level("INFO"):
        assert main([*words, "--doffs-px", "5", "--cx", "40", "--cy", "30", "--max-depth-m", "5.5"]) == 0
    header, _, body = (out / "points.ply").read_bytes().partition(b"end_header\n")
    vertices = np.frombuffer(body, np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)]))
    assert f"element vertex {len(vertices)}\n".encode() in header
    depth = Rig(500, 0.1, 5).depth_m(read_pfm(out / "disparity.pfm"))
    rows, columns = np.nonzero(depth <= 5.5)
    assert 0.5 * 64 * 96 < len(vertices) == len(rows)
    assert f"points.ply: {len(rows)} of 6144 pixels" in caplog.text
    z = depth[rows, columns]
    assert np.median(z) == pytest.approx(500 * 0.1 / (5 + 5), rel=0.01)
    expected = np.stack([(columns - 40) * z / 500, (rows - 30) * z / 500, z], axis=1)
    np.testing.assert_allclose(vertices["xyz"], expected, rtol=1e-5, atol=1e-6)
    left = cv2.imread(images[0])[:, :, ::-1]
    np.testing.assert_array_equal(vertices["rgb"], left[rows, columns])
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["points"], manifest["principal_point_px"]) == (len(rows), [40, 30])


def test_calibration_file_gives_the_cameras(tmp_path: Path, network: Path, images: tuple[str, str]) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "K.txt").write_text("500 0 40 0 500 30 0 0 1\n0.1\n")
    settings = {"model": str(network), "out": str(tmp_path / "out")}
    predict(PredictConfig(*images, **settings, calibration=str(tmp_path / "K.txt")))
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["rig"]["focal_px"], manifest["rig"]["baseline_m"]) == (500, 0.1)
    assert len(manifest["made_from"]["calibration"]) == 64
    assert (tmp_path / "out" / "points.ply").exists()
    assert not (tmp_path / "out" / "left.png").exists()


def test_raw_cameras_are_rectified_first_and_the_views_kept(
    tmp_path: Path, network: Path, images: tuple[str, str]
) -> None:
    pytest.importorskip("onnxruntime")
    matrix = "[100, 0, 47.5, 0, 100, 31.5, 0, 0, 1]"
    (tmp_path / "cameras.yaml").write_text(
        f"K1: {matrix}\nK2: {matrix}\nD1: [0.05, 0, 0, 0]\nD2: [0.05, 0, 0, 0]\n"
        "R: [1, 0, 0, 0, 1, 0, 0, 0, 1]\nT: [-0.1, 0, 0]\n"
    )
    settings = {"model": str(network), "out": str(tmp_path / "out")}
    predict(PredictConfig(*images, **settings, calibration=str(tmp_path / "cameras.yaml")))
    rectified = cv2.imread(str(tmp_path / "out" / "left.png"))
    assert rectified.shape == (64, 96, 3)
    assert (rectified != cv2.imread(images[0])).any()


def test_shipped_student_is_the_default_and_named(
    tmp_path: Path, shipped_nano: Path, images: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        assert main(["predict", *images, "--out", str(tmp_path / "out"), "--max-disp", "32"]) == 0
    assert "model: nano, which ships with this version" in caplog.text
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["made_from"]["model"] == sha256_file(shipped_nano)
    assert (manifest["model"]["variant"], manifest["model"]["max_disp"]) == ("nano", 32)


def test_shipped_student_without_torch_says_what_works(
    tmp_path: Path, shipped_nano: Path, images: tuple[str, str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(models, "installed", lambda runtime: runtime != "torch")
    for model in ([], ["--model", "nano"]):
        assert main(["predict", *images, "--out", str(tmp_path / "out"), *model]) == 2
        told = capsys.readouterr().err
        assert "the shipped student 'nano' needs torch" in told
        assert "give an .onnx or .engine" in told
        assert told.count("\n") == 1


def test_nothing_shipped(tmp_path: Path, images: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "student_weights", lambda: tmp_path / "none")
    with pytest.raises(UserError, match=r"no student ships with this version .*--model"):
        predict(PredictConfig(*images, out=str(tmp_path / "out")))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"max_disp": 100}, r"max_disp 100 is not a multiple of 32 \(nearest: 96\)"),
        ({"model": "network", "max_disp": 64}, "the number of disparities is fixed in this file"),
    ],
)
def test_disparity_range(
    tmp_path: Path, shipped_nano: Path, network: Path, images: tuple[str, str], changes: dict[str, object], told: str
) -> None:
    if "model" in changes:
        changes = {**changes, "model": str(network)}
    with pytest.raises(UserError, match=told):
        predict(PredictConfig(*images, out=str(tmp_path / "out"), **changes))  # type: ignore[arg-type]


def test_images_of_two_sizes(tmp_path: Path, network: Path, images: tuple[str, str]) -> None:
    write_png(tmp_path / "small.png", np.zeros((60, 96, 3), np.uint8))
    with pytest.raises(UserError, match="left is 96x64 but right is 96x60"):
        predict(PredictConfig(images[0], str(tmp_path / "small.png"), out=str(tmp_path / "out"), model=str(network)))


def test_without_camera_there_is_no_depth(tmp_path: Path, network: Path, images: tuple[str, str]) -> None:
    pytest.importorskip("onnxruntime")
    predict(PredictConfig(*images, out=str(tmp_path / "out"), model=str(network)))
    assert not (tmp_path / "out" / "depth.png").exists()
    assert not (tmp_path / "out" / "points.ply").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"focal_px": 500.0}, "depth needs both numbers"),
        ({"baseline_m": 0.1}, "depth needs both numbers"),
        ({"doffs_px": 1.0, "cx": 3.0}, "--doffs-px --cx without a focal length"),
        ({"focal_px": 500.0, "baseline_m": -1.0}, "must be positive"),
        ({"focal_px": 500.0, "calibration": "K.txt"}, "--calibration and --focal-px say the same thing twice"),
        ({"calibration": "gone.txt"}, "gone.txt: no such calibration"),
        ({"max_depth_m": -1.0}, "-1 m is no depth"),
        ({"model": "nano-that-is-not-there"}, "no such model file, folder or shipped student"),
        ({"left": "gone.png"}, "no such image"),
        ({"precision_hint": "bf16"}, "no precision hint 'bf16'"),
    ],
)
def test_what_the_user_can_fix(
    tmp_path: Path, network: Path, images: tuple[str, str], changes: dict[str, object], told: str
) -> None:
    settings = {"left": images[0], "right": images[1], "out": str(tmp_path / "out"), "model": str(network)}
    with pytest.raises(UserError, match=told):
        predict(PredictConfig(**{**settings, **changes}))  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_folder_of_several_models_is_ambiguous(
    tmp_path: Path, make_network: Callable[..., Path], images: tuple[str, str]
) -> None:
    for name in ("fp32", "int8"):
        make_network(tmp_path / "models" / f"{name}.onnx")
    with pytest.raises(UserError, match="holds several models"):
        predict(PredictConfig(*images, out=str(tmp_path / "out"), model=str(tmp_path / "models")))


def test_network_of_nothing_but_nan_writes_nothing(
    tmp_path: Path, make_network: Callable[..., Path], images: tuple[str, str]
) -> None:
    pytest.importorskip("onnxruntime")
    model = make_network(tmp_path / "nan.onnx", nan_above=-1.0)
    with pytest.raises(UserError, match="no finite disparity"):
        predict(PredictConfig(*images, out=str(tmp_path / "out"), model=str(model)))
    assert not (tmp_path / "out").exists()


def test_some_nan_is_said_and_written_as_invalid(
    tmp_path: Path, make_network: Callable[..., Path], images: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("onnxruntime")
    model = make_network(tmp_path / "nan.onnx", nan_above=128.0)
    predict(PredictConfig(*images, out=str(tmp_path / "out"), model=str(model)))
    holes = int(np.isnan(read_pfm(tmp_path / "out" / "disparity.pfm")).sum())
    assert 0 < holes < 64 * 96
    assert f"{holes} pixels came out as NaN" in caplog.text


def test_png_holds_what_it_can_and_says_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    disparity = np.array([[-0.5, 10.0, 255.9, 300.0, np.nan]], np.float32)
    np.testing.assert_array_equal(within_png(disparity), np.array([[0, 10, 255.9, np.nan, np.nan]], np.float32))
    assert "1 pixels beyond 256 px" in caplog.text


def test_depth_in_millimetres_and_its_limit(caplog: pytest.LogCaptureFixture) -> None:
    disparity = np.array([[50.0, 0.5, 0.0, np.nan]], np.float32)
    np.testing.assert_array_equal(depth_mm(Rig(500, 0.1), disparity), np.array([[1000, 0, 0, 0]], np.uint16))
    assert "2 pixels beyond 65.5 m" in caplog.text
