"""ROS 1 bags, ROS 2 recordings and MCAP files through the library rosbags: stamps first, then any message.

No ROS is needed. https://ternaris.gitlab.io/rosbags/
"""

from __future__ import annotations

import logging
import struct
from array import array
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stereo.errors import UserError, require
from stereo.stamps import Stamps

INSTALL = "pip install 'stereodistill[bags]'"
REPAIR = {
    ".bag": "rosbag reindex FILE.bag",
    ".mcap": "mcap recover IN.mcap -o OUT.mcap",
    ".db3": "ros2 bag reindex FOLDER",
}
# After a stretch that cannot be read, reading goes on so much later; twice as much when that fails again.
FIRST_STEP_NS = 10_000_000

log = logging.getLogger(__name__)


def reading_errors() -> tuple[type[Exception], ...]:
    """What rosbags, and what it reads through, raise on damaged files."""
    return (
        require("rosbags.highlevel", hint=INSTALL).AnyReaderError,
        require("rosbags.rosbag1", hint=INSTALL).ReaderError,
        require("rosbags.rosbag2", hint=INSTALL).ReaderError,
        require("rosbags.serde", hint=INSTALL).SerdeError,
        require("apsw", hint=INSTALL).Error,
        zstd_error(),
        # struct, lz4, and reading past the end of a file that was cut.
        struct.error, OSError, EOFError, RuntimeError, ValueError, TypeError, KeyError, IndexError, AssertionError,
    )  # fmt: skip


def zstd_error() -> type[Exception]:
    """What the decompression of zstd raises: part of Python from 3.14 on, a package before."""
    try:
        return require("compression.zstd", hint=INSTALL).ZstdError
    except UserError:
        return require("backports.zstd", hint=INSTALL).ZstdError


def bag_files(path: Path) -> list[Path]:
    """What rosbags is to open for a path: the file, the folder of a ROS 2 recording, or ROS 1 bags split by size.

    Raises:
        UserError: a folder with several ROS 2 files but without their `metadata.yaml`.
    """
    if path.is_file() or (path / "metadata.yaml").exists():
        return [path]
    files = sorted(each for each in path.iterdir() if each.suffix in REPAIR)
    if not files:
        raise UserError("no bag in there", where=path, fix="give a .bag or .mcap file, or a folder with metadata.yaml")
    if len(files) > 1 and any(each.suffix != ".bag" for each in files):
        raise UserError(
            f"{len(files)} files but no metadata.yaml", where=path, fix="give one of them, or: ros2 bag reindex FOLDER"
        )
    return files


def open_reader(path: Path) -> Any:
    """An open `AnyReader`; each has a position of its own.

    Raises:
        UserError: no rosbags, or not a bag, or a damaged one.
    """
    highlevel = require("rosbags.highlevel", hint=INSTALL)
    typesys = require("rosbags.typesys", hint=INSTALL)
    files = bag_files(path)
    # Recordings of ROS 2 before Iron do not tell how their messages are made; these messages never changed.
    store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
    try:
        reader = highlevel.AnyReader(files, default_typestore=store)
        reader.open()
    except reading_errors() as error:
        suffix = next((each for each in REPAIR if each in files[0].name), ".mcap" if path.is_file() else ".db3")
        raise UserError(
            f"cannot be read as a bag: {error}", where=path, fix=f"was the recording cut off? {REPAIR[suffix]}"
        ) from error
    return reader


@contextmanager
def opened(path: Path) -> Generator[Any, None, None]:
    """`open_reader`, closed at the end."""
    reader = open_reader(path)
    try:
        yield reader
    finally:
        reader.close()


def stamp_ns(data: bytes, *, ros2: bool) -> int:
    """The stamp in the header that a serialized message starts with, in ns; nothing else is decoded.

    Raises:
        struct.error: too short.
    """
    if not ros2:
        seconds, rest = struct.unpack_from("<II", data, 4)  # after the sequence number
    else:
        seconds, rest = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)  # after the encapsulation
    return int(seconds) * 1_000_000_000 + int(rest)


@dataclass(frozen=True, eq=False)
class TopicIndex:
    """Where the messages of a topic are.

    Args:
        topic: its name.
        stamps: of their headers, ns, in the order of recording.
        logged: when they were recorded, ns: what a bag is searched by.
        place: number among the messages recorded at the same time.
    """

    topic: str
    stamps: Stamps
    logged: Stamps
    place: Stamps

    def __len__(self) -> int:
        return len(self.stamps)


def connections_of(reader: Any, topics: Sequence[str]) -> list[Any]:
    """The connections of some topics."""
    return [each for each in reader.connections if each.topic in topics]


def messages_past_damage(reader: Any, connections: list[Any], *, where: Path) -> Generator[tuple[Any, int, bytes]]:
    """All messages that can be read, in the order of recording; damaged stretches are left out with a warning."""
    start, step, last, gaps, seen = None, FIRST_STEP_NS, reader.start_time, 0, 0
    errors = reading_errors()
    while start is None or start < reader.end_time:
        try:
            for message in reader.messages(connections, start=start):
                last, step = message[1], FIRST_STEP_NS
                seen += 1
                yield message
            break
        except errors as error:
            if not gaps:
                log.warning("%s: damaged %.3f s after its start: %s", where, (last - reader.start_time) / 1e9, error)
            gaps += 1
            start, step = max(last + 1, start or 0) + step, 2 * step
    promised = sum(each.msgcount for each in connections)
    if seen < promised:
        log.warning("%s: %d of %d images cannot be read", where, promised - seen, promised)


def index_topics(reader: Any, topics: Sequence[str], *, where: Path) -> list[TopicIndex]:
    """Read an open bag once for the stamps of some topics; 24 bytes a message stay in memory."""
    stamps = {topic: array("q") for topic in topics}
    logged = {topic: array("q") for topic in topics}
    for connection, time, data in messages_past_damage(reader, connections_of(reader, topics), where=where):
        try:
            stamp = stamp_ns(data, ros2=reader.is2)
        except (struct.error, IndexError):
            continue
        stamps[connection.topic].append(stamp)
        logged[connection.topic].append(time)
    return [make_index(topic, np.array(stamps[topic], np.int64), np.array(logged[topic], np.int64)) for topic in topics]


def make_index(topic: str, stamps: Stamps, logged: Stamps) -> TopicIndex:
    """Number the messages that were recorded at the same time; headers that were never filled in give way to that."""
    if len(stamps) and not stamps.any():
        log.warning("%s: its headers have no stamps; the times of recording are taken instead", topic)
        stamps = logged
    order = np.argsort(logged, kind="stable")
    ordered = logged[order]
    place = np.empty(len(logged), np.int64)
    place[order] = np.arange(len(logged)) - np.searchsorted(ordered, ordered, side="left")
    return TopicIndex(topic, stamps, logged, place)


class MessageCursor:
    """Messages of one topic by number; going on to the next one is fast.

    Args:
        path: the bag.
        index: of the topic.
    """

    def __init__(self, path: Path, index: TopicIndex) -> None:
        # A reader of its own: one file has one position, and two cursors would move it from under each other.
        self._reader, self._index, self._path = open_reader(path), index, path
        self._errors = reading_errors()
        self._connections = connections_of(self._reader, [index.topic])
        self._messages: Any = None
        self._next = -1

    def read(self, number: int) -> Any:
        """The decoded message.

        Raises:
            UserError: the bag is damaged there.
        """
        try:
            found = next(self._messages, None) if number == self._next else None
            if found is None or found[1] != self._index.logged[number]:
                start = int(self._index.logged[number])
                self._messages = self._reader.messages(self._connections, start=start)
                for _ in range(int(self._index.place[number]) + 1):
                    found = next(self._messages)
            self._next = number + 1
            assert found is not None
            connection, _, data = found
            return self._reader.deserialize(data, connection.msgtype)
        except (*self._errors, StopIteration) as error:
            self._next = -1
            what = f"the message cannot be read: {error}"
            raise UserError(what, where=self._path, fix="copy the bag again") from error

    def close(self) -> None:
        """Release the file."""
        self._messages = None
        self._reader.close()
