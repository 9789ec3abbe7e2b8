"""Artifacts: whole or not at all."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

import numpy as np
import pytest

from stereo.artifacts import atomic_path, disk_error, make_manifest, read_json, sha256_bytes, sha256_file, write_json
from stereo.errors import UserError


def test_failure_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:  # noqa: PT012
        temporary.write_bytes(b"half")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_suffix_is_kept_and_permissions_follow_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.png"
    with atomic_path(path) as temporary:
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"x")
    assert stat.S_IMODE(path.stat().st_mode) & 0o400
    assert stat.S_IMODE(path.stat().st_mode) != 0o600


def test_full_disk_is_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no space left.*free some space"), atomic_path(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert isinstance(disk_error(OSError(errno.EIO, "broken"), tmp_path), OSError)


def test_real_full_disk(tmp_path: Path) -> None:
    """/dev/full refuses every byte as a full disk does."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    with pytest.raises(UserError, match="no space left"), atomic_path(tmp_path / "a"):
        full.write_bytes(b"x")
    assert not (tmp_path / "a").exists()


def test_json_is_strict_and_plain(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"path": Path("x"), "array": np.arange(2), "number": np.float32(1.5), "nested": ({"a": (1,)},)})
    assert read_json(path, what="test") == {"path": "x", "array": [0, 1], "number": 1.5, "nested": [{"a": [1]}]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"value": float("nan")})
    assert read_json(path, what="test")["number"] == 1.5


def test_reading_tells_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such manifest"):
        read_json(tmp_path / "none", what="manifest")
    (tmp_path / "text").write_text("not json")
    with pytest.raises(UserError, match="is not a manifest"):
        read_json(tmp_path / "text", what="manifest")
    with pytest.raises(UserError, match="is a folder"):
        read_json(tmp_path, what="manifest")


def test_manifest_and_checksums(tmp_path: Path) -> None:
    manifest = make_manifest("thing", made_from={"a": "0"}, config={"x": Path("y")}, content={"extra": 1})
    assert manifest["kind"] == "thing"
    assert manifest["config"] == {"x": "y"}
    assert manifest["extra"] == 1
    assert manifest["tools"]["numpy"] == np.__version__
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a") == sha256_bytes(b"abc")
