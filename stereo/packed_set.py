"""Read a packed label set on this machine, frame by frame in any order, as a label set is read.

The archives are not unpacked: their headers tell where each file is. Written by `stereo.packing`; read from far away by
`distill.packed`. A set may be read in part: a pattern of shards stands for the set that has only these.
"""

from __future__ import annotations

import bisect
import fnmatch
import functools
import hashlib
import itertools
import json
import re
import tarfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from stereo.artifacts import MANIFEST_NAME, sha256_bytes
from stereo.errors import UserError
from stereo.label_set import PARTS, LabelledFrame, decode_frame
from stereo.packing import check_shard_size, read_packed_manifest
from stereo.pair import Rig

DAMAGED = "the shard was altered; copy it again, or pack again"

# Shards whose headers are remembered: a few hundred kB each, read again when they are needed again.
KEPT_HEADERS = 64

# Of a file in an archive: byte position and size.
Span = tuple[int, int]


def read_sample(files: Mapping[str, bytes], *, scale: int, where: object) -> LabelledFrame:
    """A frame from the files of a sample, checked against their checksums.

    Args:
        files: suffix → content: json, left.png, ...
        scale: steps per pixel of the disparity PNG.
        where: shard and key, for messages.

    Raises:
        UserError: a file is missing or altered.
    """
    try:
        told = json.loads(files["json"])
        records, name = dict(told["files"]), str(told["name"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError("a sample has no valid .json", where=where, fix=DAMAGED) from error
    parts: dict[str, tuple[bytes, Path]] = {}
    for suffix, record in records.items():
        if suffix not in files or sha256_bytes(files[suffix]) != record["sha256"]:
            raise UserError(f"{suffix} is missing or differs from its checksum", where=where, fix=DAMAGED)
        parts[suffix.partition(".")[0]] = (files[suffix], Path(f"{where}.{suffix}"))
    if not set(PARTS) <= set(parts):
        raise UserError(f"a sample lacks {sorted(set(PARTS) - set(parts))}", where=where, fix=DAMAGED)
    return decode_frame(name, parts, scale=scale)


def split_pattern(location: str) -> tuple[str, str | None]:
    """Cut what may follow the folder of a packed set: manifest.json, or which of its shards are meant.

    Returns:
        The folder or address, and the pattern of the shards; None when all are meant.
    """
    folder, _, last = location.rstrip("/").rpartition("/")
    if last == MANIFEST_NAME or last.endswith(".tar"):
        return folder or ".", None if last == MANIFEST_NAME else last
    return location, None


def with_shards(manifest: Mapping[str, Any], pattern: str | None, where: object) -> dict[str, Any]:
    """The manifest of the set that has only the shards of a pattern.

    Args:
        manifest: of the whole set.
        pattern: shard-000003.tar, shard-{000000..000009}.tar or shard-00000*.tar; None for all.
        where: the set, for messages.

    Raises:
        UserError: a shard is not in the set.
    """
    shards = manifest["shards"]
    if pattern is None:
        return dict(manifest)
    names = [shard["file"] for shard in shards]
    ends = re.fullmatch(r"(.*)\{(\d+)\.\.(\d+)\}(.*)", pattern)
    if ends:
        first, last = int(ends[2]), int(ends[3])
        chosen = [name for name in names[first : last + 1] if name == f"{ends[1]}{name[6:-4]}{ends[4]}"]
        complete = len(chosen) == last - first + 1
    else:
        chosen = fnmatch.filter(names, pattern)
        complete = bool(chosen)
    if not complete:
        raise UserError(f"has no shards {pattern}", where=where, fix=f"it has {names[0]} to {names[-1]}")
    kept = [shard for shard in shards if shard["file"] in set(chosen)]
    return {**manifest, "shards": kept, "frames": sum(shard["frames"] for shard in kept)}


class PackedSet:
    """A packed label set opened for reading; a sequence of frames.

    Args:
        path: folder of the shards.
        manifest: its manifest.

    Attributes:
        finished: True; there is no manifest before that.
    """

    finished = True

    def __init__(self, path: Path | str, manifest: Mapping[str, Any]) -> None:
        self.path, self.manifest = path, manifest
        self.disparity_scale = int(manifest["disparity_scale"])
        self._ends = list(itertools.accumulate(shard["frames"] for shard in manifest["shards"]))
        self._headers: OrderedDict[int, list[dict[str, Span]]] = OrderedDict()

    @classmethod
    def open(cls, path: Path | str) -> PackedSet:
        """Open and check: the manifest, and that every shard is there with its size.

        Args:
            path: folder of the shards, its manifest.json, or a pattern of shards in it; see `with_shards`.

        Raises:
            UserError: no packed label set, or an altered one.
        """
        name, pattern = split_pattern(str(path))
        folder = Path(name)
        manifest = with_shards(read_packed_manifest(folder), pattern, folder)
        for shard in manifest["shards"]:
            check_shard_size(folder, shard)
        return cls(folder, manifest)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[LabelledFrame]:
        return (self.read(index) for index in range(len(self)))

    @property
    def keep_threshold(self) -> float:
        """Confidence from which on a pixel counts as kept."""
        return float(self.manifest["keep_threshold"])

    @property
    def rig(self) -> Rig | None:
        """The cameras, None when the source did not tell."""
        rig = self.manifest.get("rig")
        return Rig(**rig) if rig else None

    @functools.cached_property
    def names(self) -> list[str]:
        """Names of the frames, in order."""
        return [line["name"] for line in self._lines()]

    @functools.cached_property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) px of the frames, in order, without reading them."""
        return [(line["height"], line["width"]) for line in self._lines()]

    @property
    def shard_frames(self) -> list[int]:
        """How many frames each shard has; the frames of the set are theirs, one shard after the other."""
        return [shard["frames"] for shard in self.manifest["shards"]]

    def fingerprint(self) -> str:
        """sha256 that tells which frames with which content are in the set, and in which shards."""
        return sha256_bytes(" ".join(shard["sha256"] for shard in self.manifest["shards"]).encode())

    def where(self, number: int) -> str:
        """The place of a shard, for messages."""
        return f"{self.path}/{self.manifest['shards'][number]['file']}"

    def open_shard(self, number: int) -> BinaryIO:
        """Open the archive of a shard.

        Raises:
            UserError: it cannot be read.
        """
        path = Path(self.path) / self.manifest["shards"][number]["file"]
        try:
            return path.open("rb")
        except OSError as error:
            raise UserError(f"cannot be read: {error.strerror}", where=path, fix=DAMAGED) from error

    def prepare_shard(self, number: int) -> None:
        """Be told that a shard will be read soon."""

    def _lines(self) -> Iterator[dict[str, Any]]:
        for number in range(len(self._ends)):
            with self.open_shard(number) as file:
                for spans in self._spans(number, file):
                    start, size = spans["json"]
                    file.seek(start)
                    yield json.loads(file.read(size))

    def _spans(self, number: int, file: BinaryIO) -> list[dict[str, Span]]:
        """Of each sample of an open shard: suffix → where the file is."""
        if number not in self._headers:
            frames = self.manifest["shards"][number]["frames"]
            samples: dict[str, dict[str, Span]] = {}
            try:
                with tarfile.open(fileobj=file, mode="r:") as archive:
                    for member in archive:
                        key, _, suffix = member.name.partition(".")
                        samples.setdefault(key, {})[suffix] = (member.offset_data, member.size)
            except tarfile.TarError as error:
                raise UserError(f"is not a tar archive: {error}", where=self.where(number), fix=DAMAGED) from error
            if len(samples) != frames:
                raise UserError(f"has {len(samples)} frames, the manifest says {frames}", where=self.where(number),
                                fix=DAMAGED)  # fmt: skip
            self._headers[number] = list(samples.values())
            if len(self._headers) > KEPT_HEADERS:
                self._headers.popitem(last=False)
        self._headers.move_to_end(number)
        return self._headers[number]

    def read(self, index: int) -> LabelledFrame:
        """Read the frame at a position and verify its checksums.

        Raises:
            UserError: a shard is missing or altered.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect.bisect_right(self._ends, index)
        place = index - (self._ends[number] - self.manifest["shards"][number]["frames"])
        files: dict[str, bytes] = {}
        with self.open_shard(number) as file:
            for suffix, (start, size) in self._spans(number, file)[place].items():
                file.seek(start)
                files[suffix] = file.read(size)
        return read_sample(files, scale=self.disparity_scale, where=f"{self.where(number)}: sample {place}")

    def verify(self) -> None:
        """Compare the checksum of every shard.

        Raises:
            UserError: the first shard that is altered.
        """
        for number, shard in enumerate(self.manifest["shards"]):
            digest = hashlib.sha256()
            with self.open_shard(number) as file:
                while data := file.read(1 << 20):
                    digest.update(data)
            if digest.hexdigest() != shard["sha256"]:
                raise UserError("differs from its checksum in the manifest", where=self.where(number), fix=DAMAGED)
