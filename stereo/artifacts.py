"""How every stage puts its artifact on disk: whole or not at all, with a manifest beside it that can be verified.

A manifest says what the artifact is, from what it was made (sha256 of each input), with which resolved configuration,
tool versions and commit.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from stereo.errors import UserError

MANIFEST_NAME = "manifest.json"
# What a number may depend on; a package that is not installed is left out of the manifest.
TOOLS = (
    "stereodistill", "numpy", "opencv-python", "onnx", "onnxruntime", "openvino", "torch", "pytorch-lightning",
    "nvidia-modelopt", "tensorrt", "tensorrt-rtx-cu13-bindings",
)  # fmt: skip


def disk_error(error: OSError, path: Path) -> UserError | OSError:
    """Translate what a full or read-only disk says; other errors come back unchanged, for the caller to raise."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError("no space left on the disk; what was finished before is kept", where=path.parent,
                         fix="free some space and start the same command again")  # fmt: skip
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return UserError("no permission to write", where=path, fix="choose another folder with --out")
    return error


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Hand out a temporary path in the target's folder; on success it is synced and renamed to `path`.

    The temporary name keeps the suffix, because encoders choose their format by it.

    Raises:
        UserError: the disk is full or not writable.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.stem}.{secrets.token_hex(6)}.part{path.suffix}")
        # Unlike tempfile's, this file gets the permissions that the user's umask gives any new file.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise disk_error(error, path) from error
    try:
        yield temporary
        sync_and_rename(temporary, path)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def sync_and_rename(temporary: Path, path: Path) -> None:
    """Give a finished file its name, its content being on the disk first."""
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write a file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path | str, content: Any) -> None:
    """Write strict JSON atomically: NaN and infinity are refused, paths and dataclasses become plain values."""
    text = json.dumps(plain(content), indent=2, allow_nan=False, ensure_ascii=False)
    write_bytes(path, (text + "\n").encode())


def read_json(path: Path | str, *, what: str) -> Any:
    """Read a JSON artifact.

    Args:
        what: the noun for the error message, such as "results file".

    Raises:
        UserError: missing, unreadable or not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"no such {what}", where=path, fix="check the path") from error
    except IsADirectoryError as error:
        raise UserError(f"is a folder, not a {what}", where=path, fix="name the file in it") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"is not a {what}: {error}", where=path, fix="make it again") from error


def plain(value: Any) -> Any:
    """Turn dataclasses, paths, tuples and numpy scalars into what JSON knows."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (np.generic, np.ndarray)):
        return plain(value.tolist())
    return value


def sha256_bytes(data: bytes) -> str:
    """Hex sha256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path | str) -> str:
    """Hex sha256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def tool_versions() -> dict[str, str]:
    """Versions of the packages a result may depend on, read without importing them."""
    versions = {}
    for name in TOOLS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def commit() -> str | None:
    """The commit this code runs from, with "+changes" when the working tree differs; None outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout

    try:
        head = git("rev-parse", "--short=12", "HEAD").strip()
        changed = git("status", "--porcelain", "--untracked-files=no").strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{head}+changes" if changed else head


def now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def make_manifest(
    kind: str, *, made_from: Mapping[str, str | None], config: Any, content: Mapping[str, Any]
) -> dict[str, Any]:
    """Compose a manifest.

    Args:
        kind: what the artifact is, such as "label set".
        made_from: name of each input → its sha256 (None when the input has none, such as a live source).
        config: the resolved configuration, a dataclass or a mapping.
        content: fields of this kind of artifact.
    """
    return {
        "kind": kind,
        "made_at": now(),
        "made_from": dict(made_from),
        "config": plain(config),
        "tools": tool_versions(),
        "commit": commit(),
        **plain(content),
    }
