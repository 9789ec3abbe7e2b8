"""Read a packed label set on this machine, frame by frame in any order, as a label set is read.

The archives are not unpacked: their headers tell where each file is. Written by `stereo.packing`; read from far away by
`distill.packed`.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stereo.artifacts import sha256_bytes, sha256_file
from stereo.errors import UserError
from stereo.label_set import PARTS, LabelledFrame, decode_frame
from stereo.packing import check_shard_size, read_packed_manifest
from stereo.pair import Rig

DAMAGED = "the shard was altered; copy it again, or pack again"

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


class PackedSet:
    """A packed label set opened for reading; a sequence of frames.

    Args:
        path: folder of the shards.
        manifest: its manifest.

    Attributes:
        finished: True; there is no manifest before that.
    """

    finished = True

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        self.path, self.manifest = path, manifest
        self.disparity_scale = int(manifest["disparity_scale"])
        self._ends = list(itertools.accumulate(shard["frames"] for shard in manifest["shards"]))
        self._headers: dict[int, list[dict[str, Span]]] = {}

    @classmethod
    def open(cls, path: Path | str) -> PackedSet:
        """Open and check: the manifest, and that every shard is there with its size.

        Raises:
            UserError: no packed label set, or an altered one.
        """
        path = Path(path)
        manifest = read_packed_manifest(path)
        for shard in manifest["shards"]:
            check_shard_size(path, shard)
        return cls(path, manifest)

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

    def fingerprint(self) -> str:
        """sha256 that tells which frames with which content are in the set: that of the label set it was made of."""
        return str(self.manifest["label_set"])

    def _lines(self) -> Iterator[dict[str, Any]]:
        for number, shard in enumerate(self.manifest["shards"]):
            with (self.path / shard["file"]).open("rb") as file:
                for spans in self._spans(number):
                    start, size = spans["json"]
                    file.seek(start)
                    yield json.loads(file.read(size))

    def _spans(self, number: int) -> list[dict[str, Span]]:
        """Of each sample of a shard: suffix → where the file is."""
        if number not in self._headers:
            shard = self.manifest["shards"][number]
            path = self.path / shard["file"]
            samples: dict[str, dict[str, Span]] = {}
            try:
                with tarfile.open(path, "r:") as archive:
                    for member in archive:
                        key, _, suffix = member.name.partition(".")
                        samples.setdefault(key, {})[suffix] = (member.offset_data, member.size)
            except tarfile.TarError as error:
                raise UserError(
                    f"is not a tar archive: {error}", where=self.path / shard["file"], fix=DAMAGED
                ) from error
            if len(samples) != shard["frames"]:
                raise UserError(f"has {len(samples)} frames, the manifest says {shard['frames']}",
                                where=self.path / shard["file"], fix=DAMAGED)  # fmt: skip
            self._headers[number] = list(samples.values())
        return self._headers[number]

    def read(self, index: int) -> LabelledFrame:
        """Read the frame at a position and verify its checksums.

        Raises:
            UserError: a shard is missing or altered.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect.bisect_right(self._ends, index)
        shard = self.manifest["shards"][number]
        place = index - (self._ends[number] - shard["frames"])
        files: dict[str, bytes] = {}
        with (self.path / shard["file"]).open("rb") as file:
            for suffix, (start, size) in self._spans(number)[place].items():
                file.seek(start)
                files[suffix] = file.read(size)
        return read_sample(files, scale=self.disparity_scale, where=f"{self.path / shard['file']}: sample {place}")

    def verify(self) -> None:
        """Compare the checksum of every shard.

        Raises:
            UserError: the first shard that is altered.
        """
        for shard in self.manifest["shards"]:
            if sha256_file(self.path / shard["file"]) != shard["sha256"]:
                raise UserError("differs from its checksum in the manifest", where=self.path / shard["file"],
                                fix=DAMAGED)  # fmt: skip
