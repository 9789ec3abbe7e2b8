"""Stereo streams that are video files: one with both views side by side, or one per view."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stereo.errors import UserError
from stereo.pair import Image, StereoPair
from stereo.source_options import Layout, SourceOptions
from stereo.sources import Frame, StereoSource
from stereo.stamps import match_stamps, nearest
from stereo.video_reader import ENDED, VideoReader

APART = "views are not simultaneous"

log = logging.getLogger(__name__)


def lost(index: int, name: str, why: str, *where: Path) -> Frame:
    """A frame without a pair; `why` is the kind of problem, with details behind a colon."""
    paths = " and ".join(map(str, where))
    return Frame(index, name, reason=why.partition(":")[0], problem=f"{paths}: frame {index}: {why}")


class SideBySideVideo(StereoSource):
    """One video whose left half is the left view.

    Args:
        path: the file.
        layout: "half" when each view was squeezed to half its width: it is stretched to the width of the whole.

    Raises:
        UserError: not a video, or its width is odd.
    """

    kind = "side_by_side_video"

    def __init__(self, path: Path, *, layout: Layout = "full") -> None:
        self._video, self._layout = VideoReader(path), layout
        width, height = self._video.width, self._video.height
        if width % 2:
            raise UserError(
                f"the width {width} is odd, so it has no two halves",
                where=path,
                fix="is it really side by side? crop it to an even width, or give the right video with --right",
            )
        # How the picture content is distributed does not tell: squeezed and natural images overlap in it by far.
        if layout == "full" and width // 2 < height:
            log.warning(
                "%s: each view is %dx%d, narrower than it is tall: if things look thin in it, the views were squeezed "
                "to half their width; then give --source.layout half", path, width // 2, height,
            )  # fmt: skip

    @classmethod
    def open(cls, path: Path, right: Path | None, options: SourceOptions) -> SideBySideVideo:
        """See `stereo.sources.OPENERS`."""
        return cls(path, layout=options.layout)

    def __len__(self) -> int:
        return self._video.count

    def name(self, index: int) -> str:
        return f"{index:06d}"

    def paths(self) -> list[Path]:
        return [self._video.path]

    def describe(self) -> dict[str, Any]:
        return super().describe() | ({"layout": self._layout} if self._layout != "full" else {})

    def close(self) -> None:
        self._video.close()

    def read(self, index: int) -> Frame:
        name = self.name(index)
        image = self._video.read(index)
        if isinstance(image, str):
            return lost(index, name, image, self._video.path)
        half = image.shape[1] // 2
        left, right = self._view(image[:, :half]), self._view(image[:, half:])
        return Frame(index, name, StereoPair(left, right, name, rig=self.rig))

    def _view(self, half: Image) -> Image:
        if self._layout == "half":
            half = cv2.resize(half, (2 * half.shape[1], half.shape[0]), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
        return np.ascontiguousarray(half)


class TwoVideos(StereoSource):
    """One video per view, started together; frames belong together by their time since the first one.

    A frame is a left frame with its right one. A frame of either video that the other one has no partner for is a
    frame with a problem, in the place where it belongs.

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
            raise UserError(
                f"the left video has {first.fps:g} frames/s but the right one {second.fps:g}",
                where=left,
                fix="give two videos that were recorded together; drop frames of the faster one",
            )
        self._times_us = tuple(
            np.array([round(1000 * video.index.time_ms(index)) for index in range(video.count)], np.int64)
            for video in self._videos
        )
        self._frames = self._pair_up()

    @classmethod
    def open(cls, path: Path, right: Path | None, options: SourceOptions) -> TwoVideos:
        """See `stereo.sources.OPENERS`."""
        if right is None:
            raise UserError("kind two_videos needs the right view", where=path, fix="give it with --right")
        return cls(path, right)

    def _pair_up(self) -> list[tuple[int, int]]:
        """(left frame, right frame) in the order of time, -1 where one has no partner."""
        left, right = self._times_us
        steps = np.concatenate([np.diff(left), np.diff(right)])
        partner = match_stamps(left, right, 0.5 * float(np.median(steps)) if len(steps) else 0.0)
        alone = np.setdiff1d(np.arange(len(right)), partner)
        times = np.concatenate([left, right[alone]])
        frames = np.concatenate(
            [np.stack([np.arange(len(left)), partner], 1), np.stack([np.full(len(alone), -1), alone], 1)]
        )
        return [(int(first), int(second)) for first, second in frames[np.argsort(times, kind="stable")]]

    def __len__(self) -> int:
        return len(self._frames)

    def name(self, index: int) -> str:
        return f"{index:06d}"

    def paths(self) -> list[Path]:
        return [video.path for video in self._videos]

    def close(self) -> None:
        for video in self._videos:
            video.close()

    def read(self, index: int) -> Frame:
        name = self.name(index)
        numbers = self._frames[index]
        if -1 in numbers:
            return self._without_partner(index, name)
        left, right = (video.read(number) for video, number in zip(self._videos, numbers, strict=True))
        if isinstance(left, str) or isinstance(right, str):
            broken = [
                video.path for video, view in zip(self._videos, (left, right), strict=True) if isinstance(view, str)
            ]
            return lost(index, name, left if isinstance(left, str) else str(right), *broken)
        return Frame(index, name, StereoPair(left, right, name, rig=self.rig))

    def _without_partner(self, index: int, name: str) -> Frame:
        here = 0 if self._frames[index][0] >= 0 else 1
        video, times = self._videos[1 - here], self._times_us[1 - here]
        time_us = self._times_us[here][self._frames[index][here]]
        if time_us > times[-1]:
            return lost(index, name, f"{ENDED}: after {video.count} frames", video.path)
        apart_ms = abs(float(times[nearest(np.array([time_us]), times)[0]] - time_us)) / 1000
        why = f"{APART}: the nearest frame is {apart_ms:.1f} ms from the other view's"
        return lost(index, name, why, video.path)
