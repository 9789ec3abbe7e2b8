"""Every way a stereo stream arrives: image folders, videos, recordings of robots, data sets.

A source is a numbered sequence of frames. A frame that cannot be read is not the end: it comes back with its problem,
and the next one follows. `open_source` finds out what a path is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from stereo.calibration_model import StereoCalibration
from stereo.pair import Rig, StereoPair
from stereo.source_options import SourceOptions

Kind = Literal[
    "auto", "image_folder", "two_folders", "side_by_side_video", "two_videos", "kitti_raw", "kitti_odometry", "euroc",
    "bag", "middlebury", "eth3d", "kitti_stereo", "sceneflow",
]  # fmt: skip
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".webp")

# Kind → how it is opened: `(path, right, options) -> StereoSource`. By name, because those modules import this one.
OPENERS: dict[str, str] = {
    "image_folder": "stereo.image_sources:ImagePairs.open_folder",
    "two_folders": "stereo.image_sources:ImagePairs.open_two",
    "side_by_side_video": "stereo.video_sources:SideBySideVideo.open",
    "two_videos": "stereo.video_sources:TwoVideos.open",
    "kitti_raw": "stereo.kitti_sources:open_raw",
    "kitti_odometry": "stereo.kitti_sources:open_odometry",
    "euroc": "stereo.euroc_sources:open_euroc",
    "bag": "stereo.bag_sources:open_bag",
    "middlebury": "stereo.benchmark_sources:open_middlebury",
    "eth3d": "stereo.benchmark_sources:open_eth3d",
    "kitti_stereo": "stereo.benchmark_sources:open_kitti_stereo",
    "sceneflow": "stereo.benchmark_sources:open_sceneflow",
}


@dataclass(frozen=True)
class Frame:
    """One frame of a source: a pair, or why there is none.

    Args:
        index: number in the source, from 0.
        name: unique in the source and usable as a file name.
        pair: None when the frame cannot be read.
        reason: with no pair, the kind of problem in a few words, the same for all frames that have it.
        problem: with no pair, the whole message.
        files: files that hold exactly the left and right image in 8 bits, so that they can be linked; None otherwise.
    """

    index: int
    name: str
    pair: StereoPair | None = None
    reason: str | None = None
    problem: str | None = None
    files: tuple[Path, Path] | None = None


class StereoSource(ABC):
    """A numbered sequence of stereo frames.

    `read` takes any index, but reading in rising order is what it is fast at; both give the same images. What is
    kept in memory is where the frames are, never frames. Not safe to share between threads.
    """

    kind: str
    rig: Rig | None = None
    # How the images were taken, where the source tells it: what is needed to rectify them.
    calibration: StereoCalibration | None = None
    # Whether the images are rectified already; None when the source does not tell.
    rectified: bool | None = None

    @abstractmethod
    def __len__(self) -> int:
        """How many frames there are; for a video, how many its header promises."""

    @abstractmethod
    def read(self, index: int) -> Frame:
        """The frame with this number; never raises for a frame that is missing or broken."""

    @abstractmethod
    def name(self, index: int) -> str:
        """The name of the frame with this number, without reading it."""

    @abstractmethod
    def paths(self) -> list[Path]:
        """The files or folders it reads."""

    def describe(self) -> dict[str, Any]:
        """What identifies this source, for manifests."""
        return {"kind": self.kind, "paths": [str(path.resolve()) for path in self.paths()]}

    def close(self) -> None:
        """Release what is open."""
        return

    def __iter__(self) -> Iterator[Frame]:
        return (self.read(index) for index in range(len(self)))


def open_source(
    path: Path | str,
    *,
    right: Path | str | None = None,
    kind: Kind = "auto",
    options: SourceOptions | None = None,
) -> StereoSource:
    """Open a stereo stream.

    Args:
        path: what `stereo.source_kinds` knows: a folder of images or of a data set, a video, a bag.
        right: the folder or video of the right view, when it is apart.
        kind: what it is; "auto" finds out.
        options: how it is read.

    Raises:
        UserError: nothing there, nothing usable in it, or not of the kind that was asked for.
    """
    from stereo.source_kinds import check_kind, find_kind

    path, right = Path(path), Path(right) if right is not None else None
    if kind == "auto":
        kind = find_kind(path, right)
    else:
        check_kind(kind, path, right)
    module, _, name = OPENERS[kind].partition(":")
    opener: Any = import_module(module)
    for part in name.split("."):
        opener = getattr(opener, part)
    source: StereoSource = opener(path, right, options or SourceOptions())
    return source
