"""Reads a bundle as if an enemy had made it: checked on the PC before it is sent, and on the board before it is used.

A bundle is an uncompressed tar. Its first member, manifest.json, lists every other one with size and sha256; whatever
is not listed, listed and missing, no plain file, or not where it says, makes the whole archive worthless.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from deploy.board.refusal import Refusal

MANIFEST = "manifest.json"
KIND = "stereodistill bundle"
SCHEMA_VERSION = 1
MANIFEST_LIMIT_BYTES = 64 << 20
BLOCK_BYTES = 1 << 20
AGAIN = "copy it again, or make it again with stereodistill bundle"


def sha256_of(path: str, advance: Callable[[int], None] | None = None) -> str:
    """Hex sha256 of a file.

    Args:
        advance: called with the number of bytes after each block.
    """
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while True:
            block = file.read(BLOCK_BYTES)
            if not block:
                return digest.hexdigest()
            digest.update(block)
            if advance:
                advance(len(block))


def refuse_name(name: str) -> None:
    """Refuse what could lead out of the folder that it is unpacked to, or would not be the same file everywhere.

    Raises:
        Refusal: such a name.
    """
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in name or not name.isprintable() or len(name) > 1000:
        raise Refusal(f"the archive holds the path {name!r}, which leads out of its folder", fix="do not use it")


def read_manifest(stream: IO[bytes] | None) -> dict[str, Any]:
    """The manifest with its list of members checked.

    Raises:
        Refusal: it is none, or of another version.
    """
    try:
        manifest = json.loads((stream.read() if stream else b"").decode())
        members = manifest["members"]
        kind, version = manifest["kind"], manifest["schema_version"]
        fine = all(
            isinstance(name, str) and isinstance(each["sha256"], str) and type(each["size_bytes"]) is int
            for name, each in members.items()
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Refusal("its manifest is damaged", fix=AGAIN) from None
    if kind != KIND or not fine:
        raise Refusal("is no bundle of stereodistill", fix="stereodistill bundle makes one")
    if version != SCHEMA_VERSION:
        raise Refusal(f"is a bundle of version {version}, this program reads {SCHEMA_VERSION}",
                      fix="make it again with this version")  # fmt: skip
    for name in members:
        refuse_name(name)
    return manifest


def members_of(tar: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, dict[str, Any]]]:
    """Each member with the manifest; the manifest itself first.

    Raises:
        Refusal: a member that the manifest does not list so, is listed and missing, or is no plain file.
    """
    manifest: dict[str, Any] | None = None
    seen = set()
    for member in tar:
        refuse_name(member.name)
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
            raise Refusal(f"the archive holds {member.name!r}, which is no plain file but a link, folder or device",
                          fix="do not use it")  # fmt: skip
        if manifest is None:
            if member.name != MANIFEST or member.size > MANIFEST_LIMIT_BYTES:
                raise Refusal("is no bundle of stereodistill", fix="stereodistill bundle makes one")
            manifest = read_manifest(tar.extractfile(member))
            yield member, manifest
            continue
        listed = manifest["members"].get(member.name)
        if listed is None or member.name in seen:
            what = "twice" if member.name in seen else "without its manifest listing it"
            raise Refusal(f"the archive holds {member.name!r} {what}", fix="do not use it")
        if member.size != listed["size_bytes"]:
            raise Refusal(f"{member.name} has {member.size} bytes in place of {listed['size_bytes']}", fix=AGAIN)
        seen.add(member.name)
        yield member, manifest
    if manifest is None:
        raise Refusal("is empty", fix=AGAIN)
    missing = sorted(set(manifest["members"]) - seen)
    if missing:
        raise Refusal(f"{missing[0]} is missing in the archive", fix=AGAIN)


def copy_member(source: IO[bytes], target: IO[bytes]) -> str:
    """Copy a member to its end, and return its sha256."""
    digest = hashlib.sha256()
    while True:
        block = source.read(BLOCK_BYTES)
        if not block:
            return digest.hexdigest()
        digest.update(block)
        target.write(block)


def opened_target(name: str, folder: Path | None) -> IO[bytes]:
    """Where a member is written to: a new file below the folder, or nowhere without one."""
    if folder is None:
        return Path(os.devnull).open("wb")
    file = folder.joinpath(*name.split("/"))
    file.parent.mkdir(parents=True, exist_ok=True)
    return file.open("xb")


def read_through(path: str, folder: Path | None, advance: Callable[[int], None] | None) -> dict[str, Any]:
    """Check every member, and write it below `folder` where one is given.

    Raises:
        Refusal: see `members_of`; or a member whose content is not the listed one.
    """
    found: dict[str, Any] = {}
    with tarfile.open(path, "r:") as tar:
        for member, manifest in members_of(tar):
            found = manifest
            source = tar.extractfile(member)
            assert source is not None  # it is for plain files
            with opened_target(member.name, folder) as target:
                digest = copy_member(source, target)
            if member.name != MANIFEST and digest != manifest["members"][member.name]["sha256"]:
                raise Refusal(f"{member.name} is damaged: its checksum differs from the manifest's", fix=AGAIN)
            if advance:
                advance(member.size)
    return found


def check(path: str, advance: Callable[[int], None] | None = None) -> dict[str, Any]:
    """The manifest of an archive in which everything is as the manifest says.

    Args:
        advance: called with the number of bytes after each member.

    Raises:
        Refusal: anything is not.
    """
    return guarded(path, None, advance)


def unpack(path: str, folder: Path) -> dict[str, Any]:
    """Unpack an archive into a folder that appears under its name when all of it is checked and on the disk.

    Raises:
        Refusal: anything in it is not as the manifest says.
    """
    half = folder.with_name(folder.name + ".part")
    shutil.rmtree(half, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    half.mkdir(parents=True)
    try:
        manifest = guarded(path, half, None)
        os.sync()
        half.rename(folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return manifest


def guarded(path: str, folder: Path | None, advance: Callable[[int], None] | None) -> dict[str, Any]:
    """`read_through` with what tarfile and the file system say of broken archives put into our words."""
    try:
        return read_through(path, folder, advance)
    except Refusal as refusal:
        refusal.where = refusal.where or path
        raise
    except (tarfile.TarError, EOFError, UnicodeError) as error:
        raise Refusal(f"is no whole archive: {error}", where=path, fix=AGAIN) from None
    except (FileExistsError, NotADirectoryError):
        raise Refusal("two paths in the archive exclude each other", where=path, fix="do not use it") from None
    except FileNotFoundError:
        raise Refusal("no such bundle", where=path, fix="check the path") from None
    except IsADirectoryError:
        raise Refusal("is a folder, not a bundle", where=path, fix="name the .tar file") from None
