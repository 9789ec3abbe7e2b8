"""What the board's side says when it cannot go on; the PC's side shows it as a `stereo.errors.UserError`."""

from __future__ import annotations

import errno
import os

MB = 1_000_000


class Refusal(Exception):
    """Something the user can fix.

    Args:
        what: the problem.
        where: the file, folder or option it sits in.
        fix: what to do about it.
    """

    def __init__(self, what: str, *, where: object | None = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what, self.where, self.fix = what, None if where is None else str(where), fix

    def fields(self) -> dict[str, str | None]:
        """As plain values."""
        return {"what": self.what, "where": self.where, "fix": self.fix}


def free_bytes(folder: str) -> int:
    """What an ordinary user may still write to the disk of a folder."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def disk_full(folder: str) -> Refusal:
    """The one line for a full disk."""
    return Refusal(f"the board's disk is full: {free_bytes(folder) / MB:.0f} MB are free", where=folder,
                   fix="free some space and start the same flash again: it continues")  # fmt: skip


def is_disk_full(error: OSError) -> bool:
    """Whether it says that a disk, or the user's share of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
