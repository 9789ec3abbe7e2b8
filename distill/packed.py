"""Packed label sets far away: training reads them from an http(s) or s3 address as if they were on the disk.

WebDataset opens the addresses (https://github.com/webdataset/webdataset). A shard is fetched when the first of its
frames is drawn, compared with its checksum, and kept on the disk while `distill.draw_order` draws from it; then it is
deleted. All processes of a machine share what was fetched.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import shlex
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from distill.draw_order import MIXED_SHARDS
from stereo.artifacts import MANIFEST_NAME, atomic_path, read_json
from stereo.errors import UserError, require
from stereo.label_set import LabelSet
from stereo.packed_set import PackedSet, split_pattern, with_shards
from stereo.packing import KIND, SHARDS_NAME, check_packed_manifest

HINT = "pip install 'stereodistill[webdataset]'"
ADDRESS = re.compile(r"(https?|s3)://\S+")
CURL = "curl -f -s -L --netrc-optional --connect-timeout 20 --retry 2 --speed-limit 1 --speed-time 60"
AWS = "aws s3 cp --only-show-errors"
# What the exit codes of curl, and of a shell that finds no program, mean.
EXIT_CODES = {
    6: "the host is not known", 7: "no connection to the host", 18: "the connection broke off",
    22: "is not there, or may not be read", 28: "the connection timed out", 56: "the connection broke off",
    127: "curl (for http) or aws (for s3) is not installed",
}  # fmt: skip
UNREACHED = "check the connection; a damaged shard must be copied again"
ATTEMPTS, PAUSE_S = 3, 1.0
CHUNK_BYTES = 1 << 20
# Of a fetch that was killed, what it left is removed after this.
STALE_S = 3600.0

log = logging.getLogger(__name__)


def is_address(location: str | Path) -> bool:
    """Whether this is an address and not a path."""
    return ADDRESS.fullmatch(str(location)) is not None


def url_of(address: str, name: str) -> str:
    """What WebDataset opens to read a file of a packed set.

    WebDataset knows no s3, so the AWS command line fetches it, with the user's own settings for region and keys. The
    way that WebDataset calls curl would wait a quarter of an hour for a host that does not answer.
    """
    url = shlex.quote(f"{address.rstrip('/')}/{name}")
    return f"pipe:{AWS} {url} -" if address.startswith("s3://") else f"pipe:{CURL} {url}"


def reason(error: Exception) -> str:
    """Why a fetch failed, in a few words."""
    code = re.search(r": exit (\d+) \(read\)", str(error))
    if code is None:
        return str(error)
    return EXIT_CODES.get(int(code[1]), f"cannot be fetched, exit code {code[1]}")


def fetch_manifest(address: str) -> dict[str, Any]:
    """The manifest of a packed set.

    Raises:
        UserError: it cannot be read, or is none.
    """
    wds = require("webdataset", hint=HINT)
    try:
        with wds.gopen(url_of(address, MANIFEST_NAME)) as stream:
            content = stream.read()
    except OSError as error:
        raise UserError(
            f"{MANIFEST_NAME}: {reason(error)}",
            where=address,
            fix="check the address of the packed label set, and that it may be read",
        ) from error
    try:
        return check_packed_manifest(json.loads(content), address)
    except ValueError as error:
        raise UserError(f"{MANIFEST_NAME} is no manifest", where=address, fix="check the address") from error


def fetch(url: str, path: Path, shard: Mapping[str, Any], *, where: str) -> None:
    """Fetch a shard to a file that is there whole or not at all.

    Raises:
        UserError: no connection, a shard that is cut off or altered, or no space on the disk.
    """
    for left in reversed(range(ATTEMPTS)):
        try:
            with atomic_path(path) as temporary:
                download(url, temporary, shard)
            return
        except (OSError, ValueError) as error:
            if not left:
                raise UserError(reason(error), where=where, fix=UNREACHED) from error
            log.warning("%s: %s; trying again", where, reason(error))
            time.sleep(PAUSE_S)


def download(url: str, path: Path, shard: Mapping[str, Any]) -> None:
    """Write what is behind a URL to a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not the shard.
    """
    wds = require("webdataset", hint=HINT)
    digest, size = hashlib.sha256(), 0
    with wds.gopen(url) as stream, path.open("wb") as file:
        while data := stream.read(CHUNK_BYTES):
            digest.update(data)
            size += file.write(data)
    if size != shard["bytes"]:
        raise ValueError(f"has {size} bytes, not {shard['bytes']}")
    if digest.hexdigest() != shard["sha256"]:
        raise ValueError("differs from its checksum in the manifest")


class Spool:
    """Fetched shards, the last few that were read; any number of processes use it together.

    Args:
        folder: where they lie, each under its checksum; made when it is needed.
        kept: how many stay; by default those that draws are made from, those that are next, and as many for the process
            that is behind the others.
    """

    def __init__(self, folder: Path, *, kept: int = 3 * MIXED_SHARDS) -> None:
        self.folder, self._kept = folder, kept
        self._coming: set[str] = set()

    def open(self, url: str, shard: Mapping[str, Any], *, where: str) -> BinaryIO:
        """Open a shard, fetched or not yet.

        Args:
            url: what WebDataset fetches it from.
            shard: its line in the manifest.
            where: its address, for messages.

        Raises:
            UserError: it cannot be fetched.
        """
        path = self.folder / f"{shard['sha256']}.tar"
        while True:
            # Another process may delete it at any time; a file that is open stays readable.
            with suppress(FileNotFoundError):
                file = path.open("rb")
                # The system's own time stamps are a few ms coarse: shards used one after the other would tie.
                os.utime(file.fileno(), ns=(time.time_ns(), time.time_ns()))
                return file
            with self._locked(shard["sha256"]):
                if not path.exists():
                    fetch(url, path, shard, where=where)
            self._drop_oldest()

    def prepare(self, url: str, shard: Mapping[str, Any], *, where: str) -> None:
        """Begin to fetch a shard, unless it is there or on its way; see `open`. What goes wrong, `open` will tell."""
        digest = shard["sha256"]
        if digest in self._coming or (self.folder / f"{digest}.tar").exists():
            return

        def run() -> None:
            with suppress(UserError):
                self.open(url, shard, where=where).close()
            self._coming.discard(digest)

        self._coming.add(digest)
        threading.Thread(target=run, daemon=True).start()

    @contextmanager
    def _locked(self, digest: str) -> Iterator[None]:
        """Let one process at a time fetch a shard."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{digest[0]}.lock").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _drop_oldest(self) -> None:
        used: dict[Path, float] = {}
        for path in self.folder.glob("*.tar"):
            with suppress(FileNotFoundError):
                used[path] = path.stat().st_mtime
        finished = sorted((path for path in used if not path.name.startswith(".")), key=lambda path: used[path])
        stale = [path for path in used if path.name.startswith(".") and used[path] < time.time() - STALE_S]
        for path in [*finished[: -self._kept], *stale]:
            path.unlink(missing_ok=True)


class StreamedSet(PackedSet):
    """A packed set at an address; a sequence of frames, which are best read in the order of `distill.draw_order`.

    Args:
        path: its address.
        manifest: its manifest.
        spool: where its shards are kept while they are read.
    """

    def __init__(self, path: str, manifest: Mapping[str, Any], spool: Spool) -> None:
        super().__init__(path, manifest)
        self._address, self._spool = path, spool

    @classmethod
    def at(cls, address: str, spool: Spool) -> StreamedSet:
        """Open the set at an address, or those of its shards that a pattern names; see `with_shards`.

        Raises:
            UserError: no packed set there.
        """
        folder, pattern = split_pattern(address)
        folder = folder.rstrip("/")
        return cls(folder, with_shards(fetch_manifest(folder), pattern, folder), spool)

    def open_shard(self, number: int) -> BinaryIO:
        """Open the archive of a shard; it is fetched when it is not there.

        Raises:
            UserError: it cannot be fetched.
        """
        shard = self.manifest["shards"][number]
        return self._spool.open(url_of(self._address, shard["file"]), shard, where=self.where(number))

    def prepare_shard(self, number: int) -> None:
        """Begin to fetch a shard that will be read soon."""
        shard = self.manifest["shards"][number]
        self._spool.prepare(url_of(self._address, shard["file"]), shard, where=self.where(number))


def open_labels(location: str | Path, spool: Path) -> LabelSet | PackedSet:
    """Open what training learns from: a label set, a view of one, or a packed set in a folder or at an address.

    Args:
        location: folder, address, or a pattern of shards in one of them.
        spool: folder for shards that are fetched; made when it is needed.

    Raises:
        UserError: none of these there, or altered, or not to be reached.
    """
    text = str(location)
    if is_address(text):
        return StreamedSet.at(text, Spool(spool))
    folder = Path(split_pattern(text)[0])
    if (folder / SHARDS_NAME).exists():
        return PackedSet.open(text)
    if not (folder / MANIFEST_NAME).exists():
        raise UserError("no label set there", where=text,
                        fix="make one with `stereodistill label`, or pack one with `stereodistill pack`")  # fmt: skip
    packed = read_json(folder / MANIFEST_NAME, what="label set").get("kind") == KIND
    return PackedSet.open(text) if packed else LabelSet.open(location)
