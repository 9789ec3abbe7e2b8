"""A label set: stereo frames with a teacher's disparity and confidence, on disk.

    LABELSET/
      left/NAME.png  right/NAME.png     8-bit gray or RGB; links to the source's files where possible
      disparity/NAME.png                uint16 × scale, 0 = invalid
      confidence/NAME.png               uint8, round(255 × confidence)
      confidence_terms/NAME/TERM.png    uint8, what the confidence was made of; on request only
      journal.jsonl                     one line per frame, with checksums; see `stereo.label_journal`
      manifest.json                     teacher, source, thresholds, totals
      pictures/                         previews

The journal is the truth about which frames are there. Reading a frame verifies the checksums of its files.
`docs/formats.md` describes every field. Written by `stereo.label_set_writer`. A folder may also hold a *view*: a
manifest alone, which names another set and the frames of it that count; see `stereo.label_set_view`.

    # H height, W width
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stereo.artifacts import MANIFEST_NAME, read_json, sha256_bytes, sha256_file
from stereo.disparity_files import decode_kitti_png
from stereo.errors import UserError
from stereo.label_journal import FINISHED, JOURNAL_NAME, UNTRUSTED, JournalIndex, rank_journals
from stereo.pair import Disparity, Image, Rig, decode_raw, read_bytes, to_rgb8

KIND = "label set"
FORMAT_VERSION = 1
PARTS = ("left", "right", "disparity", "confidence")
TERMS = "confidence_terms"

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


def check_size(path: Path, record: Mapping[str, Any]) -> None:
    """Compare a file's size with its record in the journal.

    Raises:
        UserError: missing, or of another size.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise altered(path, f"cannot be read: {error.strerror}") from error
    if size != record["bytes"]:
        raise altered(path, f"has {size} bytes, the journal says {record['bytes']}")


def check_file(path: Path, record: Mapping[str, Any]) -> None:
    """Compare a file's size and checksum with its record in the journal.

    Raises:
        UserError: missing or altered.
    """
    check_size(path, record)
    if sha256_file(path) != record["sha256"]:
        raise altered(path, "differs from its checksum in the journal")


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a label set or of a view.

    Raises:
        UserError: no label set, or an unknown format version.
    """
    manifest = read_json(path / MANIFEST_NAME, what=f"{KIND} (it has no {MANIFEST_NAME})")
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        raise UserError(f"not a {KIND}", where=path, fix="give the folder that `stereodistill label` wrote")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"label set format {manifest.get('format_version')}, this version reads {FORMAT_VERSION}",
            where=path,
            fix="label again with this version",
        )
    return manifest


class LabelSet:
    """A label set opened for reading; a sequence of frames.

    Args:
        path: its folder.
        manifest: its manifest.
        root: the folder that its files are in; that of another set when this is a view.
        index: of its journals.
        places: the frames that count, as places in the index.

    Attributes:
        disparity_scale: steps per pixel of the disparity PNGs.
        finished: whether the labelling went to its end.
    """

    def __init__(
        self, path: Path, manifest: Mapping[str, Any], *, root: Path, index: JournalIndex, places: Sequence[int]
    ) -> None:
        self.path, self.manifest, self.root = path, manifest, root
        self._index, self._places = index, np.asarray(places, np.int64)
        self.disparity_scale = int(manifest["disparity_scale"])
        self.finished: bool = bool(manifest["finished"])

    @classmethod
    def open(cls, path: Path | str, *, untrusted: bool = False) -> LabelSet:
        """Open and check a set or a view: manifest, journal, and that every file is there with its recorded size.

        A set whose labelling was interrupted opens with the frames that are finished, and a warning.

        Args:
            path: its folder.
            untrusted: whether frames count that the teacher is not to be trusted with.

        Raises:
            UserError: no label set, an unknown format version, altered, or without a single frame.
        """
        path = Path(path)
        manifest = read_manifest(path)
        root = path / manifest["view_of"]["path"] if "view_of" in manifest else path
        original = read_manifest(root) if root is not path else manifest
        if original["finished"] and sha256_file(root / JOURNAL_NAME) != original["journal_sha256"]:
            raise altered(root / JOURNAL_NAME, "differs from the checksum in the manifest")
        index = JournalIndex([root / JOURNAL_NAME, *rank_journals(root)])
        wanted = (index.kinds == FINISHED) | (untrusted & (index.kinds == UNTRUSTED))
        if "view_of" in manifest:
            wanted = viewed(path, manifest, original, index) & wanted
        if not wanted.any():
            raise UserError("the label set has no finished frame", where=path, fix="run `stereodistill label` again")
        labels = cls(path, manifest, root=root, index=index, places=np.flatnonzero(wanted).tolist())
        labels._check_sizes()
        if not labels.finished:
            log.warning("%s: labelling was interrupted; using the %d frames that are finished", path, len(labels))
        return labels

    def _check_sizes(self) -> None:
        for line in self._lines():
            for name, record in line["files"].items():
                check_size(self.root / name, record)

    def _lines(self) -> Iterator[dict[str, Any]]:
        return self._index.lines(self._places.tolist())

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[LabelledFrame]:
        return (self.read(index) for index in range(len(self)))

    @functools.cached_property
    def names(self) -> list[str]:
        """Names of the frames, in order."""
        return [line["name"] for line in self._lines()]

    @functools.cached_property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) px of the frames, in order, without reading them."""
        return [(line["height"], line["width"]) for line in self._lines()]

    @property
    def kept_pct(self) -> float:
        """Mean share of kept pixels over the frames, in percent."""
        return round(sum(line["kept_pct"] for line in self._lines()) / len(self), 4)

    @property
    def numbers(self) -> list[int]:
        """Numbers of the frames in their source, in order."""
        return self._index.frames[self._places].tolist()

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
        """sha256 that tells which frames with which content are in the set, whenever and wherever it was made."""
        if "view_of" not in self.manifest:
            return sha256_file(self.root / JOURNAL_NAME)
        digest = self.manifest["view_of"]["journal_sha256"]
        return sha256_bytes(f"{digest} {self.manifest['frames']}".encode())

    def line(self, index: int) -> dict[str, Any]:
        """The journal's line of the frame at a position."""
        return next(self._index.lines([int(self._places[index])]))

    def all_lines(self) -> Iterator[dict[str, Any]]:
        """The journal's line of every frame, in frame order: of skipped, dropped and untrusted ones too.

        Of a view, only of its own frames.
        """
        return self._lines() if "view_of" in self.manifest else self._index.lines()

    def _part(self, line: Mapping[str, Any], part: str) -> tuple[bytes, Path]:
        """Bytes of one of a frame's files, checked against the journal."""
        for name, record in line["files"].items():
            if name.startswith(f"{part}/"):
                data = read_bytes(self.root / name)
                if sha256_bytes(data) != record["sha256"]:
                    raise altered(self.root / name, "differs from its checksum in the journal")
                return data, self.root / name
        raise altered(self.root / JOURNAL_NAME, f"frame {line['name']} has no {part} file")

    def read(self, index: int) -> LabelledFrame:
        """Read the frame at a position (not the source's frame number) and verify its checksums.

        Raises:
            UserError: a file is missing or altered.
        """
        line = self.line(index)
        return decode_frame(line["name"], {part: self._part(line, part) for part in PARTS}, scale=self.disparity_scale)

    def verify(self) -> None:
        """Read every file and compare its checksum.

        Raises:
            UserError: the first file that is missing or altered.
        """
        for line in self._lines():
            for name, record in line["files"].items():
                check_file(self.root / name, record)


def decode_frame(name: str, parts: Mapping[str, tuple[bytes, Path]], *, scale: int) -> LabelledFrame:
    """A frame from the bytes of its files.

    Args:
        name: of the frame.
        parts: name of each part → its file's bytes, and where they are from.
        scale: steps per pixel of the disparity PNG.

    Raises:
        UserError: a file is no image, or they differ in size.
    """
    left, right = (to_rgb8(decode_raw(data, where=path), where=path)
                   for data, path in (parts["left"], parts["right"]))  # fmt: skip
    data, path = parts["disparity"]
    disparity = decode_kitti_png(data, scale=scale, where=path)
    data, path = parts["confidence"]
    confidence = (decode_raw(data, where=path) / np.float32(255)).astype(np.float32)
    if not left.shape[:2] == right.shape[:2] == disparity.shape == confidence.shape:
        raise altered(path, "its frame's files differ in size")
    return LabelledFrame(name, left, right, disparity, confidence)


def viewed(
    path: Path, view: Mapping[str, Any], original: Mapping[str, Any], index: JournalIndex
) -> npt.NDArray[np.bool_]:
    """Which entries of a set's index a view shows.

    Raises:
        UserError: the set is not the one that the view was made of.
    """
    if original.get("journal_sha256") != view["view_of"]["journal_sha256"]:
        raise UserError("the label set that this is a view of has changed since", where=path,
                        fix=f"make the view again from {path / view['view_of']['path']}")  # fmt: skip
    return np.isin(index.frames, np.asarray(view["frames"], np.int64))
