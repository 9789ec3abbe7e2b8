"""Shards hold a label set byte for byte, come out the same every time, and tell when they are damaged."""

import hashlib
import json
import tarfile

import numpy as np
import pytest

from stereo.errors import UserError
from stereo.frame_writer import Extras
from stereo.label_set import LabelledFrame, LabelSet
from stereo.label_set_view import write_view
from stereo.label_set_writer import LabelSetWriter
from stereo.packed_set import PackedSet
from stereo.packing import PackConfig, pack
from stereo.pair import Rig

PARTS = ("left", "right", "disparity", "confidence")


def frame(index, name=None, size=(24, 32)):
    random = np.random.default_rng(index)
    disparity = np.round(random.uniform(1, 60, size) * 256).astype(np.float32) / 256
    disparity[0, 0] = np.nan
    confidence = random.integers(0, 256, size).astype(np.float32) / np.float32(255)
    left, right = random.integers(0, 255, (2, *size, 3), np.uint8)
    return LabelledFrame(name or f"clip.{index:03d}", left, right, disparity, confidence)


@pytest.fixture
def labels(tmp_path):
    """Nine frames whose names have dots, one of them not to be trusted, in a set with a rig and terms."""
    writer = LabelSetWriter(
        tmp_path / "set", identity={"source": {"kind": "test"}, "teacher": {"name": "fake"}}, max_disp=64,
        rig=Rig(500.0, 0.1),
    )  # fmt: skip
    for index in range(9):
        extras = Extras(terms={"consistency": frame(index).confidence}, verdict="fog" if index == 4 else None)
        writer.add(index * 3, frame(index), extras)
    return writer.finish()


def config(labels, out, **options):
    return PackConfig(str(labels), out=str(out), **{"shard_mb": 0.02, **options})


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}


def same(found, expected):
    assert found.name == expected.name
    for part in PARTS:
        np.testing.assert_array_equal(getattr(found, part), getattr(expected, part), err_msg=part)


def test_what_is_packed_is_read_in_any_order(labels, tmp_path):
    packed = PackedSet.open(pack(config(labels, tmp_path / "packed")))
    unpacked = LabelSet.open(labels)
    assert len(packed.manifest["shards"]) > 2
    assert len(packed) == len(unpacked) == 8
    assert packed.names == unpacked.names
    assert packed.sizes == unpacked.sizes
    assert packed.rig == unpacked.rig
    kept = [frame.confidence >= unpacked.keep_threshold for frame in unpacked]
    valid = [np.isfinite(frame.disparity) for frame in unpacked]
    assert packed.manifest["kept_pct"] == pytest.approx(100 * np.mean(np.logical_and(kept, valid)), abs=1e-3)
    for index in (7, 0, 3, 3):
        same(packed.read(index), unpacked.read(index))
    for found, expected in zip(packed, unpacked, strict=True):
        same(found, expected)
    packed.verify()
    with pytest.raises(IndexError):
        packed.read(8)


def test_shards_are_plain_tars_of_the_files_of_the_set_with_nothing_of_this_machine(labels, tmp_path):
    out = pack(config(labels, tmp_path / "packed"))
    manifest = json.loads((out / "manifest.json").read_text())
    for shard in manifest["shards"]:
        data = (out / shard["file"]).read_bytes()
        assert shard["bytes"] == len(data) <= 0.02e6 + 10240
        assert shard["sha256"] == hashlib.sha256(data).hexdigest()
    with tarfile.open(out / "shard-000000.tar") as archive:
        members = archive.getmembers()
        assert [member.name for member in members[:5]] == [
            f"000000000.{suffix}" for suffix in ("json", "confidence.png", "disparity.png", "left.png", "right.png")
        ]
        assert {(member.mtime, member.uid, member.gid, member.uname, member.mode) for member in members} == {
            (0, 0, 0, "", 0o644)
        }
        left = archive.extractfile("000000000.left.png").read()
        told = json.loads(archive.extractfile("000000000.json").read())
    assert left == (labels / "left/clip.000.png").read_bytes()
    assert (told["name"], told["frame"]) == ("clip.000", 0)


def test_packing_is_the_same_every_time_and_goes_on_after_a_kill(labels, tmp_path):
    whole = pack(config(labels, tmp_path / "whole"))
    again = pack(config(labels, tmp_path / "again"))
    assert files(again) == files(whole)
    # As after a kill: two shards noted, the third one torn, no manifest.
    (again / "manifest.json").unlink()
    lines = (again / "shards.jsonl").read_bytes().splitlines(keepends=True)
    (again / "shards.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:20])
    (again / "shard-000002.tar").write_bytes(b"torn")
    untouched = (again / "shard-000001.tar").stat().st_mtime_ns
    assert files(pack(config(labels, again))) == files(whole)
    assert (again / "shard-000001.tar").stat().st_mtime_ns == untouched
    assert PackedSet.open(again).names == PackedSet.open(whole).names


def test_other_options_or_another_set_are_refused(labels, tmp_path):
    out = pack(config(labels, tmp_path / "packed"))
    with pytest.raises(UserError, match=r"shard_mb = 0\.02, this run has 1"):
        pack(config(labels, out, shard_mb=1))
    view = write_view(LabelSet.open(labels), ["clip.001"], tmp_path / "view", reason="test")
    with pytest.raises(UserError, match="label_set"):
        pack(config(view, out))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/precious.txt").write_text("x")
    with pytest.raises(UserError, match="holds no shards"):
        pack(config(labels, tmp_path / "mine"))
    with pytest.raises(UserError, match="shard_mb"):
        pack(config(labels, tmp_path / "other", shard_mb=0))


def test_untrusted_frames_are_packed_on_request_and_views_as_they_are(labels, tmp_path):
    packed = PackedSet.open(pack(config(labels, tmp_path / "all", untrusted=True)))
    assert len(packed) == 9
    assert "clip.004" in packed.names
    view = write_view(LabelSet.open(labels), ["clip.007", "clip.001"], tmp_path / "view", reason="test")
    assert PackedSet.open(pack(config(view, tmp_path / "few"))).names == ["clip.001", "clip.007"]


def test_damage_is_found(labels, tmp_path):
    out = pack(config(labels, tmp_path / "packed"))
    shard = out / "shard-000001.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    with pytest.raises(UserError, match=r"shard-000001.*bytes"):
        PackedSet.open(out)
    shard.unlink()
    with pytest.raises(UserError, match=r"shard-000001.*missing"):
        PackedSet.open(out)
    with pytest.raises(UserError, match=r"shard-000001.*missing"):
        pack(config(labels, out))
    altered = bytearray(whole)
    altered[whole.index(b"IDAT") + 40] ^= 1
    shard.write_bytes(altered)
    packed = PackedSet.open(out)
    with pytest.raises(UserError, match="differs from its checksum"):
        list(packed)
    with pytest.raises(UserError, match=r"shard-000001.*differs"):
        packed.verify()
    shard.write_bytes(bytes(len(whole)))
    with pytest.raises(UserError, match="shard-000001"):
        list(PackedSet.open(out))


def test_a_damaged_or_unfinished_set_is_not_packed(labels, tmp_path):
    path = labels / "disparity/clip.002.png"
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"clip\.002.*differs from its checksum"):
        pack(config(labels, tmp_path / "packed"))
    writer = LabelSetWriter(tmp_path / "half", identity={}, max_disp=64)
    writer.add(0, frame(0))
    writer.close()
    with pytest.raises(UserError, match="not finished"):
        pack(config(tmp_path / "half", tmp_path / "packed2"))
