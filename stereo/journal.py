"""An append-only file of JSON lines that survives being killed: a line is either whole or cut off on the next start.

{"frame": 0, "name": "000000", ...}\\n
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stereo.artifacts import disk_error
from stereo.errors import UserError


def parse_lines(data: bytes, *, where: object) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield each whole line as (content, byte position behind it); a torn last line is left out.

    Raises:
        UserError: a whole line that is not a JSON object: the file was altered by something else.
    """
    start = 0
    while (end := data.find(b"\n", start)) >= 0:
        try:
            content = json.loads(data[start:end])
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise UserError(f"line at byte {start} is not JSON", where=where, fix="the journal was altered") from error
        if not isinstance(content, dict):
            raise UserError(f"line at byte {start} is not an object", where=where, fix="the journal was altered")
        start = end + 1
        yield content, start


def read_journal(path: Path) -> list[dict[str, Any]]:
    """All whole lines; none when the file does not exist."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    return [content for content, _ in parse_lines(data, where=path)]


class Journal:
    """The journal opened for appending; lines are synced to the disk before `append` returns.

    Args:
        path: the file; made when missing. A torn last line is cut off.

    Raises:
        UserError: another process is writing it, a line was altered, or the disk refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[dict[str, Any]] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise disk_error(error, path) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                "another process is writing this", where=path.parent, fix="wait for it or end it"
            ) from error
        whole = 0
        try:
            for content, whole in parse_lines(path.read_bytes(), where=path):  # noqa: B007 - used behind the loop
                self.lines.append(content)
            if path.stat().st_size != whole:  # a torn last line; a whole journal stays untouched
                self._file.truncate(whole)
        except OSError as error:
            raise disk_error(error, path) from error
        self._size = whole

    def append(self, *contents: Mapping[str, Any]) -> None:
        """Append lines, with one sync for all of them.

        Raises:
            UserError: the disk is full; nothing of these lines is kept.
        """
        data = b"".join(
            json.dumps(dict(content), allow_nan=False, ensure_ascii=False).encode() + b"\n" for content in contents
        )
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
        self.lines += [dict(content) for content in contents]

    def close(self) -> None:
        """Close the file."""
        self._file.close()
