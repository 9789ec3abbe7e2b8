"""The verb `label`: run a teacher over a stereo source into a label set.

Reading, matching and writing overlap: one thread reads ahead, the teacher works in the main thread, a few threads
encode and write. The journal is written in frame order by the main thread alone, so a killed run loses at most the
frames in flight and a resumed one ends with the same files.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from itertools import takewhile
from pathlib import Path

import cv2
import numpy as np

from stereo.artifacts import sha256_file
from stereo.errors import UserError
from stereo.label_set import LabelledFrame
from stereo.label_set_writer import LabelSetWriter, StoredFrame
from stereo.pair import Image
from stereo.pictures import disparity_picture, gray_picture, side_by_side, stacked, write_png
from stereo.progress import Ticker, progress
from stereo.sources import Frame, StereoSource, open_source
from teacher.config import LabelConfig
from teacher.protocol import Teacher
from teacher.registry import open_teacher

READ_AHEAD = 3
WRITERS = 2
# Frames between the teacher and the journal: the most that a kill can lose, and what must fit in memory. Half of them
# enter the journal at once, because syncing a busy disk per frame costs as much as encoding one; with a slow teacher,
# what is there after a second does.
IN_FLIGHT = 8
COMMIT_EVERY_S = 1.0
PREVIEW_WIDTH = 640
# A truncated video may lack thousands of frames: so many warnings of each kind, then only the count.
TELL_OF_EACH = 3

log = logging.getLogger(__name__)


def chosen_frames(config: LabelConfig, count: int) -> range:
    """Frame numbers that stride and limit leave of `count`.

    Raises:
        UserError: stride or limit below 1, or a threshold that is no confidence.
    """
    for option, value in (("stride", config.stride), ("limit", config.limit)):
        if value is not None and value < 1:
            raise UserError(f"{value} is below 1", where=f"--{option}")
    if not 0 <= config.keep_threshold <= 1:
        raise UserError(f"{config.keep_threshold} is not a confidence", where="--keep_threshold", fix="from 0 to 1")
    chosen = range(0, count, config.stride)
    return chosen[: config.limit]


def read_ahead(source: StereoSource, indexes: Sequence[int]) -> Generator[Frame, None, None]:
    """The frames with these numbers, decoded a few ahead in one thread of their own."""
    with ThreadPoolExecutor(1, thread_name_prefix="read") as reader:
        waiting: deque[Future[Frame]] = deque()
        try:
            for index in indexes:
                waiting.append(reader.submit(source.read, index))
                if len(waiting) > READ_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def preview(frame: LabelledFrame) -> Image:
    """Left image, disparity and confidence in one picture: in a row, or in a column when the images are wide."""
    height, width = frame.left.shape[:2]
    size = (min(PREVIEW_WIDTH, width), max(1, round(height * min(PREVIEW_WIDTH, width) / width)))
    parts = [
        cv2.resize(part, size, interpolation=how).astype(np.uint8)
        for part, how in (
            (frame.left, cv2.INTER_AREA),
            (disparity_picture(frame.disparity), cv2.INTER_NEAREST),
            (gray_picture(frame.confidence), cv2.INTER_AREA),
        )
    ]
    return stacked(*parts) if width > 2 * height else side_by_side(*parts)


def preview_frames(indexes: Sequence[int], count: int) -> set[int]:
    """About `count` frame numbers spread evenly."""
    if not indexes or count < 1:
        return set()
    return {indexes[round(place)] for place in np.linspace(0, len(indexes) - 1, min(count, len(indexes)))}


class Labelling:
    """One run of a teacher into a label set.

    Args:
        writer: the set.
        teacher: the teacher.
        links: whether source files may be linked.
        previews: frame numbers to draw.
    """

    def __init__(self, writer: LabelSetWriter, teacher: Teacher, *, links: bool, previews: set[int]) -> None:
        self._writer, self._teacher, self._links, self._previews = writer, teacher, links, previews
        self._in_flight: deque[Future[StoredFrame]] = deque()
        self._kept: list[float] = []
        self._told: Counter[str] = Counter()
        self._last_commit = time.monotonic()

    def run(self, frames: Iterable[Frame], ticker: Ticker) -> None:
        """Label frames in the order they come.

        Whatever ends it early (Ctrl-C, a full disk), frames already written enter the journal first.
        """
        with ThreadPoolExecutor(WRITERS, thread_name_prefix="write") as pool:
            try:
                for frame in frames:
                    if frame.pair is None:
                        self._commit_until(0, ticker)
                        self._skip(frame, ticker)
                        continue
                    output = self._teacher.predict(frame.pair)
                    labelled = LabelledFrame(
                        frame.name, frame.pair.left, frame.pair.right, output.disparity, output.confidence
                    )
                    self._in_flight.append(pool.submit(self._store, frame, labelled))
                    self._commit_some(ticker)
                self._commit_until(0, ticker)
            except BaseException:
                self._commit_what_is_written()
                raise

    def _skip(self, frame: Frame, ticker: Ticker) -> None:
        reason, problem = frame.reason or "unreadable", frame.problem or "unreadable"
        self._told[reason] += 1
        if self._told[reason] <= TELL_OF_EACH:
            more = "; more of this kind are only counted" if self._told[reason] == TELL_OF_EACH else ""
            log.warning("skipped %s: %s%s", frame.name, problem, more)
        self._writer.skip(frame.index, frame.name, reason=reason, detail=problem)
        ticker.advance()

    def _store(self, frame: Frame, labelled: LabelledFrame) -> StoredFrame:
        stored = self._writer.store(frame.index, labelled, files=frame.files if self._links else None)
        if frame.index in self._previews:
            write_png(self._writer.path / "pictures" / f"{frame.name}.png", preview(labelled))
        return stored

    def _commit_some(self, ticker: Ticker) -> None:
        """Make room when too much is in flight; after a second, take what is there."""
        if len(self._in_flight) >= IN_FLIGHT:
            self._commit_until(IN_FLIGHT // 2, ticker)
        elif time.monotonic() - self._last_commit >= COMMIT_EVERY_S:
            written = len(list(takewhile(Future.done, self._in_flight)))
            self._commit_until(len(self._in_flight) - written, ticker)

    def _commit_until(self, waiting: int, ticker: Ticker) -> None:
        """Enter finished frames into the journal, oldest first, until at most `waiting` are in flight."""
        ready: list[StoredFrame] = []
        try:
            while len(self._in_flight) > waiting:
                ready.append(self._in_flight.popleft().result())
        finally:
            self._writer.commit(*ready)
        self._last_commit = time.monotonic()
        for stored in ready:
            self._kept.append(stored.line["kept_pct"])
            ticker.advance(note=f"kept {sum(self._kept) / len(self._kept):.1f} % of pixels")

    def _commit_what_is_written(self) -> None:
        """Enter every frame into the journal whose files could be written; those that failed are labelled again."""
        wait(self._in_flight)
        self._writer.commit(*(future.result() for future in self._in_flight if future.exception() is None))
        self._in_flight.clear()


def label(config: LabelConfig) -> Path:
    """Label a source; see `LabelConfig`. Returns the label set's folder.

    Raises:
        UserError: no such source or teacher, a set with other settings, a full disk, or not one usable frame.
    """
    source = open_source(config.source, right=config.right, kind=config.kind)
    indexes = chosen_frames(config, len(source))
    teacher = open_teacher(config.teacher)
    description = teacher.describe()
    writer = LabelSetWriter(
        config.out,
        identity={"source": source.describe(), "teacher": description},
        max_disp=teacher.max_disp,
        keep_threshold=config.keep_threshold,
        made_from={"teacher weights": description.get("weights_sha256")},
        config=config,
        rig=source.rig,
    )
    done = writer.done
    todo = [index for index in indexes if index not in done]
    if len(todo) < len(indexes):
        log.info("%s: %d of %d frames are done, going on", config.out, len(indexes) - len(todo), len(indexes))
    run = Labelling(writer, teacher, links=config.links, previews=preview_frames(indexes, config.pictures))
    with (
        closing(source),
        closing(read_ahead(source, todo)) as frames,
        progress(f"label with {teacher.name}", len(todo)) as ticker,
    ):
        run.run(frames, ticker)
    return finish(writer, source)


def finish(writer: LabelSetWriter, source: StereoSource) -> Path:
    """Close the set and say what is in it.

    Raises:
        UserError: every frame was skipped.
    """
    totals = writer.totals()
    for reason, group in totals["skipped"].items():
        log.warning("skipped %d frames: %s", group["count"], reason)
    if not totals["frames"]:
        first = next(iter(writer.skipped.values()), {"detail": "the source is empty"})
        raise UserError(
            f"not one frame could be labelled; the first one: {first['detail']}",
            where=source.paths()[0],
            fix="check the source",
        )
    videos = {str(path): sha256_file(path) for path in source.paths() if path.is_file()}
    path = writer.finish({"source_frames": len(source)}, made_from=videos)
    log.info(
        "%s: %d frames, %.1f %% of pixels have a disparity, %.1f %% are kept (confidence >= %g)",
        path, totals["frames"], totals["valid_pct"], totals["kept_pct"], writer.keep_threshold,
    )  # fmt: skip
    return path
