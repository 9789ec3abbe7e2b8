"""The journals of a label set: what their lines mean, which line of a frame counts, how several become one.

While several processes label one set, each writes a journal of its own beside the set's: `journal.jsonl`,
`journal.0.jsonl`, `journal.1.jsonl`, ... Together they are the truth; of several lines for one frame the last counts.
Merging puts the lines that count into `journal.jsonl`, in frame order. That order is a function of the frames alone, so
the merged journal is the same however the work was shared out and however often it was killed.
"""

from __future__ import annotations

import contextlib
import re
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from stereo.errors import UserError
from stereo.journal import Journal, parse_line, scan_journal, sync_folder

JOURNAL_NAME = "journal.jsonl"
RANK_JOURNAL = re.compile(r"journal\.(\d+)\.jsonl")
# What a line says of its frame: its files are there; they are there but the teacher is not to be trusted with it; it
# could not be labelled, and is tried again on resume; it was left out by the selection, which would decide the same
# again.
FINISHED, UNTRUSTED, SKIPPED, DROPPED = 1, 2, 3, 4
# Frames whose files are checked on resume: as many as a run has under way, twice.
RECENT = 16


def kind_of(line: dict[str, Any], *, where: object) -> int:
    """What a line says of its frame.

    Raises:
        UserError: it is no line of a label set.
    """
    if isinstance(line.get("frame"), int) and isinstance(line.get("name"), str) and line["frame"] >= 0:
        if "files" in line:
            return UNTRUSTED if line.get("verdict") else FINISHED
        if "skipped" in line:
            return SKIPPED
        if "dropped" in line:
            return DROPPED
    raise UserError("a line of the journal is not of a label set", where=where, fix="the journal was altered")


def rank_journals(folder: Path) -> list[Path]:
    """The journals of single processes in a label set, in the order of their numbers."""
    found = [(int(match[1]), path) for path in folder.glob("journal.*.jsonl")
             if (match := RANK_JOURNAL.fullmatch(path.name))]  # fmt: skip
    return [path for _, path in sorted(found)]


class JournalIndex:
    """Where the line that counts of each frame is, in journals of any length: 17 bytes per frame.

    Args:
        paths: the journals, older ones first.

    Attributes:
        frames: (N,) int64, frame numbers, rising.
        kinds: (N,) uint8, what their lines say.
        recent: of each journal, its last finished lines.

    Raises:
        UserError: a journal was altered.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        frames, starts, kinds, ends = array("q"), array("q"), array("B"), []
        self.recent: dict[Path, list[dict[str, Any]]] = {}
        for path in self.paths:
            recent: deque[dict[str, Any]] = deque(maxlen=RECENT)
            for line, start in scan_journal(path):
                kind = kind_of(line, where=path)
                frames.append(line["frame"])
                starts.append(start)
                kinds.append(kind)
                if kind in (FINISHED, UNTRUSTED):
                    recent.append(line)
            self.recent[path] = list(recent)
            ends.append(len(frames))
        numbers = np.frombuffer(frames, np.int64) if frames else np.zeros(0, np.int64)
        # The sort is stable, so the last of equal numbers is the last line.
        order = np.argsort(numbers, kind="stable")
        last = np.append(numbers[order][1:] != numbers[order][:-1], np.ones(min(1, len(numbers)), bool))
        self._order = order[last]
        self.frames = numbers[self._order]
        self.kinds = np.frombuffer(kinds, np.uint8)[self._order] if kinds else np.zeros(0, np.uint8)
        self._starts = np.frombuffer(starts, np.int64)[self._order] if starts else np.zeros(0, np.int64)
        self._file = np.searchsorted(ends, self._order, side="right").astype(np.uint8 if len(ends) < 256 else np.int32)
        self._lines = len(frames)

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def merged(self) -> bool:
        """Whether the first journal alone holds just the lines that count, in frame order, and the others nothing."""
        return len(self) == self._lines and not self._file.any() and bool((np.diff(self._order) == 1).all())

    def where(self, place: int) -> tuple[Path, int]:
        """File and byte position of the line at a place of `frames`."""
        return self.paths[self._file[place]], int(self._starts[place])

    def raw_lines(self, places: Sequence[int] | None = None) -> Iterator[bytes]:
        """The lines as they stand in the files, in frame order; all, or those at some places."""
        with contextlib.ExitStack() as stack:
            files: dict[int, BinaryIO] = {}
            for place in range(len(self)) if places is None else places:
                number = int(self._file[place])
                if number not in files:
                    files[number] = stack.enter_context(self.paths[number].open("rb"))
                files[number].seek(int(self._starts[place]))
                yield files[number].readline()

    def lines(self, places: Sequence[int] | None = None) -> Iterator[dict[str, Any]]:
        """The content of the lines, in frame order; all, or those at some places."""
        for data in self.raw_lines(places):
            yield parse_line(data, 0, where=self.paths[0])


class FrameStates:
    """What is known of each frame, one byte per frame.

    Args:
        index: of the journals.
    """

    def __init__(self, index: JournalIndex) -> None:
        self._kinds = bytearray(int(index.frames[-1]) + 1 if len(index) else 0)
        np.frombuffer(self._kinds, np.uint8)[index.frames] = index.kinds

    def __getitem__(self, frame: int) -> int:
        return self._kinds[frame] if frame < len(self._kinds) else 0

    def __setitem__(self, frame: int, kind: int) -> None:
        if frame >= len(self._kinds):
            self._kinds.extend(bytes(max(frame + 1 - len(self._kinds), 4096)))
        self._kinds[frame] = kind

    def __contains__(self, frame: int) -> bool:
        """Whether the frame has its files, trusted or not."""
        return self[frame] in (FINISHED, UNTRUSTED)

    def settled(self, frame: int) -> bool:
        """Whether there is nothing to do for the frame."""
        return self[frame] in (FINISHED, UNTRUSTED, DROPPED)


def merge_journals(journal: Journal) -> JournalIndex:
    """Bring the journals of single processes into the set's own, and that into frame order.

    May be killed at any moment and done again: the merged journal gets its name before the others go, and lines that
    are there twice count once.

    Args:
        journal: the set's, opened.

    Returns:
        The index of the merged journal, with `recent` of those it was merged from.

    Raises:
        UserError: another process is still writing one of them.
    """
    others = rank_journals(journal.path.parent)
    locked = [Journal(path) for path in others]
    try:
        index = JournalIndex([journal.path, *others])
        merged = index
        if not index.merged:
            journal.replace(index.raw_lines())
        if others or not index.merged:
            merged = JournalIndex([journal.path])
            merged.recent = index.recent
        for path in others:
            path.unlink()
        if others:
            sync_folder(journal.path.parent)
    finally:
        for each in locked:
            each.close()
    return merged
