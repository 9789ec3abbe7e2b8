"""Packed label sets far away: over http and through the AWS command line, shared by processes, damaged in every way."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill import packed as packed_module
from distill.packed import Spool, StreamedSet, is_address, open_labels
from stereo import errors
from stereo.errors import UserError
from stereo.label_set import LabelSet
from stereo.packed_set import PackedSet

pytest.importorskip("webdataset", reason="webdataset is not installed")
FRAMES, SHARDS = 21, 11


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_module, "PAUSE_S", 0.0)


@pytest.fixture(params=["packed", "address", "bucket"])
def location(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def fetched(spool: Path) -> list[str]:
    return sorted(path.name for path in spool.glob("*.tar"))


def test_every_way_gives_every_frame(location: str, labels: LabelSet, tmp_path: Path) -> None:
    found = open_labels(location, tmp_path / "spool")
    assert isinstance(found, PackedSet)
    assert len(found) == FRAMES
    assert found.names == labels.names
    for index in (20, 0, 11, 12):
        frame, expected = found.read(index), labels.read(index)
        assert frame.name == expected.name
        for part in ("left", "right", "disparity", "confidence"):
            np.testing.assert_array_equal(getattr(frame, part), getattr(expected, part), err_msg=part)


def test_webdataset_reads_the_shards(address: str, packed: Path, labels: LabelSet) -> None:
    wds = pytest.importorskip("webdataset")
    shards = [path.name for path in sorted(packed.glob("*.tar"))]
    samples = list(wds.WebDataset([f"{address}/{name}" for name in shards], shardshuffle=False))
    assert [int(sample["__key__"]) for sample in samples] == labels.numbers
    assert samples[3]["disparity.png"] == (labels.path / "disparity/clip.003.png").read_bytes()


def test_a_shard_is_fetched_once_and_the_oldest_make_room(server: Any, tmp_path: Path) -> None:
    found = StreamedSet.at(server.url, Spool(tmp_path / "spool", kept=2))
    counts = found.shard_frames
    assert len(counts) > 4
    server.asked.clear()
    for index in range(sum(counts[:2])):
        found.read(index)
    found.read(0)
    assert server.asked == ["/shard-000000.tar", "/shard-000001.tar"]
    found.read(sum(counts[:2]))
    # the first shard was read last, so the second one went
    digests = [shard["sha256"] for shard in found.manifest["shards"]]
    assert fetched(tmp_path / "spool") == sorted(f"{digests[number]}.tar" for number in (0, 2))
    for index in range(FRAMES):
        found.read(index)
        assert len(fetched(tmp_path / "spool")) <= 2


def test_a_shard_can_be_fetched_before_it_is_needed(server: Any, tmp_path: Path) -> None:
    found = StreamedSet.at(server.url, Spool(tmp_path / "spool"))
    for _ in range(2):
        found.prepare_shard(3)
    deadline = time.monotonic() + 60
    while not fetched(tmp_path / "spool") and time.monotonic() < deadline:
        time.sleep(0.01)
    found.read(sum(found.shard_frames[:3]))
    assert server.asked.count("/shard-000003.tar") == len(server.asked) - 1 == 1


def read_all(address: str, spool: Path) -> None:
    found = open_labels(address, spool)
    for index in range(FRAMES):
        found.read(index)


def test_processes_share_what_is_fetched(server: Any, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    readers = [context.Process(target=read_all, args=(server.url, tmp_path / "spool")) for _ in range(3)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert [reader.exitcode for reader in readers] == [0, 0, 0]
    shards = [path for path in server.asked if path.endswith(".tar")]
    assert len(shards) == len(set(shards)) == len(PackedSet.open(tmp_path / "packed").shard_frames)


def test_what_a_killed_fetch_left_is_removed(server: Any, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    old, new = spool / ".a.part.tar", spool / ".b.part.tar"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1e9, 1e9))
    open_labels(server.url, spool).read(0)
    assert not old.exists()
    assert new.exists()


@pytest.mark.parametrize("damage", ["cut", "between frames", "altered", "missing"])
def test_damaged_shards_end_in_one_line(packed: Path, address: str, tmp_path: Path, damage: str) -> None:
    shard = packed / "shard-000001.tar"
    data = bytearray(shard.read_bytes())
    if damage == "cut":
        shard.write_bytes(data[: len(data) // 2])
    elif damage == "between frames":  # the first sample and the archive's end marks: a whole tar file for any reader
        places = [place for place in range(0, len(data), 512) if data[place : place + 15].endswith(b".json\0")]
        shard.write_bytes(data[: places[1]] + bytes(1024))
    elif damage == "altered":
        data[data.index(b"IDAT") + 40] ^= 1
        shard.write_bytes(data)
    else:
        shard.unlink()
    found = open_labels(address, tmp_path / "spool")
    found.read(0)
    with pytest.raises(UserError, match=r"shard-000001\.tar: .*(bytes|in the manifest|is not there)") as caught:
        found.read(found.shard_frames[0])
    assert str(caught.value).startswith(address)
    # a folder tells the size when it is opened, and the content when a frame is read
    with pytest.raises(UserError, match=r"shard-000001\.tar"):
        list(open_labels(packed, tmp_path / "spool"))


def test_a_fetch_is_tried_again(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = open_labels(address, tmp_path / "spool")
    download, tries = packed_module.download, []

    def shaky(url: str, path: Path, shard: dict[str, object]) -> None:
        tries.append(url)
        if len(tries) < 3:
            raise OSError("the line is noisy")
        download(url, path, shard)

    monkeypatch.setattr(packed_module, "download", shaky)
    assert found.read(0).name == "clip.000"
    assert len(tries) == 3


def test_what_is_no_packed_set_is_said_so(address: str, packed: Path, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    with pytest.raises(UserError, match=r"nothing: manifest\.json: is not there"):
        open_labels(f"{address}/nothing", spool)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(UserError, match="no connection to the host"):
            open_labels(f"http://127.0.0.1:{unused.getsockname()[1]}", spool)
    with pytest.raises(UserError, match="no label set there"):
        open_labels(tmp_path / "nothing", spool)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no label set there"):
        open_labels(tmp_path / "empty", spool)
    (packed / "manifest.json").write_text("[]")
    for place in (address, packed):
        with pytest.raises(UserError, match="not a packed label set"):
            open_labels(place, spool)
    (packed / "manifest.json").write_text("<html>")
    for place in (address, packed):
        with pytest.raises(UserError, match=r"is (no|not a)"):
            open_labels(place, spool)
    (packed / "manifest.json").unlink()
    with pytest.raises(UserError, match="packing is not finished"):
        open_labels(packed, spool)
    assert not spool.exists()


def test_missing_programs_and_packages_are_named(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shell = shutil.which("sh")
    assert shell
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sh").symlink_to(shell)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for place in (address, "s3://bucket/set"):
        with pytest.raises(UserError, match=r"curl \(for http\) or aws \(for s3\) is not installed"):
            open_labels(place, tmp_path)

    def without(module: str) -> object:
        raise ImportError(f"No module named {module!r}")

    monkeypatch.setattr(errors, "importlib", type("importlib", (), {"import_module": staticmethod(without)}))
    assert importlib.import_module
    with pytest.raises(UserError, match=r"cannot import webdataset.*stereodistill\[webdataset\]"):
        open_labels(address, tmp_path)


@pytest.mark.parametrize(
    ("pattern", "chosen"),
    [
        ("manifest.json", range(SHARDS)),
        ("shard-000002.tar", [2]),
        ("shard-{000001..000003}.tar", [1, 2, 3]),
        ("shard-*0[135].tar", [1, 3, 5]),
    ],
)
def test_patterns_choose_shards(address: str, packed: Path, labels: LabelSet, pattern: str, chosen: range) -> None:
    whole = PackedSet.open(packed)
    ends = np.cumsum(whole.shard_frames)
    names = [name for place, name in enumerate(labels.names) if np.searchsorted(ends, place, "right") in chosen]
    for place in (address, packed):
        part = open_labels(f"{place}/{pattern}", packed.parent / "spool")
        assert isinstance(part, PackedSet)
        assert part.names == names
        assert part.read(0).name == names[0]
        assert (part.fingerprint() == whole.fingerprint()) == (len(chosen) == SHARDS)


@pytest.mark.parametrize("pattern", ["shard-000099.tar", "shard-{000009..000011}.tar", "frame-*.tar"])
def test_shards_that_are_not_there_are_told(packed: Path, pattern: str) -> None:
    with pytest.raises(UserError, match=r"has no shards .* \(it has shard-000000\.tar to shard-000010\.tar\)"):
        open_labels(f"{packed}/{pattern}", packed.parent)


def test_label_sets_and_addresses_are_told_apart(
    labels: LabelSet, tmp_path: Path, write_labels: Callable[..., Path]
) -> None:
    assert isinstance(open_labels(labels.path, tmp_path), LabelSet)
    assert isinstance(open_labels(write_labels(tmp_path / "other", 2), tmp_path), LabelSet)
    assert is_address("https://host/set")
    assert is_address("s3://bucket/set")
    assert not is_address("/data/set")
    assert not is_address("http:/set")
