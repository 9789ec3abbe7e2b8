"""How a PC reaches a board: the system's own ssh and sftp, never asking, never accepting an unknown host key.

ssh's own configuration (~/.ssh/config) stays in force: host aliases, jump hosts and agents work as on the command line.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from stereo.errors import UserError

ALIVE_EVERY_S, ALIVE_COUNT, CONNECT_WITHIN_S = 10, 3, 15


class Dropped(UserError):
    """The connection ended although the board had been reached before: worth another attempt."""


@dataclass(frozen=True)
class Board:
    """Where a board is.

    Args:
        target: [user@]host, or a host of ssh's configuration.
        port: None takes ssh's own setting.
        identity: file of the private key; None takes ssh's own.
        known_hosts: file of host keys; None takes ssh's own.
    """

    target: str
    port: int | None = None
    identity: Path | None = None
    known_hosts: Path | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"([\w.\-]+@)?[\w.:\-\[\]%]+", self.target) or re.search(r"(^|@)-", self.target):
            raise UserError("is no board", where=self.target, fix="write user@host, as for ssh")
        for option, path in (("--identity", self.identity), ("--known-hosts", self.known_hosts)):
            if path is not None and not path.is_file():
                raise UserError("no such file", where=f"{option} {path}", fix="check the path")

    @property
    def options(self) -> list[str]:
        """Options that ssh and sftp share."""
        settings = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "UpdateHostKeys": "no",
            "ClearAllForwardings": "yes",
            "ConnectTimeout": str(CONNECT_WITHIN_S),
            "ServerAliveInterval": str(ALIVE_EVERY_S),
            "ServerAliveCountMax": str(ALIVE_COUNT),
        }
        if self.port is not None:
            settings["Port"] = str(self.port)
        if self.known_hosts is not None:
            settings["UserKnownHostsFile"] = f'"{self.known_hosts.resolve()}"'
        words = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        if self.identity is not None:
            words += ["-o", "IdentitiesOnly=yes", "-i", str(self.identity.resolve())]
        return words

    def command(self, remote: str) -> list[str]:
        """The command line that runs a shell command on the board."""
        return [client("ssh"), "-T", *self.options, "--", self.target, remote]

    def transfer(self) -> list[str]:
        """The command line that takes sftp's commands on standard input, and stops at the first that fails."""
        return [client("sftp"), *self.options, "-b", "-", "--", self.target]

    @property
    def spelled(self) -> str:
        """How a user reaches the board by hand."""
        port = f"-p {self.port} " if self.port is not None else ""
        known = f"-o UserKnownHostsFile={self.known_hosts} " if self.known_hosts is not None else ""
        return f"ssh {port}{known}{self.target}"


def client(name: str) -> str:
    """Where one of the system's programs is.

    Raises:
        UserError: it is not installed.
    """
    found = shutil.which(name)
    if found is None:
        raise UserError(f"there is no {name} on this machine", fix="apt install openssh-client")
    return found


def sftp_quoted(path: str) -> str:
    """A path as sftp's commands take it, with nothing in it that stands for other names."""
    return '"' + re.sub(r'(["\\*?\[\]])', r"\\\1", path) + '"'


def explain(said: str, board: Board) -> UserError:
    """What ssh's complaint means, and what to do.

    Args:
        said: its standard error.
    """
    host = board.target.rpartition("@")[2]
    # The order matters: a changed key also ends in "Host key verification failed".
    explanations = (
        ("REMOTE HOST IDENTIFICATION HAS CHANGED|host key for .* has changed",
         "its host key is another than before: a board that was flashed anew, or somebody in between",
         f"if you know why: ssh-keygen -R '{keyed(host, board.port)}' and {board.spelled}, comparing fingerprints"),
        ("Host key verification failed|No .*host key is known",
         "its host key is unknown",
         f"{board.spelled} once, comparing the fingerprint with that of "
         "`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the board"),
        (r"Permission denied|Too many authentication failures",
         "the board does not let us in without a password", f"ssh-copy-id {board.target}, or --identity KEY"),
        ("Could not resolve hostname", "no host of this name", "check the name, or give the address"),
        ("Connection refused", "nothing listens there", "start ssh on the board, check --port"),
        ("timed out|No route to host|Network is unreachable", "the board does not answer", "check cable and address"),
        ("UNPROTECTED PRIVATE KEY|bad permissions", "ssh refuses a key that others can read", "chmod 600 KEY"),
    )  # fmt: skip
    for pattern, what, fix in explanations:
        if re.search(pattern, said, re.I):
            return UserError(what, where=board.target, fix=fix)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return UserError(f"ssh failed: {lines[-1] if lines else 'it gave no reason'}", where=board.target,
                     fix=f"try {board.spelled}")  # fmt: skip


def keyed(host: str, port: int | None) -> str:
    """How known_hosts names a host at a port."""
    return host if port in (None, 22) else f"[{host}]:{port}"
