"""A clip is one static world: its frames, poses and rig must agree, and its files must be readable as footage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distill.scene_clip import AHEAD_M, BASELINE_M, render_clip, write_clip
from distill.scene_street import EYE_HEIGHT_M
from distill.scenes_config import SceneOptions
from stereo.benchmarks import load_pairs
from stereo.errors import UserError
from stereo.pair import StereoPair
from stereo.sources import open_source

SIZE = (96, 160)
OPTIONS = SceneOptions(bank_size=24, photometric=False, max_disp=96.0)
FRAMES = 4


@pytest.fixture(scope="module")
def clip() -> list[StereoPair]:
    return list(render_clip(FRAMES, SIZE, seed=1, options=OPTIONS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip"), FRAMES, SIZE, seed=1, options=OPTIONS, truth_every=2)


def test_frames_have_truth_and_rig(clip: list[StereoPair]) -> None:
    assert [pair.name for pair in clip] == [f"{index:06d}" for index in range(FRAMES)]
    for pair in clip:
        assert pair.left.shape == (*SIZE, 3)
        assert pair.rig is not None
        assert pair.disparity is not None
        assert pair.noc is not None
        assert pair.disparity.min() >= 0
        assert pair.disparity.max() < OPTIONS.max_disp
        assert (pair.disparity == 0).any(), "there is a sky"
        assert 0.6 < pair.noc.mean() < 0.999


def points_of(pair: StereoPair, pose: np.ndarray) -> np.ndarray:
    """World points (N, 3) in metres of every pixel nearer than the horizon, from its disparity, rig and pose."""
    assert pair.rig is not None
    assert pair.disparity is not None
    y, x = np.nonzero(pair.disparity > 0.5)
    depth = pair.rig.depth_m(pair.disparity)[y, x].astype(np.float64)
    rays = np.stack([(x - pair.rig.cx) / pair.rig.focal_px, (y - pair.rig.cy) / pair.rig.focal_px, np.ones(len(x))], -1)
    return (rays * depth[:, None]) @ pose[:, :3].T + pose[:, 3]


def differences(world: np.ndarray, pair: StereoPair, pose: np.ndarray) -> np.ndarray:
    """Disparity that a frame has where world points (N, 3) should be, less the disparity they should have."""
    assert pair.rig is not None
    assert pair.disparity is not None
    local = (world - pose[:, 3]) @ pose[:, :3]
    local = local[local[:, 2] > 0.5]
    column = np.round(local[:, 0] / local[:, 2] * pair.rig.focal_px + pair.rig.cx).astype(int)
    row = np.round(local[:, 1] / local[:, 2] * pair.rig.focal_px + pair.rig.cy).astype(int)
    inside = (column >= 0) & (column < SIZE[1]) & (row >= 0) & (row < SIZE[0])
    expected = pair.rig.focal_px * BASELINE_M / local[inside, 2]
    return pair.disparity[row[inside], column[inside]] - expected


def test_points_of_one_frame_are_found_in_another(clip: list[StereoPair], folder: Path) -> None:
    poses = np.loadtxt(folder / "poses.txt").reshape(-1, 3, 4)
    world = points_of(clip[0], poses[0])
    # The road looks the same from anywhere on it, so it proves nothing about the poses.
    world = world[world[:, 1] < EYE_HEIGHT_M - 0.3]
    assert len(world) > 1000
    found = differences(world, clip[3], poses[3])
    # Rounding to a pixel moves a point by up to half a pixel, along a wall by .1 px of disparity or so; at the borders
    # of things the later frame sees something else.
    assert np.mean(np.abs(found) < 0.15) > 0.8
    unmoved = differences(world, clip[3], poses[0])
    assert np.mean(np.abs(unmoved) < 0.04) < 0.5 * np.mean(np.abs(found) < 0.04)
    assert np.median(np.abs(unmoved)) > 3 * np.median(np.abs(found))


def test_camera_moves_along_the_street(folder: Path) -> None:
    poses = np.loadtxt(folder / "poses.txt").reshape(-1, 3, 4)
    steps = np.diff(poses[:, :, 3], axis=0)
    assert (np.linalg.norm(steps, axis=1) > 0.2).all()
    assert (np.linalg.norm(steps, axis=1) < 1.0).all()
    assert np.allclose(poses[:, :, :3] @ poses[:, :, :3].transpose(0, 2, 1), np.eye(3), atol=1e-6)
    assert poses[-1, 2, 3] < AHEAD_M


def test_clip_reads_as_footage_and_as_truth(clip: list[StereoPair], folder: Path) -> None:
    source = open_source(folder)
    assert len(source) == FRAMES
    for frame, pair in zip(source, clip, strict=True):
        assert frame.pair is not None
        assert np.array_equal(frame.pair.left, pair.left)
        assert np.array_equal(frame.pair.right, pair.right)
    truth = load_pairs(folder / "truth")
    assert [pair.name for pair in truth] == ["000000", "000002"]
    for pair, index in zip(truth, (0, 2), strict=True):
        assert np.array_equal(pair.left, clip[index].left)
        # 8-bit fractions of a pixel; what is at infinity becomes the smallest valid step.
        assert np.abs(pair.disparity - clip[index].disparity).max() <= 1 / 256
        assert np.array_equal(pair.noc, clip[index].noc)


def test_calibration_tells_the_rig(clip: list[StereoPair], folder: Path) -> None:
    left, right = np.loadtxt(folder / "calib.txt").reshape(2, 3, 4)
    rig = clip[0].rig
    assert rig is not None
    assert left[0, 0] == pytest.approx(rig.focal_px)
    assert -right[0, 3] / right[0, 0] == pytest.approx(rig.baseline_m)


def test_same_seed_same_clip_and_noise_changes_from_frame_to_frame() -> None:
    options = SceneOptions(bank_size=24, max_disp=96.0)
    first, again = (list(render_clip(2, (48, 80), seed=5, options=options)) for _ in range(2))
    assert all(np.array_equal(a.left, b.left) for a, b in zip(first, again, strict=True))
    other = next(iter(render_clip(1, (48, 80), seed=6, options=options)))
    assert not np.array_equal(first[0].left, other.left)


def test_a_clip_without_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="0 frames"):
        write_clip(tmp_path / "clip", 0, SIZE, seed=0)
    assert not (tmp_path / "clip").exists()
