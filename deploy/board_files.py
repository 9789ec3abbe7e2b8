"""Moves files between PC and board with the system's sftp, going on where a dropped connection stopped it."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from deploy.ssh import Board, Dropped, sftp_quoted
from stereo.progress import progress

POLL_S = 0.2
UNIT_BYTES = 1_000_000


def send(board: Board, local: Path, remote: str, *, have_bytes: int) -> None:
    """Append what is missing of a file that exists on the board.

    Args:
        remote: absolute path.
        have_bytes: how much of it is there.

    Raises:
        Dropped: the connection ended, or the board could not write.
    """
    size = local.stat().st_size
    # A name of our own choice: sftp would take brackets and stars in the user's for patterns.
    with tempfile.TemporaryDirectory(prefix="stereodistill-") as folder:
        (Path(folder) / "bundle").symlink_to(local.resolve())
        total = -(-size // UNIT_BYTES)
        with progress("copying", total, unit="MB") as ticker:
            ticker.advance(have_bytes // UNIT_BYTES)

            def sent(position: int) -> None:
                ticker.advance(max(0, min(position // UNIT_BYTES, total - 1) - ticker.done))

            sftp(board, f"reput bundle {sftp_quoted(remote)}\n", cwd=folder, watch=(local.resolve(), sent))
            ticker.advance(total - ticker.done)


def fetch(board: Board, remote: str, local: Path) -> None:
    """Copy a folder from the board; what it brings replaces files of the same name, all others stay.

    Args:
        remote: absolute path of the folder.

    Raises:
        Dropped: the connection ended; `local` is as it was.
    """
    local.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=local) as folder:
        sftp(board, f"get -r {sftp_quoted(remote)} fetched\n", cwd=folder)
        for path in sorted((Path(folder) / "fetched").rglob("*")):
            if path.is_file() and not path.is_symlink():
                target = local / path.relative_to(Path(folder) / "fetched")
                target.parent.mkdir(parents=True, exist_ok=True)
                path.replace(target)


def sftp(board: Board, commands: str, *, cwd: str, watch: tuple[Path, Callable[[int], None]] | None = None) -> None:
    """Run sftp's commands.

    Raises:
        Dropped: one failed.
    """
    done = threading.Event()
    process = subprocess.Popen(board.transfer(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, cwd=cwd)  # fmt: skip
    if watch is not None:
        threading.Thread(target=follow, args=(process.pid, *watch, done), daemon=True).start()
    try:
        _, errors = process.communicate(commands.encode())
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        done.set()
    if process.returncode:
        last = (errors.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
        raise Dropped(f"copying stopped: {last}", where=board.target, fix="start the same flash again: it continues")


def follow(pid: int, path: Path, sent: Callable[[int], None], done: threading.Event) -> None:
    """Tell how far a process has read a file, which sftp itself tells on terminals only. Works on Linux."""
    while not done.wait(POLL_S):
        with contextlib.suppress(OSError, ValueError, IndexError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                if link.readlink() == path:
                    sent(int(Path(f"/proc/{pid}/fdinfo/{link.name}").read_text().split()[1]))
