"""Programs that a step starts: they write to our standard error, and end when the connection to the PC does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from deploy.board.place import Place, write_whole
from deploy.board.refusal import Refusal, disk_full

TAIL_LINES = 80
OUR_ERROR = "stereodistill: error: "
FULL = ("No space left on device", "Disk quota exceeded", "no space left on the disk")
END_S = 5.0


class Lost(Exception):
    """The connection to the PC is gone."""


class Connection:
    """Watches standard input, which the PC keeps open as long as it waits: its end is the end of the connection."""

    def __init__(self) -> None:
        self.lost = threading.Event()
        self._children: list[subprocess.Popen] = []
        self._watched = threading.Lock()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while os.read(0, 1):
            pass
        self.cut()

    def cut(self) -> None:
        """End what was started."""
        self.lost.set()
        with self._watched:
            for child in self._children:
                stop(child)

    def wait(self, child: subprocess.Popen) -> int:
        """The exit status of a child.

        Raises:
            Lost: the connection ended first; the child was ended.
        """
        with self._watched:
            self._children.append(child)
        if self.lost.is_set():
            stop(child)
        try:
            code = child.wait()
        finally:
            stop(child)
            with self._watched:
                self._children.remove(child)
        if self.lost.is_set():
            raise Lost
        return code


def stop(child: subprocess.Popen) -> None:
    """End a child with all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if child.poll() is not None and number == signal.SIGTERM:
            continue
        try:
            os.killpg(child.pid, number)  # it leads a session of its own
        except (ProcessLookupError, PermissionError):
            return
        try:
            child.wait(END_S if number == signal.SIGTERM else None)
        except subprocess.TimeoutExpired:
            continue


def environment(place: Place) -> dict[str, str]:
    """Variables that keep caches, temporary files and settings of the programs inside our folder."""
    temporary, cache = str(place.folder("temporary")), str(place.folder("cache"))
    return {
        **os.environ,
        "TMPDIR": temporary,
        "XDG_CACHE_HOME": cache,
        "XDG_CONFIG_HOME": cache,
        "CUDA_CACHE_PATH": cache,
        # onnxruntime's Linux wheels note every start for their maker.
        "ORT_DISABLE_TELEMETRY": "1",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPYCACHEPREFIX": cache,
    }


def call(
    words: Sequence[str],
    *,
    place: Place,
    connection: Connection,
    what: str,
    capture: Path | None = None,
    quiet: bool = False,
) -> None:
    """Run a program, its standard error passed on to the PC.

    Args:
        what: the noun for messages.
        capture: the file to write its standard output to, whole or not at all.
        quiet: pass nothing on.

    Raises:
        Refusal: it failed.
        Lost: the connection ended.
    """
    child = subprocess.Popen(
        list(words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if capture else subprocess.DEVNULL,
        stderr=subprocess.PIPE, env=environment(place), cwd=str(place.root), start_new_session=True,
    )  # fmt: skip
    said: list[str] = []
    captured: list[bytes] = []
    threads = [threading.Thread(target=echo, args=(child.stderr, said, quiet), daemon=True)]
    if capture:
        threads.append(threading.Thread(target=keep, args=(child.stdout, captured), daemon=True))
    for thread in threads:
        thread.start()
    code = connection.wait(child)
    for thread in threads:
        thread.join()
    if code:
        raise failure(what, code, said, place)
    if capture:
        write_whole(capture, b"".join(captured))


def echo(stream: IO[bytes], said: list[str], quiet: bool) -> None:
    """Pass lines on to the PC, unless they are to be quiet, and keep the last."""
    for line in stream:
        text = line.decode(errors="replace")
        said.append(text.strip())
        del said[:-TAIL_LINES]
        if quiet or text.startswith(OUR_ERROR):  # told once, by the PC
            continue
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:  # nobody listens any more; the program's end is the connection's business
            continue


def keep(stream: IO[bytes], captured: list[bytes]) -> None:
    """Read all of a stream."""
    captured.append(stream.read())


def failure(what: str, code: int, said: Sequence[str], place: Place) -> Refusal:
    """What to say of a program that failed: its own last words."""
    if any(sign in line for line in said for sign in FULL):
        return disk_full(str(place.root))
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return Refusal(f"{what} was killed on the board, most likely for want of memory", where=place.root,
                       fix="close what else runs there, add swap, or take a smaller size")  # fmt: skip
    errors = [line for line in said if "error" in line.lower()] or [line for line in said if line]
    last = errors[-1].replace(OUR_ERROR, "", 1) if errors else "it said nothing"
    return Refusal(f"{what} failed on the board ({code}): {last}", where=place.root)
