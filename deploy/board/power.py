"""The board's power mode: changed only when asked, through `sudo -n nvpmodel`, and always put back.

The mode to return to is noted on the disk before anything changes, so that also a step after a power cut returns to it:
nvpmodel remembers its mode across restarts.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy.board.children import Connection
from deploy.board.place import Place, write_whole
from deploy.board.refusal import Refusal

# Jetsons name their modes here: < POWER_MODEL ID=0 NAME=15W >
SETTINGS = "/etc/nvpmodel.conf"
# What some, AGX's, put before a name, and others leave out.
PREFIX = "mode_"
NOTE = "power_mode_before.json"
TIME_LIMIT_S = 60


def nvpmodel(*words: str, sudo: bool = False) -> subprocess.CompletedProcess:
    """Run nvpmodel; a question whether to restart the board is answered with no.

    Raises:
        Refusal: it is not there, or hangs.
    """
    program = shutil.which("nvpmodel") or shutil.which("nvpmodel", path="/usr/sbin:/sbin")
    if program is None:
        raise Refusal("there is no nvpmodel on the board", where="--power-modes",
                      fix="leave the option out: power modes are Jetson's")  # fmt: skip
    command = [*(("sudo", "-n") if sudo else ()), program, *words]
    try:
        return subprocess.run(command, input="no\n", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=TIME_LIMIT_S)  # fmt: skip
    except FileNotFoundError:
        raise Refusal("there is no sudo on the board", where="--power-modes", fix="set the mode by hand") from None
    except subprocess.TimeoutExpired:
        raise Refusal(f"nvpmodel did not end within {TIME_LIMIT_S} s", where="--power-modes") from None


def current_mode() -> tuple[str, int]:
    """Name and number of the mode now.

    Raises:
        Refusal: nvpmodel does not tell.
    """
    said = nvpmodel("-q").stdout
    name, number = re.search(r"NV Power Mode:\s*(\S+)", said), re.search(r"^\s*(\d+)\s*$", said, re.M)
    if not name or not number:
        raise Refusal(f"nvpmodel -q does not tell the mode: {said.strip()[-200:]}", where="--power-modes")
    return name[1], int(number[1])


def find_mode(word: str) -> int:
    """The number of a mode given by number or name, `MODE_30W` or `30W`.

    Raises:
        Refusal: no such mode.
    """
    try:
        text = Path(SETTINGS).read_text(errors="replace")
    except OSError:
        text = ""
    known = {name: int(number) for number, name in re.findall(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>", text)}
    exact = {name.lower(): number for name, number in known.items()}
    short = {name.removeprefix(PREFIX): number for name, number in exact.items()}
    for by_name, wanted in ((exact, word.lower()), (short, word.lower().removeprefix(PREFIX))):
        if wanted in by_name:
            return by_name[wanted]
    if word.isdecimal() and (not known or int(word) in known.values()):
        return int(word)
    names = ", ".join(f"{name} ({number})" for name, number in known.items()) or "numbers only: it has no list of names"
    raise Refusal(f"the board has no power mode '{word}'", where="--power-modes", fix=f"it has {names}")


def change_mode(number: int) -> None:
    """Change the mode, unless that takes a restart.

    Raises:
        Refusal: it takes one, sudo asks for a password, or the mode is not the wanted one afterwards.
    """
    done = nvpmodel("-m", str(number), sudo=True)
    said = " ".join(done.stdout.split())
    if "reboot" in said.lower():
        raise Refusal(f"power mode {number} takes a restart, which flash does not do", where="--power-modes",
                      fix=f"sudo nvpmodel -m {number} on the board, then flash again without this mode")  # fmt: skip
    if done.returncode and "sudo:" in said:
        raise Refusal(f"sudo does not run nvpmodel without a password: {said[-200:]}", where="--power-modes",
                      fix="allow it on the board: echo \"$USER ALL=(root) NOPASSWD: $(command -v nvpmodel)\" | "
                      "sudo tee /etc/sudoers.d/nvpmodel")  # fmt: skip
    if done.returncode or current_mode()[1] != number:
        raise Refusal(f"nvpmodel did not change to mode {number}: {said[-200:]}", where="--power-modes")


def restore_mode(place: Place) -> str | None:
    """Return to the noted mode, if one is noted. Returns its name when something had to be changed.

    Raises:
        Refusal: it cannot; the note stays for the next step.
    """
    note = place.root / NOTE
    try:
        before = json.loads(note.read_text())
    except (FileNotFoundError, ValueError):
        return None
    changed = current_mode()[1] != before["number"]
    if changed:
        change_mode(before["number"])
    note.unlink()
    return before["name"] if changed else None


@contextlib.contextmanager
def in_mode(word: str, place: Place) -> Iterator[str]:
    """Be in a power mode; gives its name. An empty word changes nothing and asks nothing.

    Raises:
        Refusal: see `find_mode` and `change_mode`; the mode is then what it was.
    """
    if not word:
        yield ""
        return
    number = find_mode(word)
    name, before = current_mode()
    if number == before:
        yield name
        return
    write_whole(place.root / NOTE, json.dumps({"name": name, "number": before}).encode())
    try:
        change_mode(number)
        yield current_mode()[0]
    finally:
        restore_mode(place)


def try_modes(place: Place, connection: Connection, arguments: dict[str, Any]) -> dict[str, Any]:
    """Enter and leave each of some modes, so that one that cannot be had is refused before hours of work.

    Args:
        arguments: words: the modes.

    Raises:
        Refusal: see `in_mode`.
    """
    names = []
    for word in arguments["words"]:
        with in_mode(word, place) as name:
            names.append(name)
    return {"names": names}
