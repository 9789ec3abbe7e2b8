"""An append-only file of JSON lines that survives being killed: a line is either whole or cut off on the next start.

{"frame": 0, "name": "000000", ...}\\n

Lines are read one at a time and never held in memory, so a journal may be as long as the disk allows.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from stereo.artifacts import atomic_path, disk_error
from stereo.errors import UserError

# How far one step of the search for the last line end goes.
TAIL_BYTES = 1 << 16


def encode_line(content: Mapping[str, Any]) -> bytes:
    """One line of a journal."""
    return json.dumps(dict(content), allow_nan=False, ensure_ascii=False).encode() + b"\n"


def parse_line(data: bytes, start: int, *, where: object) -> dict[str, Any]:
    """The content of a whole line.

    Args:
        data: the line.
        start: its byte position, for the message.
        where: its file, for the message.

    Raises:
        UserError: not a JSON object: the file was altered by something else.
    """
    try:
        content = json.loads(data)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"line at byte {start} is not JSON", where=where, fix="the journal was altered") from error
    if not isinstance(content, dict):
        raise UserError(f"line at byte {start} is not an object", where=where, fix="the journal was altered")
    return content


def scan_journal(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield each whole line as (content, byte position); a torn last line is left out, a missing file has none.

    Raises:
        UserError: a whole line that is not a JSON object.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        start = 0
        for data in file:
            if not data.endswith(b"\n"):
                return
            yield parse_line(data, start, where=path), start
            start += len(data)


def read_journal(path: Path) -> list[dict[str, Any]]:
    """All whole lines; none when the file does not exist."""
    return [content for content, _ in scan_journal(path)]


def whole_size(file: BinaryIO) -> int:
    """Bytes up to the last line end."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - TAIL_BYTES)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def lock(file: BinaryIO, path: Path) -> None:
    """Take the lock that one process at a time can have.

    Raises:
        UserError: another process has it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError("another process is writing this", where=path.parent, fix="wait for it or end it") from error


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_locked(path: Path) -> BinaryIO:
    """Open for appending, locked; made when missing.

    Raises:
        UserError: another process has it, or the disk refuses.
    """
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("ab+", buffering=0)
        except OSError as error:
            raise disk_error(error, path) from error
        try:
            lock(file, path)
            # Between opening and locking, another process may have put a new file in this one's place, or removed it.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


class Journal:
    """The journal opened for appending; lines are synced to the disk before `append` returns.

    Args:
        path: the file; made when missing. A torn last line is cut off.

    Raises:
        UserError: another process is writing it, or the disk refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open_locked(path)
        try:
            self._size = whole_size(self._file)
            if path.stat().st_size != self._size:  # a torn last line; a whole journal stays untouched
                self._file.truncate(self._size)
        except OSError as error:
            self._file.close()
            raise disk_error(error, path) from error

    @property
    def lines(self) -> list[dict[str, Any]]:
        """All lines, read from the file; for journals that are known to be short."""
        return read_journal(self.path)

    def append(self, *contents: Mapping[str, Any]) -> None:
        """Append lines, with one sync for all of them.

        Raises:
            UserError: the disk is full; nothing of these lines is kept.
        """
        if not contents:
            return
        data = b"".join(encode_line(content) for content in contents)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except BaseException as error:
            # Ctrl-C may come between two pieces of a line; a fragment would spoil the lines behind it.
            os.ftruncate(self._file.fileno(), self._size)
            if isinstance(error, OSError):
                raise disk_error(error, self.path) from error
            raise
        self._size += len(data)

    def replace(self, lines: Iterable[bytes]) -> None:
        """Put other lines in the place of all, atomically; the lock is held throughout.

        Args:
            lines: each with its line end.

        Raises:
            UserError: the disk is full; the journal is as it was.
        """
        with atomic_path(self.path) as temporary:
            file = temporary.open("ab+", buffering=0)
            try:
                # Locked before it gets its name, so that no other process can come in between.
                lock(file, self.path)
                with temporary.open("ab") as buffered:
                    buffered.writelines(lines)
            except BaseException:
                file.close()
                raise
        self._file.close()
        self._file, self._size = file, self.path.stat().st_size
        sync_folder(self.path.parent)

    def close(self) -> None:
        """Close the file and let go of the lock."""
        self._file.close()
