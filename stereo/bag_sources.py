"""Stereo streams in ROS 1 bags, ROS 2 recordings and MCAP files; see `stereo.bag_reader`.

A frame is a left image with the right image whose header stamp is nearest, within a tolerance.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from stereo.bag_images import compressed_image_from, image_from
from stereo.bag_reader import MessageCursor, index_topics, opened
from stereo.bag_topics import COMPRESSED, describe_cameras, find_topics, picture_topics
from stereo.errors import UserError
from stereo.image_sources import problem_of
from stereo.pair import Image, StereoPair
from stereo.source_options import SourceOptions
from stereo.sources import Frame, StereoSource
from stereo.stamps import distance_summary, match_stamps
from stereo.video_sources import APART

NS_PER_MS = 1e6

log = logging.getLogger(__name__)


class BagPairs(StereoSource):
    """Image messages of two topics, paired by their stamps; frames are numbered and named after the left stamps.

    Args:
        path: a .bag, .mcap or .db3 file, or the folder of a ROS 2 recording.
        options: topics and tolerance.

    Raises:
        UserError: not a bag, topics that are not clear, or no pair within the tolerance.
    """

    kind = "bag"

    def __init__(self, path: Path, options: SourceOptions) -> None:
        self._path, self._tolerance_ms = path, options.tolerance_ms
        with opened(path) as reader:
            self.topics = find_topics(reader, options, where=path)
            types = picture_topics(reader)
            self._compressed = [types[topic][0] == COMPRESSED for topic in self.topics]
            self.rig, self.calibration, self.rectified = describe_cameras(reader, self.topics, where=path)
            self._indexes = index_topics(reader, self.topics, where=path)
        self._pair_up()
        self._cursors = [MessageCursor(path, index) for index in self._indexes]

    def _pair_up(self) -> None:
        """Number the left messages by stamp and find the right one of each."""
        left, right = self._indexes
        order = np.argsort(left.stamps, kind="stable"), np.argsort(right.stamps, kind="stable")
        stamps = left.stamps[order[0]], right.stamps[order[1]]
        partner = match_stamps(*stamps, self._tolerance_ms * NS_PER_MS)
        matched = int((partner >= 0).sum())
        what = (
            f"{matched} of {len(left)} images of {left.topic} have one of {right.topic} (of {len(right)}) "
            f"within {self._tolerance_ms:g} ms"
        )
        if not matched:
            raise UserError(
                f"{what}: {distance_summary(*stamps, per_ms=NS_PER_MS)}",
                where=self._path,
                fix="do both clocks run alike? if the cameras are not triggered together, raise --source.tolerance_ms",
            )
        if matched < max(len(left), len(right)):
            log.warning("%s: %s", self._path, what)
        self._left, self._stamps = order[0], stamps[0]
        self._right = np.where(partner >= 0, order[1][partner], -1)
        repeated = len(np.unique(self._stamps)) < len(self._stamps)
        self._names = "{index:06d}_{stamp}" if repeated else "{stamp}"

    def __len__(self) -> int:
        return len(self._left)

    def name(self, index: int) -> str:
        return self._names.format(index=index, stamp=int(self._stamps[index]))

    def paths(self) -> list[Path]:
        return [self._path]

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"topics": list(self.topics), "tolerance_ms": self._tolerance_ms}

    def close(self) -> None:
        for cursor in self._cursors:
            cursor.close()

    def read(self, index: int) -> Frame:
        name, numbers = self.name(index), (int(self._left[index]), int(self._right[index]))
        if numbers[1] < 0:
            stamp = self._stamps[index]
            apart_ms = float(np.abs(self._indexes[1].stamps - stamp).min()) / NS_PER_MS
            problem = f"{self._path}: the image of {self.topics[1]} nearest to stamp {stamp} is {apart_ms:.3g} ms away"
            return Frame(index, name, reason=APART, problem=problem)
        try:
            left, right = (self._image(side, number) for side, number in enumerate(numbers))
            return Frame(index, name, StereoPair(left, right, name, rig=self.rig))
        except UserError as error:
            return Frame(index, name, reason=problem_of(error), problem=str(error))

    def _image(self, side: int, number: int) -> Image:
        where = f"{self._path} {self.topics[side]} message {number}"
        message = self._cursors[side].read(number)
        return (compressed_image_from if self._compressed[side] else image_from)(message, where=where)


def open_bag(path: Path, right: Path | None, options: SourceOptions) -> StereoSource:
    """See `stereo.sources.OPENERS`."""
    return BagPairs(path, options)
