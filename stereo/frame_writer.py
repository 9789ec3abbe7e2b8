"""Write the frames of a label set: files first, then their line in a journal.

A frame's files are written under temporary names, synced and renamed; then its line is appended to the journal and
synced. What has no line does not exist: it is written again on resume.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stereo.artifacts import atomic_path, sha256_bytes
from stereo.disparity_files import encode_kitti_png
from stereo.journal import Journal, sync_folder
from stereo.label_journal import FrameStates, kind_of
from stereo.label_set import PARTS, TERMS, LabelledFrame
from stereo.pair import Image
from stereo.pictures import encode_png
from stereo.png import FAST

# What a file system says when it cannot link at all, or not across devices, or not other people's files.
NO_LINK = (errno.EXDEV, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS)

Records = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class StoredFrame:
    """A frame whose files are on disk, waiting for its line in the journal.

    Args:
        line: of the journal.
        folders: that hold its files, to be synced.
    """

    line: dict[str, Any]
    folders: frozenset[Path] = frozenset()


@dataclass(frozen=True)
class Extras:
    """What may be told of a frame besides its label.

    Args:
        files: existing 8-bit files that hold exactly the left and right image, to be linked instead of written.
        terms: name → float32 H×W in [0, 1]: the terms that its confidence was made of, to be stored beside it.
        verdict: why the whole frame is not to be trusted; None when it is.
    """

    files: tuple[Path, Path] | None = None
    terms: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    verdict: str | None = None


class FrameWriter:
    """Writes frames into a label set through one journal.

    `add` writes a frame; for pipelines, `store` (any thread) and `commit` (one thread, in frame order) are its halves.

    Args:
        path: the set's folder.
        journal: where lines go, opened.
        states: what is known of the frames, kept up to date.
        disparity_scale: steps per pixel of the disparity PNGs.
        keep_threshold: confidence from which on a pixel counts as kept.
    """

    def __init__(
        self, path: Path, journal: Journal, states: FrameStates, *, disparity_scale: int, keep_threshold: float
    ) -> None:
        self.path, self.states = path, states
        self.disparity_scale, self.keep_threshold = disparity_scale, keep_threshold
        self._journal = journal

    @property
    def done(self) -> FrameStates:
        """Tells of a frame number whether the frame is in the set: `number in writer.done`."""
        return self.states

    def store(self, index: int, frame: LabelledFrame, extras: Extras | None = None) -> StoredFrame:
        """Write a frame's files; safe in any thread.

        Args:
            index: the frame's number in the source.
            frame: what to write. Its name becomes the file names.
            extras: see `Extras`.
        """
        extras = extras or Extras()
        valid = np.isfinite(frame.disparity)
        kept = valid & (frame.confidence >= self.keep_threshold)
        records: Records = {}
        for side, image, source in zip(PARTS, (frame.left, frame.right), extras.files or (None, None), strict=False):
            if source is not None:
                self._link(source, f"{side}/{frame.name}{source.suffix.lower()}", records)
            else:
                self._write(f"{side}/{frame.name}.png", encode_image(image), records)
        disparity = encode_kitti_png(frame.disparity, scale=self.disparity_scale, compression=FAST)
        self._write(f"disparity/{frame.name}.png", disparity, records)
        self._write(f"confidence/{frame.name}.png", encode_share(frame.confidence), records)
        for name, term in sorted(extras.terms.items()):
            self._write(f"{TERMS}/{frame.name}/{name}.png", encode_share(term), records)
        height, width = frame.disparity.shape
        line = {
            "frame": index,
            "name": frame.name,
            "height": height,
            "width": width,
            "valid_pct": round(100.0 * float(valid.mean()), 4),
            "kept_pct": round(100.0 * float(kept.mean()), 4),
            "verdict": extras.verdict,
            "files": records,
        }
        folders = {(self.path / name).parent for name in records}
        return StoredFrame(line, frozenset(folders | ({self.path / TERMS} if extras.terms else set())))

    def _write(self, name: str, data: bytes, records: Records) -> None:
        with atomic_path(self.path / name) as temporary:
            temporary.write_bytes(data)
        records[name] = {"bytes": len(data), "sha256": sha256_bytes(data), "form": "file"}

    def _link(self, source: Path, name: str, records: Records) -> None:
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        data = source.read_bytes()
        # A resumed frame may have its link already; linking onto an existing name fails, so it goes first.
        target.unlink(missing_ok=True)
        records[name] = {"bytes": len(data), "sha256": sha256_bytes(data), "form": link_or_copy(source, target)}

    def commit(self, *stored: StoredFrame) -> None:
        """Make stored frames part of the set, in this order; several at once share the syncing."""
        for folder in sorted(set().union(*(frame.folders for frame in stored))):
            sync_folder(folder)
        self._journal.append(*(frame.line for frame in stored))
        for frame in stored:
            self.states[frame.line["frame"]] = kind_of(frame.line, where=self._journal.path)

    def add(self, index: int, frame: LabelledFrame, extras: Extras | None = None) -> None:
        """Write a frame and make it part of the set; see `store`."""
        self.commit(self.store(index, frame, extras))

    def skip(self, index: int, name: str, *, reason: str, detail: str) -> None:
        """Note that a frame could not be labelled; see `skipped_frame`."""
        self.commit(skipped_frame(index, name, reason=reason, detail=detail))

    def close(self) -> None:
        """Let go of the journal."""
        self._journal.close()


def skipped_frame(index: int, name: str, *, reason: str, detail: str) -> StoredFrame:
    """A frame that could not be labelled; it is tried again on resume.

    Args:
        index, name: of the frame.
        reason: a few words, the same for all frames with this problem: the manifest counts by it.
        detail: the full message.
    """
    return StoredFrame({"frame": index, "name": name, "skipped": reason, "detail": detail})


def dropped_frame(index: int, name: str, *, reason: str) -> StoredFrame:
    """A frame that the selection left out; it is not looked at again.

    Args:
        index, name: of the frame.
        reason: a few words, the same for all frames left out for it: the manifest counts by it.
    """
    return StoredFrame({"frame": index, "name": name, "dropped": reason})


def encode_image(image: Image) -> bytes:
    """PNG of an RGB image, with one channel when all three are equal."""
    gray = np.array_equal(image[:, :, 0], image[:, :, 1]) and np.array_equal(image[:, :, 0], image[:, :, 2])
    return encode_png(np.ascontiguousarray(image[:, :, 0]) if gray else image, compression=FAST)


def encode_share(share: npt.NDArray[np.float32]) -> bytes:
    """PNG of a map of values from 0 to 1 in 255 steps."""
    return encode_png(np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8), compression=FAST)


def link_or_copy(source: Path, target: Path) -> str:
    """Make `target` hold what `source` holds; returns how: "hardlink", "symlink" or "copy".

    Hard links come first: the set stays whole when the source folder is moved or deleted.
    """
    for form, link in (("hardlink", os.link), ("symlink", os.symlink)):
        try:
            link(source.resolve(), target)
        except OSError as error:
            if error.errno not in NO_LINK:
                raise
            continue
        return form
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
    return "copy"
