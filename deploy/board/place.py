"""The one folder on the board that is flash's own: its lock, its journal of finished steps, the space below it.

DIRECTORY/.stereodistill     says that the folder is ours
         /lock               one step at a time
         /journal/KEY.json   a finished step; the key is made of all that the step's outcome depends on
         /incoming/ bundles/ environments/ engines/ results/ temporary/
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy.board.refusal import MB, Refusal, free_bytes

MARK = ".stereodistill"
LOCK_WAIT_S = 20.0


class Place:
    """The folder, made when missing.

    Args:
        directory: its path; ~ is the user's home.

    Raises:
        Refusal: something else lives there, or it cannot be written.
    """

    def __init__(self, directory: str) -> None:
        root = Path(directory).expanduser().resolve()
        try:
            root.mkdir(parents=True, exist_ok=True)
            if not (root / MARK).exists():
                if any(root.iterdir()):
                    raise Refusal("there are files that flash did not put there", where=root,
                                  fix="give --directory a folder of its own")  # fmt: skip
                (root / MARK).write_text("Everything in this folder belongs to `stereodistill flash`.\n")
        except (FileExistsError, NotADirectoryError):
            raise Refusal("is a file on the board", where=root, fix="give --directory another name") from None
        except PermissionError:
            raise Refusal(
                "no permission to write there on the board", where=root, fix="give another --directory"
            ) from None
        self.root = root

    def folder(self, name: str) -> Path:
        """A folder below, made when missing."""
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock. A step that lost its connection gives it up within seconds, so there is some patience.

        Raises:
            Refusal: another flash goes on.
        """
        with (self.root / "lock").open("a") as file:
            end = time.monotonic() + LOCK_WAIT_S
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > end:
                        raise Refusal("another flash is at work in this folder of the board", where=self.root,
                                      fix="wait for it or end it") from None  # fmt: skip
                    time.sleep(0.2)
            yield

    def finished(self, key: str) -> dict[str, Any] | None:
        """What a step returned that was finished before; None when it was not."""
        try:
            return json.loads((self.root / "journal" / (key + ".json")).read_text())
        except (FileNotFoundError, ValueError):
            return None

    def forget(self, key: str) -> None:
        """Take a step for unfinished."""
        path = self.root / "journal" / (key + ".json")
        path.unlink(missing_ok=True)

    def finish(self, key: str, outcome: dict[str, Any]) -> None:
        """Note a step as finished, when all that it wrote is on the disk."""
        os.sync()
        path = self.folder("journal") / (key + ".json")
        write_whole(path, json.dumps(outcome).encode())

    def need(self, size_bytes: int, what: str) -> None:
        """Refuse work that would fill the disk.

        Raises:
            Refusal: less is free.
        """
        free = free_bytes(str(self.root))
        if free < size_bytes:
            missing = f"{what} takes {size_bytes / MB:.0f} MB, {free / MB:.0f} MB are free"
            raise Refusal(f"the board's disk is too full: {missing}", where=self.root,
                          fix="free some space, or give --directory on another disk")  # fmt: skip


def write_whole(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file that is either whole or not there, also after a power cut."""
    half = path.with_name(path.name + ".part")
    with half.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    half.chmod(mode)
    half.replace(path)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
