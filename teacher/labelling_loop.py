"""The labelling loop of one process: read ahead, label, write behind.

One thread reads and prepares frames ahead, the teacher works in the main thread, a few threads make confidence of its
answers, encode and write. Lines enter the journal in frame order from the main thread alone, so a killed run loses at
most the frames in flight and a resumed one ends with the same files. The plain loop and Lightning's both feed
`Labelling`.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import takewhile
from types import TracebackType
from typing import TypeVar

from stereo.frame_writer import Extras, FrameWriter, StoredFrame, dropped_frame, skipped_frame
from stereo.label_journal import FrameStates
from stereo.label_set import LabelledFrame
from stereo.pair import StereoPair
from stereo.pictures import write_png
from stereo.progress import Ticker
from stereo.sources import Frame, StereoSource
from teacher.labelling_preview import preview
from teacher.labelling_steps import Match, Prepared, Steps

READ_AHEAD = 3
WRITERS = 2
# Frames between the teacher and the journal: the most that a kill can lose, and what must fit in memory. Half of them
# enter the journal at once, because syncing a busy disk per frame costs as much as encoding one; with a slow teacher,
# what is there after a second does.
IN_FLIGHT = 8
COMMIT_EVERY_S = 1.0
# A truncated video may lack thousands of frames: so many warnings of each kind, then only the count.
TELL_OF_EACH = 3

Item = TypeVar("Item")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Share:
    """What falls to one of several processes: every `world`-th block, from number `rank` on.

    Args:
        indexes: the frame numbers of all processes.
        block: frames of a block; it must not depend on the number of processes.
        rank, world: number of the process, and how many there are.
    """

    indexes: Sequence[int]
    block: int
    rank: int = 0
    world: int = 1

    def blocks(self) -> Iterator[Sequence[int]]:
        """The blocks of frame numbers of this process."""
        for start in range(self.rank * self.block, len(self.indexes), self.world * self.block):
            yield self.indexes[start : start + self.block]

    def count_todo(self, states: FrameStates) -> int:
        """How many frames this process has to do."""
        return sum(not states.settled(index) for block in self.blocks() for index in block)


def prepared_frames(
    source: StereoSource, steps: Steps, blocks: Iterable[Sequence[int]], states: FrameStates
) -> Iterator[Prepared]:
    """The frames of some blocks that are not done yet, read and prepared."""
    for block in blocks:
        steps.begin_block()
        kept: int | None = None
        for index in block:
            if states.settled(index):
                kept = index if index in states else kept
                continue
            if kept is not None and steps.remembers:
                steps.remember(source.read(kept))
            kept = None
            yield steps.prepare(source.read(index))


def ahead(items: Iterator[Item], depth: int = READ_AHEAD) -> Generator[Item, None, None]:
    """The same items, made a few ahead in one thread of their own."""
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="read") as reader:
        waiting = deque(reader.submit(next, items, end) for _ in range(depth))
        try:
            while (item := waiting.popleft().result()) is not end:
                waiting.append(reader.submit(next, items, end))
                yield item  # pyright: ignore[reportReturnType] - the end never gets here
        finally:
            for future in waiting:
                future.cancel()


@dataclass(frozen=True)
class Timing:
    """How long one process worked, and how much of it the teacher did.

    Args:
        rank: number of the process.
        frames: that the teacher labelled.
        wall_s: from the first frame to the last line in the journal.
        teacher_s: while the teacher was running; its confidence and the files are made meanwhile.
    """

    rank: int
    frames: int
    wall_s: float
    teacher_s: float

    @property
    def idle_pct(self) -> float | None:
        """Share of the time in which the teacher was not running; None without a frame."""
        return 100 * max(0.0, 1 - self.teacher_s / self.wall_s) if self.frames and self.wall_s > 0 else None

    def record(self) -> dict[str, float | int | None]:
        """For the manifest."""
        idle = self.idle_pct
        return {
            "rank": self.rank,
            "frames": self.frames,
            "wall_s": round(self.wall_s, 3),
            "teacher_s": round(self.teacher_s, 3),
            "teacher_idle_pct": None if idle is None else round(idle, 2),
        }


class Labelling:
    """One process's part of a labelling: `take` every frame in order, inside a `with` block.

    Whatever ends the block early (Ctrl-C, a full disk), frames already written enter the journal first.

    Args:
        writer: of the set.
        steps: what is done to a frame.
        links: whether source files may be linked.
        previews: frame numbers to draw.
        ticker: told of each frame that is done.
        rank: number of this process.
    """

    def __init__(
        self, writer: FrameWriter, steps: Steps, *, links: bool, previews: set[int], ticker: Ticker, rank: int = 0
    ) -> None:
        self._writer, self._steps, self._links, self._previews = writer, steps, links, previews
        self._ticker, self._rank = ticker, rank
        self._in_flight: deque[Future[StoredFrame]] = deque()
        self._told: Counter[str] = Counter()
        self._frames, self._kept_pct = 0, 0.0
        self._start = self._last_commit = self._end = time.monotonic()
        self._teacher_s = 0.0

    def __enter__(self) -> Labelling:
        self._pool = ThreadPoolExecutor(WRITERS, thread_name_prefix="write")
        self._start = self._last_commit = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.drain()
            else:
                self._commit_what_is_written()
        finally:
            self._pool.shutdown()

    @property
    def timing(self) -> Timing:
        """Of the work up to the last `drain`."""
        return Timing(self._rank, self._frames, self._end - self._start, self._teacher_s)

    def take(self, prepared: Prepared) -> None:
        """Label a frame; its line enters the journal some frames later, or when drained."""
        frame = prepared.frame
        if prepared.dropped is not None:
            self._in_flight.append(finished(dropped_frame(frame.index, frame.name, reason=prepared.dropped)))
        elif frame.pair is None:
            self._in_flight.append(finished(self._skipped(prepared)))
        else:
            start = time.monotonic()
            match = self._steps.match(frame.pair)
            self._teacher_s += time.monotonic() - start
            self._in_flight.append(self._pool.submit(self._store, frame, frame.pair, match))
        self._commit_some()

    def drain(self) -> None:
        """Wait until all frames that were taken are in the journal."""
        self._commit_until(0)
        self._end = time.monotonic()

    def _skipped(self, prepared: Prepared) -> StoredFrame:
        frame = prepared.frame
        reason, problem = frame.reason or "unreadable", frame.problem or "unreadable"
        self._told[reason] += 1
        if self._told[reason] <= TELL_OF_EACH:
            more = "; more of this kind are only counted" if self._told[reason] == TELL_OF_EACH else ""
            log.warning("skipped %s: %s%s", frame.name, problem, more)
        return skipped_frame(frame.index, frame.name, reason=reason, detail=problem)

    def _store(self, frame: Frame, pair: StereoPair, match: Match) -> StoredFrame:
        label = self._steps.weigh(pair, match)
        labelled = LabelledFrame(frame.name, pair.left, pair.right, label.disparity, label.confidence)
        extras = Extras(frame.files if self._links else None, label.terms, label.verdict)
        stored = self._writer.store(frame.index, labelled, extras)
        if frame.index in self._previews:
            write_png(self._writer.path / "pictures" / f"{labelled.name}.png", preview(labelled))
        return stored

    def _commit_some(self) -> None:
        """Make room when too much is in flight; after a second, take what is there."""
        if len(self._in_flight) >= IN_FLIGHT:
            self._commit_until(IN_FLIGHT // 2)
        elif time.monotonic() - self._last_commit >= COMMIT_EVERY_S:
            written = len(list(takewhile(Future.done, self._in_flight)))
            self._commit_until(len(self._in_flight) - written)

    def _commit_until(self, waiting: int) -> None:
        """Enter finished frames into the journal, oldest first, until at most `waiting` are in flight."""
        ready: list[StoredFrame] = []
        try:
            while len(self._in_flight) > waiting:
                ready.append(self._in_flight.popleft().result())
        finally:
            self._commit(ready)
        self._last_commit = time.monotonic()
        for stored in ready:
            if "files" in stored.line:
                self._frames += 1
                self._kept_pct += stored.line["kept_pct"]
            note = f"kept {self._kept_pct / self._frames:.1f} % of pixels" if self._frames else ""
            self._ticker.advance(note=note)

    def _commit(self, ready: Sequence[StoredFrame]) -> None:
        """Enter frames into the journal; when that is interrupted they wait again, for the last attempt."""
        try:
            self._writer.commit(*ready)
        except BaseException:
            self._in_flight.extendleft(finished(stored) for stored in reversed(ready))
            raise

    def _commit_what_is_written(self) -> None:
        """Enter every frame into the journal whose files could be written; those that failed are labelled again."""
        wait(self._in_flight)
        self._writer.commit(*(future.result() for future in self._in_flight if future.exception() is None))
        self._in_flight.clear()


def finished(stored: StoredFrame) -> Future[StoredFrame]:
    """A frame without files, in the form of one whose files are written."""
    future: Future[StoredFrame] = Future()
    future.set_result(stored)
    return future
