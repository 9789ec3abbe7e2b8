"""Facts that the kernel and the distribution keep in small files, below a root that tests replace by a made-up one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path("/")
TIMEOUT_S = 10


def read(path: str) -> str | None:
    """A small text file, stripped of blanks and NULs; None when it is missing or not for this user.

    Args:
        path: below the root, without a leading slash.
    """
    try:
        return (ROOT / path).read_text(encoding="utf-8", errors="replace").strip("\0 \n\t")
    except OSError:
        return None


def read_number(path: str) -> float | None:
    """A file that holds one number; None when it holds none."""
    text = read(path)
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def matching(pattern: str) -> list[str]:
    """Paths below the root that match, without a leading slash, sorted."""
    try:
        return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern))
    except OSError:
        return []


def find_program(name: str) -> str | None:
    """Path of a program: on PATH, or where NVIDIA installs its own, which a login over SSH may not have on PATH."""
    found = (shutil.which(name, path=str(ROOT / folder)) for folder in ("usr/sbin", "usr/bin", "usr/src/tensorrt/bin"))
    return shutil.which(name) or next((path for path in found if path), None)


def answer(program: str, *arguments: str) -> str | None:
    """What a small program says on stdout; None when it is not there, fails, or does not come back."""
    path = find_program(program)
    if path is None:
        return None
    try:
        done = subprocess.run(
            [path, *arguments], capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
