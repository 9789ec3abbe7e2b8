"""One flash's dealings with its board: steps one after the other, tried again when the connection drops."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from deploy.board_call import Answer, call_board
from deploy.board_files import send
from deploy.ssh import Board, Dropped
from stereo.progress import clock

# Before each further attempt; a board that restarts after a power cut needs the longest of them and then some.
PAUSES_S = (2.0, 5.0, 15.0)
SIGN_EVERY_S = 20.0

Result = TypeVar("Result")

log = logging.getLogger(__name__)


@contextlib.contextmanager
def signs_of_life(title: str) -> Iterator[None]:
    """Say every so often that a step goes on: pip is silent for a minute on a board."""
    done, start = threading.Event(), time.monotonic()

    def tell() -> None:
        while not done.wait(SIGN_EVERY_S):
            log.info("board: %s: %s so far", title, clock(time.monotonic() - start))

    threading.Thread(target=tell, daemon=True).start()
    try:
        yield
    finally:
        done.set()


class Session:
    """A board and flash's folder there.

    Args:
        directory: the folder, as the user names it.
    """

    def __init__(self, board: Board, directory: str) -> None:
        self.board, self.directory = board, directory
        self.root = directory
        self.reached = False
        self.done: list[dict[str, Any]] = []

    def retried(self, action: Callable[[], Result]) -> Result:
        """Do something, again when the connection drops meanwhile.

        Raises:
            Dropped: it dropped each time.
        """
        for pause_s in PAUSES_S:
            try:
                return action()
            except Dropped as dropped:
                log.warning("%s; again in %.0f s", dropped.what, pause_s)
                time.sleep(pause_s)
        return action()

    def call(self, step: str, arguments: Mapping[str, Any], *, again: bool = False, show: bool = True) -> Answer:
        """One step; see `deploy.board.steps`."""
        request = {"step": step, "directory": self.directory, "arguments": dict(arguments), "again": again}

        def attempt() -> Answer:
            answer = call_board(self.board, request, reached=self.reached, show=show)
            self.reached = True
            return answer

        return self.retried(attempt)

    def probe(self) -> Mapping[str, Any]:
        """What the board is."""
        found = self.call("probe", {}, show=False).outcome
        self.root = found["directory"]
        return found

    def step(self, title: str, step: str, arguments: Mapping[str, Any], *, again: bool = False) -> Mapping[str, Any]:
        """A journaled step, told to the user and kept for the record.

        Raises:
            UserError: it failed.
        """
        log.info("board: %s", title)
        start = time.monotonic()
        with signs_of_life(title):
            answer = self.call(step, arguments, again=again)
        seconds = time.monotonic() - start
        log.info("board: %s: %s", title, "was done before" if answer.continued else f"{seconds:.1f} s")
        self.done.append({"step": title, "seconds": round(seconds, 1), "continued": answer.continued,
                          "processor_s": answer.processor_s})  # fmt: skip
        return answer.outcome

    def verb(
        self, title: str, python: str, words: Sequence[str], *, makes: Sequence[str], capture: str = "",
        power_mode: str = "", again: bool = False,
    ) -> None:  # fmt: skip
        """A verb of this project in the environment on the board.

        Args:
            makes: the files it writes, relative to flash's folder.
            capture: the file that gets its standard output; "" for none.
            power_mode: to be in meanwhile; "" for any.
        """
        arguments = {
            "python": python, "words": list(words), "makes": list(makes), "capture": capture, "power_mode": power_mode,
        }  # fmt: skip
        self.step(title, "verb", arguments, again=again)

    def send(self, path: Path, sha256: str, *, needs_bytes: int) -> None:
        """Copy the bundle, unless the board has unpacked it before.

        Raises:
            UserError: the board's disk is too full, or the connection drops again and again.
        """
        size = path.stat().st_size
        start = time.monotonic()
        arguments = {"sha256": sha256, "size_bytes": size, "needs_bytes": needs_bytes}

        def attempt() -> bool:
            # Asked each time: it tells how far the copy has come, and whether the disk is full.
            there = self.call("prepare", arguments, show=False).outcome
            if there["taken"] or there["have_bytes"] == size:
                return True
            if there["have_bytes"]:
                log.info("board: %d of %d MB are there already", there["have_bytes"] // 10**6, size // 10**6)
            send(self.board, path, there["path"], have_bytes=there["have_bytes"])
            return False

        continued = self.retried(attempt)
        self.done.append({"step": "copy", "seconds": round(time.monotonic() - start, 1), "continued": continued,
                          "processor_s": None})  # fmt: skip
