"""Runs one step of `deploy.board` on the board: its sources go in through ssh's standard input, the answer comes back.

Standard input stays open for as long as we wait. When we end, or the connection does, the board sees it close and ends
what it was doing: no step goes on that nobody waits for.
"""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import shlex
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

from deploy.board.steps import STARTED
from deploy.ssh import Board, Dropped, explain
from stereo.errors import UserError

# In the order in which they import each other.
MODULES = tuple(
    f"deploy.board.{name}" for name in ("refusal", "archive", "place", "children", "install", "power", "steps")
)
FIRST = "import sys; n = int(sys.stdin.buffer.readline()); exec(sys.stdin.buffer.read(n))"
START = """
import sys, types
for name in ("deploy", "deploy.board"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []
for name, source in {sources!r}:
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(source, name, "exec"), module.__dict__)
sys.exit(sys.modules["deploy.board.steps"].main({request!r}))
"""
SSH_FAILED, NOT_FOUND = 255, 127

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What a step returned.

    Args:
        outcome: its own words.
        continued: whether it had been finished by an earlier flash.
        processor_s: processor time that it took on the board, with all that it ran.
    """

    outcome: Mapping[str, Any]
    continued: bool
    processor_s: float


def program(request: Mapping[str, Any]) -> bytes:
    """What goes in through standard input: a line with the length, then Python."""
    sources = [(name, inspect.getsource(importlib.import_module(name))) for name in MODULES]
    text = START.format(sources=sources, request=dict(request)).encode()
    return f"{len(text)}\n".encode() + text


class Listener(threading.Thread):
    """Reads standard error: what ssh says is kept, what the step says is shown as well.

    Args:
        stream: to read.
        show: whether to show it.
    """

    def __init__(self, stream: IO[bytes], *, show: bool) -> None:
        super().__init__(daemon=True)
        self.stream, self.show = stream, show
        self.lines: list[str] = []
        self.started = False

    def run(self) -> None:
        for line in self.stream:
            text = line.decode(errors="replace")
            if text.strip() == STARTED:
                self.started = True
                continue
            self.lines.append(text)
            if self.show and self.started:
                sys.stderr.write(text)
                sys.stderr.flush()

    @property
    def said(self) -> str:
        """All of it."""
        return "".join(self.lines[-200:])


def call_board(board: Board, request: Mapping[str, Any], *, reached: bool, show: bool = True) -> Answer:
    """Do one step.

    Args:
        request: see `deploy.board.steps`.
        reached: whether the board had been reached before, so that failing now means a dropped connection.
        show: whether to show what the step's programs say.

    Raises:
        UserError: ssh or the step says why not.
        Dropped: the connection ended.
    """
    command = board.command(f"python3 -s -B -c {shlex.quote(FIRST)}")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        listener = Listener(process.stderr, show=show)
        listener.start()
        try:
            process.stdin.write(program(request))
            process.stdin.flush()
        except BrokenPipeError:  # ssh ended; its exit code tells why
            log.debug("ssh ended before it took the step")
        try:
            answer = process.stdout.read()
            code = process.wait()
        except BaseException:
            process.terminate()
            raise
        listener.join()
    return read_answer(answer, code, listener, board, reached=reached)


def read_answer(answer: bytes, code: int, listener: Listener, board: Board, *, reached: bool) -> Answer:
    """What came back.

    Raises:
        UserError: ssh or the step says why not.
        Dropped: the connection ended.
    """
    lines = answer.decode(errors="replace").strip().splitlines()
    try:
        content = json.loads(lines[-1]) if lines else {}
    except ValueError:
        content = {}
    if isinstance(content, dict) and "refusal" in content:
        refusal = content["refusal"]
        where = f"{board.target}:{refusal['where']}" if refusal["where"] else board.target
        raise UserError(refusal["what"], where=where, fix=refusal["fix"])
    if code == 0 and isinstance(content, dict) and "outcome" in content:
        return Answer(content["outcome"], bool(content["continued"]), float(content.get("processor_s", 0.0)))
    if code < 0 or (code == SSH_FAILED and (reached or listener.started)):
        last = (listener.said.strip().splitlines() or ["no reason given"])[-1]
        raise Dropped(f"the connection was lost: {last}", where=board.target,
                      fix="start the same flash again: it continues")  # fmt: skip
    if code == SSH_FAILED:
        raise explain(listener.said, board)
    if code == NOT_FOUND:
        raise UserError("there is no python3 on the board", where=board.target, fix="apt install python3")
    last = (listener.said.strip().splitlines() or ["it said nothing"])[-1]
    raise RuntimeError(f"the board's side of flash ended with {code}: {last}")
