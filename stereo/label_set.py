"""A label set: stereo frames with a teacher's disparity and confidence, on disk.

    LABELSET/
      left/NAME.png  right/NAME.png     8-bit gray or RGB; links to the source's files where possible
      disparity/NAME.png                uint16 × scale, 0 = invalid
      confidence/NAME.png               uint8, round(255 × confidence)
      journal.jsonl                     one line per finished frame, with checksums; see `stereo.journal`
      manifest.json                     teacher, source, thresholds, totals
      pictures/                         previews

The journal is the truth about which frames are there. Reading a frame verifies the checksums of its files.
`docs/formats.md` describes every field. Written by `stereo.label_set_writer`.

    # H height, W width
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stereo.artifacts import MANIFEST_NAME, read_json, sha256_bytes, sha256_file
from stereo.disparity_files import decode_kitti_png
from stereo.errors import UserError
from stereo.journal import read_journal
from stereo.pair import Disparity, Image, Rig, decode_raw, read_bytes, to_rgb8

KIND = "label set"
FORMAT_VERSION = 1
JOURNAL_NAME = "journal.jsonl"
PARTS = ("left", "right", "disparity", "confidence")

log = logging.getLogger(__name__)


@dataclass
class LabelledFrame:
    """One labelled frame.

    Args:
        name: unique in the set.
        left, right: uint8 H×W×3 RGB.
        disparity: float32 H×W px of the left view, NaN invalid.
        confidence: float32 H×W, 0 to 1.
    """

    name: str
    left: Image
    right: Image
    disparity: Disparity
    confidence: npt.NDArray[np.float32]


def altered(path: Path, what: str) -> UserError:
    """The error for a file that differs from what the journal says."""
    return UserError(what, where=path, fix="the label set was altered; delete it and label again, or restore the file")


class LabelSet:
    """A label set opened for reading; a sequence of frames.

    Args:
        path: its folder.
        manifest: its manifest.
        entries: the journal's lines of finished frames, in frame order.
    """

    def __init__(self, path: Path, manifest: Mapping[str, Any], entries: list[dict[str, Any]]) -> None:
        self.path, self.manifest, self._entries = path, manifest, entries
        self.disparity_scale = int(manifest["disparity_scale"])
        self.finished: bool = bool(manifest["finished"])

    @classmethod
    def open(cls, path: Path | str) -> LabelSet:
        """Open and check a set: manifest, journal, and that every file is there with its recorded size.

        A set whose labelling was interrupted opens with the frames that are finished, and a warning.

        Raises:
            UserError: no label set, an unknown format version, altered, or without a single frame.
        """
        path = Path(path)
        manifest = read_json(path / MANIFEST_NAME, what=f"{KIND} (it has no {MANIFEST_NAME})")
        if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
            raise UserError(f"not a {KIND}", where=path, fix="give the folder that `stereodistill label` wrote")
        if manifest.get("format_version") != FORMAT_VERSION:
            raise UserError(
                f"label set format {manifest.get('format_version')}, this version reads {FORMAT_VERSION}",
                where=path,
                fix="label again with this version",
            )
        journal = path / JOURNAL_NAME
        lines = read_journal(journal)
        if manifest["finished"] and sha256_file(journal) != manifest["journal_sha256"]:
            raise altered(journal, "differs from the checksum in the manifest")
        finished = {line["frame"]: line for line in lines if "files" in line}
        entries = [finished[frame] for frame in sorted(finished)]
        if not entries:
            raise UserError("the label set has no finished frame", where=path, fix="run `stereodistill label` again")
        labels = cls(path, manifest, entries)
        labels._check_sizes()
        if not labels.finished:
            log.warning("%s: labelling was interrupted; using the %d frames that are finished", path, len(labels))
        return labels

    def _check_sizes(self) -> None:
        for entry in self._entries:
            for name, record in entry["files"].items():
                try:
                    size = (self.path / name).stat().st_size
                except OSError as error:
                    raise altered(self.path / name, f"cannot be read: {error.strerror}") from error
                if size != record["bytes"]:
                    raise altered(self.path / name, f"has {size} bytes, the journal says {record['bytes']}")

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[LabelledFrame]:
        return (self.read(index) for index in range(len(self)))

    @property
    def names(self) -> list[str]:
        """Names of the frames, in order."""
        return [entry["name"] for entry in self._entries]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) px of the frames, in order, without reading them."""
        return [(entry["height"], entry["width"]) for entry in self._entries]

    @property
    def keep_threshold(self) -> float:
        """Confidence from which on a pixel counts as kept."""
        return float(self.manifest["keep_threshold"])

    @property
    def rig(self) -> Rig | None:
        """The cameras, None when the source did not tell."""
        rig = self.manifest.get("rig")
        return Rig(**rig) if rig else None

    def _part(self, index: int, part: str) -> tuple[bytes, Path]:
        """Bytes of one of a frame's files, checked against the journal."""
        for name, record in self._entries[index]["files"].items():
            if name.startswith(f"{part}/"):
                data = read_bytes(self.path / name)
                if sha256_bytes(data) != record["sha256"]:
                    raise altered(self.path / name, "differs from its checksum in the journal")
                return data, self.path / name
        raise altered(self.path / JOURNAL_NAME, f"frame {self._entries[index]['name']} has no {part} file")

    def read(self, index: int) -> LabelledFrame:
        """Read the frame at a position (not the source's frame number) and verify its checksums.

        Raises:
            UserError: a file is missing or altered.
        """
        left, right = (to_rgb8(decode_raw(data, where=path), where=path)
                       for data, path in (self._part(index, "left"), self._part(index, "right")))  # fmt: skip
        data, path = self._part(index, "disparity")
        disparity = decode_kitti_png(data, scale=self.disparity_scale, where=path)
        data, path = self._part(index, "confidence")
        confidence = (decode_raw(data, where=path) / np.float32(255)).astype(np.float32)
        if not left.shape[:2] == right.shape[:2] == disparity.shape == confidence.shape:
            raise altered(path, "its frame's files differ in size")
        return LabelledFrame(self.names[index], left, right, disparity, confidence)

    def verify(self) -> None:
        """Read every file and compare its checksum.

        Raises:
            UserError: the first file that is missing or altered.
        """
        for index in range(len(self)):
            for part in PARTS:
                self._part(index, part)
