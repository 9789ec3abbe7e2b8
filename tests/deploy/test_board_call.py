"""What goes to the board is a program that its bare Python runs, and what comes back is told in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.board.steps import STARTED
from deploy.board_call import FIRST, Listener, program, read_answer
from deploy.ssh import Board, Dropped
from stereo.errors import UserError

BOARD = Board("user@jetson")


def interpreters() -> list[str]:
    """This Python, and the older ones that are here: JetPack 5 has 3.8, which has to be able to say so."""
    old = [shutil.which(f"python3.{minor}") for minor in (8, 9)]
    pyenv = sorted(Path.home().glob(".pyenv/versions/3.[89].*/bin/python3"))
    return [sys.executable, *(path for path in old if path and "shims" not in path), *map(str, pyenv)]


def run_there(python: str, request: dict[str, Any], folder: Path) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run([python, "-s", "-S", "-B", "-c", FIRST], input=program(request), capture_output=True,
                          cwd=folder, env={"HOME": str(folder), "PATH": "/usr/bin:/bin"})  # fmt: skip
    lines = done.stdout.decode().splitlines()
    return done.returncode, json.loads(lines[-1]) if lines else {}, done.stderr.decode()


@pytest.mark.parametrize("python", interpreters())
def test_a_bare_python_tells_what_the_board_is(python: str, tmp_path: Path) -> None:
    code, answer, said = run_there(python, {"step": "probe", "directory": "~/x", "arguments": {}}, tmp_path)
    assert code == 0, said
    assert answer["outcome"]["directory"] == str(tmp_path / "x")
    assert answer["outcome"]["tensorrt"] == ""
    assert said.splitlines() == [STARTED]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "thesis.tex").touch()
    request = {
        "step": "prepare",
        "directory": "~/x",
        "arguments": {"sha256": "0" * 64, "size_bytes": 1, "needs_bytes": 1},
    }
    code, answer, _ = run_there(sys.executable, request, tmp_path)
    assert code == 3
    assert "that flash did not put there" in answer["refusal"]["what"]
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["thesis.tex"]


def heard(said: str, *, started: bool) -> Listener:
    listener = Listener(subprocess.DEVNULL, show=False)  # type: ignore[arg-type]
    listener.lines, listener.started = said.splitlines(keepends=True), started
    return listener


@pytest.mark.parametrize(
    ("code", "said", "started", "reached", "kind", "told"),
    [
        (255, "kex_exchange_identification: reset", False, True, Dropped, "connection was lost"),
        (255, "client_loop: send disconnect: Broken pipe", True, False, Dropped, "connection was lost"),
        (-9, "", False, False, Dropped, "connection was lost"),
        (255, "ssh: connect to host jetson port 22: No route to host", False, False, UserError, "does not answer"),
        (255, "ssh: Could not resolve hostname jetson: x", False, False, UserError, "no host of this name"),
        (255, "something new", False, False, UserError, "ssh failed: something new"),
        (127, "sh: python3: not found", False, False, UserError, "no python3 on the board"),
        (1, "Traceback\nKeyError: 'x'", True, False, RuntimeError, "KeyError"),
    ],
)
def test_what_failed_is_told(
    code: int, said: str, started: bool, reached: bool, kind: type[Exception], told: str
) -> None:
    with pytest.raises(kind, match=told) as raised:
        read_answer(b"", code, heard(said, started=started), BOARD, reached=reached)
    assert type(raised.value) is kind


def test_a_login_that_talks_is_no_answer() -> None:
    """What a board's shell prints at every login stands before the answer."""
    answer = b'Welcome!\n{"outcome": {"a": 1}, "continued": true, "processor_s": 2}\n'
    assert read_answer(answer, 0, heard("", started=True), BOARD, reached=True).outcome == {"a": 1}
