"""Fixtures that several rooms' tests use."""

from __future__ import annotations

import os
import signal
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real stereo pairs, video and a peer network; see CONTRIBUTING.md. Tests that need it skip without it."""
    path = Path(os.environ.get("STEREODISTILL_DATA", ROOT.parent / "shared" / "data"))
    if not (path / "pairs").is_dir():
        pytest.skip(f"no development data at {path} (set STEREODISTILL_DATA)")
    return path


@pytest.fixture
def shipped_nano(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A student of the preset tiny with fresh weights that stands where the package's own `nano` does, alone."""
    pytest.importorskip("torch", reason="torch is not installed (extra train)")
    from deploy import models
    from student.checkpoint import save_student
    from student.presets import build_student

    folder = tmp_path / "shipped"
    monkeypatch.setattr(models, "student_weights", lambda: folder)
    return save_student(build_student("tiny", max_disp=64), folder / "nano.safetensors", training={"steps": 1})


@pytest.fixture(scope="session")
def student_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny student whose weights have the sizes of a trained one's: settled batch norms, scores that pick planes."""
    torch = pytest.importorskip("torch", reason="torch is not installed (extra train)")
    from student.checkpoint import save_student
    from student.presets import build_student

    torch.manual_seed(0)
    student = build_student("tiny", max_disp=64).train()
    with torch.no_grad():
        for _ in range(10):
            student.predict_sequence(255 * torch.rand(2, 3, 64, 96), 255 * torch.rand(2, 3, 64, 96))
        student.classifier.weight.mul_(10)
    return save_student(student.eval(), tmp_path_factory.mktemp("student") / "tiny.safetensors", training={})


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Let tests interrupt what they start: shells make background jobs, and all that these start, deaf to Ctrl-C."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class TinyBenchmarks:
    """Two pairs of 2×4 px in the layout of each benchmark, files written byte by byte or by OpenCV, not by our code.

    The left image of the first is all 10, of the second all 20. OCCLUDED is seen by the left view only.
    """

    TRUTHS = (
        np.array([[10, 20, 30, 40], [50, 100, 200, np.nan]], np.float32),
        np.array([[8, np.nan, np.nan, np.nan], [np.nan, np.nan, np.nan, 16]], np.float32),
    )
    OCCLUDED = (np.array([[0, 0, 0, 0], [1, 0, 0, 0]], bool), np.zeros((2, 4), bool))
    LAYOUTS = ("pairs", "middlebury", "eth3d", "kitti2012", "kitti2015", "sceneflow", "fsd")

    def write(self, layout: str, root: Path) -> Path:
        """Write one layout below `root` and return the folder that `--data` gets."""
        for index in range(2):
            getattr(self, layout)(root, index)
        return root

    def pairs(self, root: Path, index: int) -> None:
        folder = root / "ab"[index]
        self.images(index, folder / "left.png", folder / "right.png")
        self.kitti_png(folder / "disp_left_x256.png", self.TRUTHS[index])
        if index == 0:
            self.png(folder / "noc.png", np.where(self.OCCLUDED[0], 0, 255))

    def middlebury(self, root: Path, index: int, size: str = "Q") -> None:
        scene = root / f"training{size}" / ("Adirondack", "ArtL")[index]
        self.images(index, scene / "im0.png", scene / "im1.png")
        self.scene_truth(scene, index)

    def eth3d(self, root: Path, index: int) -> None:
        name = ("delivery_area_1l", "electro_1l")[index]
        scene = root / "two_view_training" / name
        self.images(index, scene / "im0.png", scene / "im1.png", gray=True)
        for text in ("calib.txt", "cameras.txt", "images.txt"):
            (scene / text).write_text("")
        self.scene_truth(root / "two_view_training_gt" / name, index)

    def scene_truth(self, scene: Path, index: int) -> None:
        truth = self.TRUTHS[index]
        self.pfm(scene / "disp0GT.pfm", np.where(np.isnan(truth), np.inf, truth))
        visible = np.where(self.OCCLUDED[index], 128, 255)
        self.png(scene / "mask0nocc.png", np.where(np.isnan(truth), 0, visible))

    def kitti2012(self, root: Path, index: int) -> None:
        self.kitti(root / "training", index, ("colored_0", "colored_1"), ("disp_occ", "disp_noc"))

    def kitti2015(self, root: Path, index: int) -> None:
        self.kitti(root / "training", index, ("image_2", "image_3"), ("disp_occ_0", "disp_noc_0"))

    def kitti(self, part: Path, index: int, views: tuple[str, str], truths: tuple[str, str]) -> None:
        for frame in ("10", "11"):  # the second frame has no truth of its own
            self.images(index, *(part / view / f"{index:06d}_{frame}.png" for view in views))
        self.kitti_png(part / truths[0] / f"{index:06d}_10.png", self.TRUTHS[index])
        visible = np.where(self.OCCLUDED[index], np.float32(np.nan), self.TRUTHS[index])
        self.kitti_png(part / truths[1] / f"{index:06d}_10.png", visible)

    def sceneflow(self, root: Path, index: int, half: str = "TEST/A/0000", sign: int = 1, tree: str = "") -> None:
        name = f"{index + 6:04d}"
        for frames in ("frames_finalpass", "frames_cleanpass"):
            sides = [root / tree / frames / half / side / f"{name}.png" for side in ("left", "right")]
            self.images(index, *sides)
        for side in ("left", "right"):
            other = self.TRUTHS[index % 2] + (7 if side == "right" else 0)
            # SceneFlow is dense: what has no truth here lies behind the largest disparity that is counted.
            dense = np.where(np.isnan(other), 500, other)
            self.pfm(root / tree / "disparity" / half / side / f"{name}.pfm", sign * dense)

    def fsd(self, root: Path, index: int) -> None:
        data = root / "manipulation_kitchen_1/dataset/data"
        name = f"{index:04d}"
        self.images(index, data / f"left/rgb/{name}.jpg", data / f"right/rgb/{name}.jpg")
        steps = np.nan_to_num(self.TRUTHS[index] * 1000).astype(int)
        digits = np.stack([steps // 65025, steps % 65025 // 255, steps % 255], axis=-1)
        self.png(data / f"left/disparity/{name}.png", digits[:, :, ::-1])  # OpenCV writes BGR

    def images(self, index: int, left: Path, right: Path, *, gray: bool = False) -> None:
        for path in (left, right):
            self.png(path, np.full((2, 4) if gray else (2, 4, 3), 10 * index + 10))

    @staticmethod
    def png(path: Path, values: np.ndarray, dtype: type = np.uint8) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), values.astype(dtype))

    def kitti_png(self, path: Path, truth: np.ndarray) -> None:
        self.png(path, np.nan_to_num(truth) * 256, np.uint16)

    @staticmethod
    def pfm(path: Path, values: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [struct.pack(f"<{len(row)}f", *row) for row in values[::-1]]
        path.write_bytes(f"Pf\n{values.shape[1]} {values.shape[0]}\n-1\n".encode() + b"".join(rows))


@pytest.fixture(scope="session")
def tiny_benchmarks() -> TinyBenchmarks:
    """Writes small copies of every benchmark's layout."""
    return TinyBenchmarks()
