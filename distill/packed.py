"""Stream the frames of packed label sets into training, from a folder or an http(s) or s3 address.

WebDataset opens the addresses and reads the archives; which shards a process reads, in which order, is decided here.
https://github.com/webdataset/webdataset
"""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from torch.utils.data import get_worker_info

from stereo.artifacts import MANIFEST_NAME
from stereo.errors import UserError, require
from stereo.label_set import LabelledFrame
from stereo.packed_set import read_sample
from stereo.packing import check_packed_manifest, read_packed_manifest
from stereo.pair import Rig

HINT = "pip install 'stereodistill[webdataset]'"
ADDRESS = re.compile(r"(https?|s3)://\S+")
# Frames held back, as files, for shuffling across the order of the archives.
SHUFFLED_FRAMES = 128

Sample = dict[str, Any]


def is_address(location: str | Path) -> bool:
    """Whether this is an address and not a path."""
    return ADDRESS.fullmatch(str(location)) is not None


def url_of(location: str, name: str) -> str:
    """What WebDataset opens to read a file of a packed set.

    WebDataset knows no s3, so the AWS command line fetches it, with the user's own settings for region and keys.
    """
    if not is_address(location):
        return str((Path(location) / name).resolve())
    url = f"{location.rstrip('/')}/{name}"
    return f"pipe:aws s3 cp --only-show-errors {shlex.quote(url)} -" if url.startswith("s3://") else url


def read_manifest(location: str) -> dict[str, Any]:
    """The manifest of a packed set.

    Raises:
        UserError: it cannot be read, or is none.
    """
    if not is_address(location):
        return read_packed_manifest(Path(location))
    wds = require("webdataset", hint=HINT)
    try:
        with wds.gopen(url_of(location, MANIFEST_NAME)) as stream:
            manifest = json.loads(stream.read())
    except (OSError, ValueError) as error:
        raise UserError(f"has no {MANIFEST_NAME} that can be read", where=location,
                        fix="check the address, and that curl (http) or aws (s3) may read it") from error  # fmt: skip
    return check_packed_manifest(manifest, location)


def part_of_shards(count: int, part: int, parts: int, order: random.Random) -> tuple[list[int], int, int]:
    """The shards that one of several readers takes in one pass; together they take every frame once.

    Args:
        count: of shards.
        part, parts: this reader and how many there are.
        order: seeded alike in all readers.

    Returns:
        Numbers of shards, and (which, of how many): with fewer shards than readers, several readers share a shard and
        each takes every so-many-th frame of it.
    """
    shuffled = list(range(count))
    order.shuffle(shuffled)
    if count >= parts:
        return shuffled[part::parts], 0, 1
    sharing = len(range(part % count, parts, count))
    return [shuffled[part % count]], part // count, sharing


class PackedStream:
    """Frames of one packed set, shuffled.

    Args:
        location: folder or address.
        seed: of the shuffling.
        part, parts: this reader and how many there are; they share no frame in one pass.
        shuffled: frames held back for shuffling; 1 keeps the order of the archives.

    Raises:
        UserError: no packed set there.
    """

    def __init__(
        self, location: str, *, seed: int = 0, part: int = 0, parts: int = 1, shuffled: int = SHUFFLED_FRAMES
    ) -> None:
        self.location, self.manifest = location, read_manifest(location)
        self._seed, self._part, self._parts, self._shuffled = seed, part, parts, shuffled
        self._frames = {url_of(location, shard["file"]): shard["frames"] for shard in self.manifest["shards"]}

    def one_pass(self, number: int = 0) -> Iterator[LabelledFrame]:
        """Every frame of this part once, in the order of pass `number`.

        Raises:
            UserError: a shard cannot be read, ends early, or was altered.
        """
        wds = require("webdataset", hint=HINT)
        urls = list(self._frames)
        order = random.Random(f"{self._seed} {number}")
        chosen, which, of = part_of_shards(len(urls), self._part, self._parts, order)
        stages: list[Callable[..., Any]] = [
            wds.SimpleShardList([urls[shard] for shard in chosen]), wds.tarfile_to_samples(), self._complete,
            lambda samples: (sample for place, sample in enumerate(samples) if place % of == which),
        ]  # fmt: skip
        if self._shuffled > 1:
            rng = random.Random(f"{self._seed} {number} {self._part}")
            stages.append(wds.shuffle(self._shuffled, initial=self._shuffled, rng=rng))
        try:
            for sample in wds.DataPipeline(*stages):
                yield self._frame(sample)
        except (OSError, ValueError, tarfile.TarError) as error:
            raise UserError(f"a shard cannot be read: {error}", where=self.location,
                            fix="check the connection; a damaged shard must be copied again") from error  # fmt: skip

    def _complete(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """The same samples; an archive that was cut off between two of them looks whole to tar readers."""
        seen: Counter[str] = Counter()
        last: str | None = None
        for sample in samples:
            url = sample["__url__"]
            if last is not None and url != last:
                self._check_count(last, seen[last])
            seen[url] += 1
            last = url
            yield sample
        if last is not None:
            self._check_count(last, seen[last])

    def _check_count(self, url: str, seen: int) -> None:
        if seen != self._frames[url]:
            raise UserError(f"ends after {seen} of {self._frames[url]} frames", where=url, fix="copy the shard again")

    def _frame(self, sample: Sample) -> LabelledFrame:
        where = f"{sample['__url__']}: {sample['__key__']}"
        files = {suffix: data for suffix, data in sample.items() if not suffix.startswith("__")}
        return read_sample(files, scale=int(self.manifest["disparity_scale"]), where=where)

    def __iter__(self) -> Iterator[LabelledFrame]:
        """Pass after pass, without end."""
        number = 0
        while True:
            yield from self.one_pass(number)
            number += 1


class StreamedSet:
    """A packed set that is far away, where a label set is expected: `read` gives the next frame, whatever the index.

    So a training draws as many frames from it as it would from a set on its disk, but which ones, and their order,
    follow the stream: with it, a resumed training does not see the frames again that it would have seen.

    Args:
        location: folder or address.
        seed: of the shuffling.
        rank, world: this process and how many there are; data loader workers are found out.

    Raises:
        UserError: no packed set there.
    """

    finished = True

    def __init__(self, location: str, *, seed: int = 0, rank: int = 0, world: int = 1) -> None:
        self.path, self.manifest = location, read_manifest(location)
        self._seed, self._rank, self._world = seed, rank, world
        self._frames: tuple[int, Iterator[LabelledFrame]] | None = None

    def __len__(self) -> int:
        return int(self.manifest["frames"])

    @property
    def keep_threshold(self) -> float:
        """Confidence from which on a pixel counts as kept."""
        return float(self.manifest["keep_threshold"])

    @property
    def rig(self) -> Rig | None:
        """The cameras, None when the source did not tell."""
        rig = self.manifest.get("rig")
        return Rig(**rig) if rig else None

    def fingerprint(self) -> str:
        """sha256 that tells which frames with which content are in the set."""
        return str(self.manifest["label_set"])

    def read(self, index: int) -> LabelledFrame:
        """The next frame of the stream.

        Raises:
            UserError: a shard cannot be read, ends early, or was altered.
        """
        # A worker is a copy of the process that made this; it must not go on with the stream of its parent.
        if self._frames is None or self._frames[0] != os.getpid():
            worker = get_worker_info()
            workers, number = (worker.num_workers, worker.id) if worker else (1, 0)
            stream = PackedStream(
                str(self.path), seed=self._seed, part=self._rank * workers + number, parts=self._world * workers
            )
            self._frames = (os.getpid(), iter(stream))
        return next(self._frames[1])
