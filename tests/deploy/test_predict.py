"""deploy.predict: the files promised, with the values promised."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from deploy.config import PredictConfig
from deploy.predict import depth_mm, predict, within_png
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


def test_without_camera_there_is_no_depth(tmp_path: Path, network: Path, images: tuple[str, str]) -> None:
    pytest.importorskip("onnxruntime")
    predict(PredictConfig(*images, out=str(tmp_path / "out"), model=str(network)))
    assert not (tmp_path / "out" / "depth.png").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"focal_px": 500.0}, "depth needs both numbers"),
        ({"focal_px": 500.0, "baseline_m": -1.0}, "must be positive"),
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
