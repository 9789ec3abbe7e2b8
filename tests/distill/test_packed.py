"""Streaming packed label sets: from a folder, over http and through the AWS command line, whole and in parts."""

import functools
import http.server
import os
import random
import stat
import sys
import threading

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from stereo.errors import UserError
from stereo.label_set import LabelledFrame, LabelSet
from stereo.label_set_writer import LabelSetWriter
from stereo.packing import PackConfig, pack

pytest.importorskip("webdataset", reason="webdataset is not installed")
from distill.packed import PackedStream, StreamedSet, is_address, part_of_shards, read_manifest

FRAMES = 21


def frame(index, size=(24, 32)):
    noise = np.random.default_rng(index)
    disparity = np.round(noise.uniform(1, 60, size) * 256).astype(np.float32) / 256
    left, right = noise.integers(0, 255, (2, *size, 3), np.uint8)
    return LabelledFrame(f"clip.{index:03d}", left, right, disparity, np.ones(size, np.float32))


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    writer = LabelSetWriter(tmp_path_factory.mktemp("set") / "set", identity={}, max_disp=64)
    for index in range(FRAMES):
        writer.add(index, frame(index))
    return LabelSet.open(writer.finish())


@pytest.fixture
def packed(labels, tmp_path):
    return pack(PackConfig(str(labels.path), out=str(tmp_path / "packed"), shard_mb=0.03))


@pytest.fixture
def address(packed):
    """The packed set behind an http server of our own."""
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=str(packed)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def bucket(packed, tmp_path, monkeypatch):
    """The packed set as s3://bucket/a set, behind a stand-in for the AWS command line that copies from the folder."""
    program = tmp_path / "bin/aws"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\n"
        "import shutil, sys\n"
        "words = sys.argv[1:]\n"
        "assert words[:3] == ['s3', 'cp', '--only-show-errors'] and words[4] == '-', words\n"
        "assert words[3].startswith('s3://bucket/a;set/'), words\n"
        f"with open({str(packed)!r} + '/' + words[3].rpartition('/')[2], 'rb') as file:\n"
        "    shutil.copyfileobj(file, sys.stdout.buffer)\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return "s3://bucket/a;set"


@pytest.fixture(params=["packed", "address", "bucket"])
def location(request):
    return str(request.getfixturevalue(request.param))


def test_every_way_gives_every_frame(location, labels):
    assert read_manifest(location)["frames"] == FRAMES
    in_order = list(PackedStream(location, shuffled=1).one_pass())
    assert sorted(found.name for found in in_order) == labels.names
    expected = dict(zip(labels.names, labels, strict=True))
    for found in in_order:
        for part in ("left", "right", "disparity", "confidence"):
            np.testing.assert_array_equal(getattr(found, part), getattr(expected[found.name], part), err_msg=part)


def test_passes_are_shuffled_differently_and_the_same_for_one_seed(packed):
    def names(number, **options):
        return [found.name for found in PackedStream(str(packed), shuffled=8, **options).one_pass(number)]

    assert names(0) == names(0)
    assert sorted(names(0)) == sorted(names(1))
    assert len({tuple(names(number, seed=seed)) for number in (0, 1) for seed in (0, 1)}) == 4


@pytest.mark.parametrize("parts", [2, 3, 50])
def test_parts_share_a_pass_without_losing_or_doubling_a_frame(packed, labels, parts):
    names = [
        found.name
        for part in range(parts)
        for found in PackedStream(str(packed), part=part, parts=parts, shuffled=4).one_pass(2)
    ]
    assert sorted(names) == labels.names


def test_fewer_shards_than_readers():
    taken = [part_of_shards(3, part, 8, random.Random(1)) for part in range(8)]
    for shard in range(3):
        sharing = [(which, of) for chosen, which, of in taken if chosen == [shard]]
        assert sharing == [(which, len(sharing)) for which in range(len(sharing))]


class Draws(Dataset):
    """What training does with a set: draw frames in data loader workers."""

    def __init__(self, frames):
        self.frames = frames

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return self.frames.read(0).name


def test_workers_read_different_frames(packed):
    streamed = StreamedSet(str(packed))
    assert len(streamed) == FRAMES
    first = streamed.read(5).name
    loader = DataLoader(Draws(streamed), batch_size=None, num_workers=2)
    drawn = list(loader)
    assert len(set(drawn)) == len(drawn), "no frame comes twice before all have come"
    assert isinstance(first, str)


def test_a_set_starts_over_when_it_is_through(packed):
    streamed = StreamedSet(str(packed))
    names = [streamed.read(0).name for _ in range(2 * FRAMES)]
    assert sorted(names[:FRAMES]) == sorted(names[FRAMES:])
    assert names[:FRAMES] != names[FRAMES:]


def test_a_shard_that_ends_between_two_frames_is_found(packed, address):
    shard = packed / "shard-000001.tar"
    data = shard.read_bytes()
    # The first sample of the shard and the archive's end marks: a whole tar file for any reader.
    names = {place: data[place : place + 100].split(b"\0")[0] for place in range(0, len(data), 512)}
    second = [place for place, name in names.items() if name.endswith(b".json")]
    shard.write_bytes(data[: second[1]] + bytes(1024))
    with pytest.raises(UserError, match=r"shard-000001.*ends after 1 of"):
        list(PackedStream(address).one_pass())


@pytest.mark.parametrize("damage", ["cut", "altered", "missing"])
def test_damaged_shards_end_in_one_line(packed, address, damage):
    shard = packed / "shard-000001.tar"
    data = bytearray(shard.read_bytes())
    if damage == "cut":
        shard.write_bytes(data[: len(data) // 2])
    elif damage == "altered":
        data[data.index(b"IDAT") + 40] ^= 1
        shard.write_bytes(data)
    else:
        shard.unlink()
    with pytest.raises(UserError, match="shard"):
        list(PackedStream(address).one_pass())


def test_what_is_no_packed_set_is_said_so(address, labels, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"manifest\.json"):
        PackedStream(f"{address}/nothing")
    with pytest.raises(UserError, match="packed label set"):
        PackedStream(str(labels.path))
    with pytest.raises(UserError, match="packed label set"):
        PackedStream(str(tmp_path / "nothing"))
    assert is_address("https://host/set")
    assert is_address("s3://bucket/set")
    assert not is_address("/data/set")
    assert not is_address("http:/set")
