"""Every way a stereo stream arrives: image folders, two folders, a side-by-side video, two videos.

A source is a numbered sequence of frames. A frame that cannot be read is not the end: it comes back with its problem,
and the next one follows. `open_source` finds out what a path is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stereo.errors import UserError
from stereo.pair import Rig, StereoPair

Kind = Literal["auto", "image_folder", "two_folders", "side_by_side_video", "two_videos"]
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".webp")


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

    `read` takes any index, but reading in rising order is what it is fast at. Not safe to share between threads.
    """

    kind: str
    rig: Rig | None = None

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


def find_kind(path: Path, right: Path | None) -> Kind:
    """What a path (and a second one for the right view) is.

    Raises:
        UserError: nothing there, or the two do not go together.
    """
    for each in (path, right):
        if each is not None and not each.exists():
            raise UserError("no such source", where=each, fix="give a folder of images or a video file")
        if each is not None and each.is_file() and each.suffix.lower() in IMAGE_SUFFIXES:
            raise UserError("is a single image", where=each, fix="give the folder it is in")
    if path.is_dir():
        if right is None:
            from stereo.image_sources import view_folders

            return "two_folders" if view_folders(path) else "image_folder"
        if not right.is_dir():
            raise UserError("the left view is a folder, so this must be one too", where=right)
        return "two_folders"
    if right is not None and right.is_dir():
        raise UserError("the left view is a file, so this must be one too", where=right)
    return "side_by_side_video" if right is None else "two_videos"


def open_source(path: Path | str, *, right: Path | str | None = None, kind: Kind = "auto") -> StereoSource:
    """Open a stereo stream.

    Args:
        path: a folder with both views, the folder of the left view, a side-by-side video, or the left video.
        right: the folder or video of the right view, when it is apart.
        kind: what it is; "auto" finds out.

    Raises:
        UserError: nothing there, nothing usable in it, or not of the kind that was asked for.
    """
    # Here, because both modules import this one.
    from stereo.image_sources import ImagePairs
    from stereo.video_sources import SideBySideVideo, TwoVideos

    path, right = Path(path), Path(right) if right is not None else None
    found = find_kind(path, right)
    kind = found if kind == "auto" else kind
    if kind in ("two_folders", "two_videos") and right is None and kind != found:
        raise UserError(f"kind {kind} needs the right view", where=path, fix="give it with --right")
    if (kind in ("side_by_side_video", "two_videos")) != path.is_file():
        raise UserError(f"is not of kind {kind}", where=path, fix=f"leave --kind out, or use --kind {found}")
    if kind == "side_by_side_video":
        return SideBySideVideo(path)
    if kind == "two_videos" and right is not None:
        return TwoVideos(path, right)
    return ImagePairs.two_folders(path, right) if kind == "two_folders" else ImagePairs.image_folder(path)
