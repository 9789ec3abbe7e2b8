"""The verb `pack`: a label set as WebDataset shards, for training that reads from far away.

    OUT/
      shard-000000.tar      samples, one after the other: KEY.json KEY.left.png KEY.right.png KEY.disparity.png ...
      shard-000001.tar
      shards.jsonl          one line per finished shard; see `stereo.journal`
      manifest.json         what is in it, with the sha256 of every shard

The files of a sample are those of the label set, byte for byte; KEY is the number of the frame in its source. The same
frames give the same shards, bit by bit, and a run that was killed goes on behind the last finished shard.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import logging
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from stereo.artifacts import MANIFEST_NAME, atomic_path, make_manifest, read_json, write_json
from stereo.errors import UserError
from stereo.journal import Journal, sync_folder
from stereo.label_set import PARTS, LabelSet, altered
from stereo.label_set_view import SHARED
from stereo.options import positional
from stereo.pair import read_bytes
from stereo.progress import progress

KIND = "packed label set"
FORMAT_VERSION = 1
SHARDS_NAME = "shards.jsonl"
MB = 1_000_000
# Of a tar archive: headers and contents are padded to this.
BLOCK_BYTES = 512

log = logging.getLogger(__name__)


@dataclass
class PackConfig:
    """Options of `stereodistill pack`.

    Args:
        labels: folder of a label set, or of a view of one.
        out: folder of the shards; an interrupted packing is resumed.
        shard_mb: size that a shard does not exceed, in megabytes, unless one frame is larger.
        untrusted: pack frames too that the teacher is not to be trusted with.
    """

    labels: str = positional()
    out: str = field(kw_only=True)
    shard_mb: float = field(default=256.0, kw_only=True)
    untrusted: bool = field(default=False, kw_only=True)


@dataclass(frozen=True)
class Sample:
    """One frame, as the files of a tar archive.

    Args:
        key: what their names start with.
        files: rest of the name → content, in the order they are written.
    """

    key: str
    files: Mapping[str, bytes]

    @property
    def size_bytes(self) -> int:
        """What it adds to an archive."""
        return sum(BLOCK_BYTES + -(-len(data) // BLOCK_BYTES) * BLOCK_BYTES for data in self.files.values())


def sample_of(labels: LabelSet, index: int) -> Sample:
    """The frame at a position of a label set; its files are checked against their checksums.

    Raises:
        UserError: a file is missing or altered.
    """
    line = labels.line(index)
    files: dict[str, bytes] = {}
    records: dict[str, dict[str, Any]] = {}
    for name, record in sorted(line["files"].items(), key=lambda item: item[0]):
        part, _, rest = name.partition("/")
        if part not in PARTS:
            continue
        data = read_bytes(labels.root / name)
        if hashlib.sha256(data).hexdigest() != record["sha256"]:
            raise altered(labels.root / name, "differs from its checksum in the journal")
        suffix = f"{part}{Path(rest).suffix.lower()}"
        files[suffix] = data
        records[suffix] = {"bytes": record["bytes"], "sha256": record["sha256"]}
    told = {key: value for key, value in line.items() if key != "files"} | {"files": records}
    return Sample(f"{line['frame']:09d}", {"json": json.dumps(told, ensure_ascii=False).encode(), **files})


class HashingFile(io.RawIOBase):
    """A file that is only written, forwards, and computes its sha256 meanwhile."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest, self.size = file, hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        """Write and count."""
        self.digest.update(data)
        self.size += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self.size


def write_shard(path: Path, samples: Iterator[Sample], *, limit_bytes: float) -> tuple[dict[str, Any], Sample | None]:
    """Write samples into one archive until it is full.

    Nothing of the machine, the user or the time enters the archive.

    Returns:
        The shard's line for the manifest, and the sample that did not fit.
    """
    keys: list[str] = []
    rest: Sample | None = None
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        hashing = HashingFile(file)
        with tarfile.open(fileobj=hashing, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for sample in samples:
                if keys and hashing.size + sample.size_bytes > limit_bytes:
                    rest = sample
                    break
                for suffix, data in sample.files.items():
                    member = tarfile.TarInfo(f"{sample.key}.{suffix}")
                    member.size, member.mode = len(data), 0o644
                    archive.addfile(member, io.BytesIO(data))
                keys.append(sample.key)
    line = {"file": path.name, "sha256": hashing.digest.hexdigest(), "bytes": hashing.size, "frames": len(keys)}
    return line | {"first": keys[0], "last": keys[-1]}, rest


def open_shard_journal(out: Path, head: Mapping[str, Any]) -> Journal:
    """The journal of the packing that is to be begun or resumed.

    Raises:
        UserError: the folder holds something else, or shards of something else.
    """
    if out.exists() and not (out / SHARDS_NAME).exists() and any(out.iterdir()):
        raise UserError("exists and holds no shards", where=out, fix="choose another --out")
    journal = Journal(out / SHARDS_NAME)
    lines = journal.lines
    if not lines:
        journal.append(head)
    elif lines[0] != head:
        journal.close()
        field_name = next(key for key in head if lines[0].get(key) != head[key])
        raise UserError(
            f"holds shards with {field_name} = {lines[0].get(field_name)!r}, this run has {head[field_name]!r}",
            where=out, fix="use the same label set and options to resume, or another --out",
        )  # fmt: skip
    return journal


def pack(config: PackConfig) -> Path:
    """Pack a label set; see `PackConfig`. Returns the folder of the shards.

    Raises:
        UserError: no label set, a damaged one, an interrupted one, a full disk, or a folder with something else.
    """
    if config.shard_mb <= 0:
        raise UserError(f"{config.shard_mb:g} is not above 0", where="--shard_mb", fix="256 is usual")
    labels, out = LabelSet.open(config.labels, untrusted=config.untrusted), Path(config.out)
    if not labels.finished:
        raise UserError("its labelling is not finished", where=labels.path, fix="run `stereodistill label` again")
    head = {"label_set": labels.fingerprint(), "shard_mb": config.shard_mb, "untrusted": config.untrusted}
    with closing(open_shard_journal(out, head)) as journal:
        shards = journal.lines[1:]
        for shard in shards:
            check_shard_size(out, shard)
        start = sum(shard["frames"] for shard in shards)
        with progress("pack", len(labels) - start) as ticker:
            waiting = (sample_of(labels, index) for index in range(start, len(labels)))
            rest = next(waiting, None)
            while rest is not None:
                path = out / f"shard-{len(shards):06d}.tar"
                line, rest = write_shard(path, itertools.chain([rest], waiting), limit_bytes=config.shard_mb * MB)
                sync_folder(out)
                journal.append(line)
                shards.append(line)
                ticker.advance(line["frames"])
        write_manifest(out, labels, config, head, shards)
    log.info("%s: %d frames in %d shards", out, len(labels), len(shards))
    return out


def check_shard_size(folder: Path, shard: Mapping[str, Any]) -> None:
    """Compare a shard's size with what was noted.

    Raises:
        UserError: missing, or of another size.
    """
    path = folder / shard["file"]
    size = path.stat().st_size if path.exists() else None
    if size != shard["bytes"]:
        raise UserError(f"has {size} bytes, not {shard['bytes']}" if size is not None else "is missing", where=path,
                        fix="the shards were altered; delete the folder and pack again")  # fmt: skip


def write_manifest(
    out: Path, labels: LabelSet, config: PackConfig, head: Mapping[str, Any], shards: list[dict[str, Any]]
) -> None:
    """Write what is in the shards."""
    content = {
        "format_version": FORMAT_VERSION,
        **{name: labels.manifest.get(name) for name in SHARED},
        **head,
        "frames": len(labels),
        "kept_pct": labels.kept_pct,
        "shards": shards,
    }
    made_from = {str(labels.path): labels.fingerprint()}
    write_json(out / MANIFEST_NAME, make_manifest(KIND, made_from=made_from, config=config, content=content))


def read_packed_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a folder of shards; see `check_packed_manifest`."""
    if (path / SHARDS_NAME).exists() and not (path / MANIFEST_NAME).exists():
        raise UserError("its packing is not finished", where=path, fix="run `stereodistill pack` again, as before")
    return check_packed_manifest(read_json(path / MANIFEST_NAME, what=f"{KIND} (it has no {MANIFEST_NAME})"), path)


def check_packed_manifest(manifest: Any, where: object) -> dict[str, Any]:
    """Refuse what is no manifest of shards.

    Raises:
        UserError: something else, of an unknown version, or with shards whose names are not those of `pack`.
    """
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        raise UserError(f"not a {KIND}", where=where, fix="make one with `stereodistill pack`")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"packed format {manifest.get('format_version')}, this version reads {FORMAT_VERSION}", where=where,
            fix="pack again with this version",
        )  # fmt: skip
    names = [shard["file"] for shard in manifest["shards"]]
    if names != [f"shard-{number:06d}.tar" for number in range(len(names))]:
        raise UserError("its shards have other names than `pack` gives", where=where, fix="pack again")
    return manifest
