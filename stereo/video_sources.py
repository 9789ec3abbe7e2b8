"""Stereo streams that are video files, decoded by OpenCV: one with both views side by side, or one per view.

Frames are decoded in order, because seeking in a compressed or damaged file lands elsewhere. After a frame that cannot
be decoded its successor's time stamp tells how many were lost, so that numbering stays right and the two views of two
files stay together.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from stereo.errors import UserError
from stereo.pair import Image, StereoPair
from stereo.sources import Frame, StereoSource

UNREADABLE = "frame cannot be decoded"
APART = "views are not simultaneous"


class VideoReader:
    """One video file, read in order.

    Args:
        path: the file.

    Raises:
        UserError: OpenCV cannot open it, or it promises no frames.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # FFmpeg would write its complaints about broken frames through the progress bar; we count those frames.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        self._open()
        self.count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.width = int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.height = int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        if self.count < 1:
            raise UserError("the video tells no number of frames", where=path, fix="convert it to mp4 or mkv")

    def _open(self) -> None:
        self._capture = cv2.VideoCapture(str(self.path))
        if not self._capture.isOpened():
            raise UserError(
                "OpenCV cannot open this as a video",
                where=self.path,
                fix="is it truncated? convert it to mp4, or copy again",
            )
        self._next, self._lost, self._first_ms = 0, False, None
        self._held: tuple[int, Image, float] | None = None
        self._passed = -1  # the last frame that was decoded and let go

    def read(self, index: int) -> tuple[Image, float] | None:
        """The frame with this number as uint8 H×W×3 RGB and its time in ms since the first; None when it is lost."""
        if index <= self._passed:
            self._capture.release()
            self._open()
        while self._held is None or self._held[0] < index:
            if self._held is None and self._next > index:
                return None
            self._advance(wanted=index)
        number, image, time_ms = self._held
        return (image, time_ms) if number == index else None

    def _advance(self, *, wanted: int) -> None:
        """Decode one more frame into `_held`; a failure only moves the number on."""
        if self._held is not None:
            self._passed, self._held = self._held[0], None
        number = self._next
        self._next += 1
        if not self._capture.grab():
            self._lost = True
            return
        time_ms = float(self._capture.get(cv2.CAP_PROP_POS_MSEC))
        if self._first_ms is None:
            self._first_ms = time_ms if number == 0 else 0.0
        if self._lost and self.fps > 0:
            number = max(number, round((time_ms - self._first_ms) * self.fps / 1000))
            self._next = number + 1
            self._lost = False
        if number < wanted:
            self._passed = number
            return
        done, image = self._capture.retrieve()
        if not done:
            self._lost = True
            return
        if image.dtype != np.uint8 or image.ndim != 3:
            raise UserError(
                f"frames decode to {image.dtype} {image.shape}", where=self.path, fix="convert to 8-bit video"
            )
        self._held = (number, np.ascontiguousarray(image[:, :, ::-1], dtype=np.uint8), time_ms - self._first_ms)

    def close(self) -> None:
        """Release the decoder."""
        self._capture.release()


class SideBySideVideo(StereoSource):
    """One video whose left half is the left view.

    Raises:
        UserError: not a video, or its width is odd.
    """

    kind = "side_by_side_video"

    def __init__(self, path: Path) -> None:
        self._video = VideoReader(path)
        if self._video.width % 2:
            raise UserError(
                f"the width {self._video.width} is odd, so it has no two halves",
                where=path,
                fix="is it really side by side? crop it to an even width, or give the right video with --right",
            )

    def __len__(self) -> int:
        return self._video.count

    def name(self, index: int) -> str:
        return f"{index:06d}"

    def paths(self) -> list[Path]:
        return [self._video.path]

    def close(self) -> None:
        self._video.close()

    def read(self, index: int) -> Frame:
        name = self.name(index)
        found = self._video.read(index)
        if found is None:
            return Frame(index, name, reason=UNREADABLE, problem=f"{self._video.path}: frame {index} cannot be decoded")
        image, half = found[0], found[0].shape[1] // 2
        left, right = np.ascontiguousarray(image[:, :half]), np.ascontiguousarray(image[:, half:])
        return Frame(index, name, StereoPair(left, right, name, rig=self.rig))


class TwoVideos(StereoSource):
    """One video per view, with the same frame rate, started together.

    Raises:
        UserError: one is not a video, or they differ in size or frame rate.
    """

    kind = "two_videos"

    def __init__(self, left: Path, right: Path) -> None:
        self._videos = VideoReader(left), VideoReader(right)
        first, second = self._videos
        if (first.width, first.height) != (second.width, second.height):
            raise UserError(
                f"the left video is {first.width}x{first.height} but the right one "
                f"{second.width}x{second.height} (width x height)",
                where=left,
                fix="give rectified videos of one size",
            )
        if abs(first.fps - second.fps) > 0.01 * max(first.fps, second.fps):
            raise UserError(f"the left video has {first.fps:g} frames/s but the right one {second.fps:g}", where=left)

    def __len__(self) -> int:
        return max(video.count for video in self._videos)

    def name(self, index: int) -> str:
        return f"{index:06d}"

    def paths(self) -> list[Path]:
        return [video.path for video in self._videos]

    def close(self) -> None:
        for video in self._videos:
            video.close()

    def read(self, index: int) -> Frame:
        name = self.name(index)
        found = [video.read(index) for video in self._videos]
        left, right = found
        if left is None or right is None:
            lost = " and ".join(str(video.path) for video, frame in zip(self._videos, found, strict=True) if not frame)
            return Frame(index, name, reason=UNREADABLE, problem=f"{lost}: frame {index} cannot be decoded")
        apart_ms = abs(left[1] - right[1])
        if apart_ms * self._videos[0].fps / 1000 > 0.5:
            return Frame(index, name, reason=APART, problem=f"frame {index}: the views are {apart_ms:.1f} ms apart")
        return Frame(index, name, StereoPair(left[0], right[0], name, rig=self.rig))
