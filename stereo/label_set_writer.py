"""Write a label set so that it can be killed at any moment and resumed.

A frame's files are written under temporary names, synced and renamed; then its line is appended to the journal and
synced. What has no line does not exist: it is written again on resume. The manifest holds the *identity* of the set
(source, teacher, thresholds) from the start, and resuming with another identity is refused.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stereo.artifacts import MANIFEST_NAME, atomic_path, make_manifest, plain, read_json, sha256_bytes, write_json
from stereo.disparity_files import PNG_LIMIT, encode_kitti_png
from stereo.errors import UserError
from stereo.journal import Journal
from stereo.label_set import FORMAT_VERSION, JOURNAL_NAME, KIND, PARTS, LabelledFrame
from stereo.pair import Image, Rig
from stereo.pictures import encode_png

# What a file system says when it cannot link at all, or not across devices, or not other people's files.
NO_LINK = (errno.EXDEV, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS)
# Measured on a 640x480 disparity map: level 1 takes 16 ms and 189 kB, level 3 27 ms and 174 kB, 6 70 ms and 155 kB.
PNG_COMPRESSION = 1


def disparity_scale_for(max_disp: float) -> int:
    """Steps per pixel of the disparity PNGs: 256, or 128 when disparities may pass 255 px.

    Raises:
        UserError: beyond 511 px, where scale 128 ends too.
    """
    if max_disp <= 255:
        return 256
    if max_disp * 128 <= PNG_LIMIT:
        return 128
    raise UserError(f"max disparity {max_disp:g} px does not fit a label set", fix="stay at or below 511 px")


def first_difference(old: Any, new: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """(dotted field, old value, new value) of the first difference of two nested mappings, or None."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            found = first_difference(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
            if found:
                return found
        return None
    return None if old == new else (name, old, new)


@dataclass(frozen=True)
class StoredFrame:
    """A frame whose files are on disk, waiting for its line in the journal."""

    line: dict[str, Any]


class LabelSetWriter:
    """Makes or resumes a label set.

    `add` writes a frame; for pipelines, `store` (any thread) and `commit` (one thread, in frame order) are its halves.

    Args:
        path: the set's folder.
        identity: what the labels depend on, such as {"source": {...}, "teacher": {...}}; JSON values.
        max_disp: the largest disparity the teacher gives, in px; fixes the PNG scale.
        keep_threshold: confidence from which on a pixel counts as kept.
        made_from: name of each input → its sha256.
        config: the resolved options, for the manifest only.
        rig: the cameras, when known.

    Raises:
        UserError: the folder holds something else, or a set with another identity.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        identity: Mapping[str, Any],
        max_disp: float,
        keep_threshold: float = 0.5,
        made_from: Mapping[str, str | None] | None = None,
        config: Any = None,
        rig: Rig | None = None,
    ) -> None:
        self.path = Path(path)
        self.disparity_scale = disparity_scale_for(max_disp)
        self.keep_threshold = keep_threshold
        self._identity = plain(
            {**identity, "disparity_scale": self.disparity_scale, "keep_threshold": keep_threshold, "rig": rig}
        )
        self._made_from, self._config = dict(made_from or {}), {} if config is None else config
        self._check_folder()
        self._journal = Journal(self.path / JOURNAL_NAME)
        # What earlier runs noted already; kept here because searching the journal for each lost frame would be slow.
        self._noted = dict(self.skipped)
        for leftover in [*self.path.glob(".*.part*"), *self.path.glob("*/.*.part*")]:
            leftover.unlink(missing_ok=True)
        self._write_manifest(finished=False)

    def _check_folder(self) -> None:
        manifest_path = self.path / MANIFEST_NAME
        if not manifest_path.exists():
            # A run killed in its first moment leaves an empty journal and perhaps a torn manifest.
            started = self.path.is_dir() and all(
                file.name.startswith(f".{Path(MANIFEST_NAME).stem}.")
                or (file.name == JOURNAL_NAME and not file.stat().st_size)
                for file in self.path.iterdir()
            )
            if self.path.exists() and not started:
                raise UserError("exists and is not a label set", where=self.path, fix="choose another --out")
            return
        manifest = read_json(manifest_path, what="manifest")
        if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
            raise UserError("holds something else than a label set", where=self.path, fix="choose another --out")
        old = {key: manifest.get(key) for key in self._identity}
        difference = first_difference(old, self._identity)
        if difference:
            field, before, after = difference
            raise UserError(
                f"the label set was made with {field} = {before!r}, this run has {after!r}",
                where=self.path,
                fix="use the same options to resume, or another --out",
            )

    @property
    def done(self) -> set[int]:
        """Frame numbers that are finished."""
        return {line["frame"] for line in self._journal.lines if "files" in line}

    @property
    def skipped(self) -> dict[int, dict[str, Any]]:
        """Journal lines of frames that were skipped and not finished since, by frame number."""
        done = self.done
        return {line["frame"]: line for line in self._journal.lines if "skipped" in line and line["frame"] not in done}

    def store(self, index: int, frame: LabelledFrame, *, files: tuple[Path, Path] | None = None) -> StoredFrame:
        """Write a frame's files; safe in any thread.

        Args:
            index: the frame's number in the source.
            frame: what to write. Its name becomes the file names.
            files: existing 8-bit files that hold exactly the left and right image, to be linked instead of written.
        """
        kept = np.isfinite(frame.disparity) & (frame.confidence >= self.keep_threshold)
        records: dict[str, dict[str, Any]] = {}
        for side, image, source in zip(PARTS, (frame.left, frame.right), files or (None, None), strict=False):
            if source is not None:
                self._link(source, f"{side}/{frame.name}{source.suffix.lower()}", records)
            else:
                self._write(f"{side}/{frame.name}.png", encode_image(image), records)
        disparity = encode_kitti_png(frame.disparity, scale=self.disparity_scale, compression=PNG_COMPRESSION)
        self._write(f"disparity/{frame.name}.png", disparity, records)
        levels = np.rint(np.clip(frame.confidence, 0, 1) * 255).astype(np.uint8)
        self._write(f"confidence/{frame.name}.png", encode_png(levels, compression=PNG_COMPRESSION), records)
        height, width = frame.disparity.shape
        return StoredFrame(
            {
                "frame": index,
                "name": frame.name,
                "height": height,
                "width": width,
                "valid_pct": round(100.0 * float(np.isfinite(frame.disparity).mean()), 4),
                "kept_pct": round(100.0 * float(kept.mean()), 4),
                "files": records,
            }
        )

    def _write(self, name: str, data: bytes, records: dict[str, dict[str, Any]]) -> None:
        with atomic_path(self.path / name) as temporary:
            temporary.write_bytes(data)
        records[name] = {"bytes": len(data), "sha256": sha256_bytes(data), "form": "file"}

    def _link(self, source: Path, name: str, records: dict[str, dict[str, Any]]) -> None:
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        data = source.read_bytes()
        # A resumed frame may have its link already; linking onto an existing name fails, so it goes first.
        target.unlink(missing_ok=True)
        records[name] = {"bytes": len(data), "sha256": sha256_bytes(data), "form": link_or_copy(source, target)}

    def commit(self, *stored: StoredFrame) -> None:
        """Make stored frames part of the set; several at once share the syncing."""
        if not stored:
            return
        for part in PARTS:
            sync_folder(self.path / part)
        self._journal.append(*(frame.line for frame in stored))

    def add(self, index: int, frame: LabelledFrame, *, files: tuple[Path, Path] | None = None) -> None:
        """Write a frame and make it part of the set; see `store`."""
        self.commit(self.store(index, frame, files=files))

    def skip(self, index: int, name: str, *, reason: str, detail: str) -> None:
        """Note that a frame could not be labelled; it is tried again on resume.

        Args:
            reason: a few words, the same for all frames with this problem: the manifest counts by it.
            detail: the full message.
        """
        line = {"frame": index, "name": name, "skipped": reason, "detail": detail}
        if self._noted.get(index) != line:
            self._journal.append(line)
            self._noted[index] = line

    def finish(
        self, content: Mapping[str, Any] | None = None, *, made_from: Mapping[str, str | None] | None = None
    ) -> Path:
        """Write the final manifest and close. Returns the set's folder.

        Args:
            content: further fields of the manifest.
            made_from: further inputs and their sha256.
        """
        self._made_from |= dict(made_from or {})
        self._write_manifest(finished=True, content=content or {})
        self._journal.close()
        return self.path

    def totals(self) -> dict[str, Any]:
        """Counts and means over the finished frames, and the skipped frames by reason."""
        lines = {line["frame"]: line for line in self._journal.lines if "files" in line}
        forms = Counter(record["form"] for line in lines.values() for record in line["files"].values())
        skipped: dict[str, dict[str, Any]] = {}
        for _, line in sorted(self.skipped.items()):
            group = skipped.setdefault(line["skipped"], {"count": 0, "frames": []})
            group["count"] += 1
            group["frames"].append(line["name"])
        return {
            "frames": len(lines),
            "valid_pct": mean([line["valid_pct"] for line in lines.values()]),
            "kept_pct": mean([line["kept_pct"] for line in lines.values()]),
            "skipped": skipped,
            "file_forms": dict(sorted(forms.items())),
        }

    def _write_manifest(self, *, finished: bool, content: Mapping[str, Any] | None = None) -> None:
        fields: dict[str, Any] = {"format_version": FORMAT_VERSION, "finished": finished, **self._identity}
        if finished:
            journal = self.path / JOURNAL_NAME
            fields |= {"journal_sha256": sha256_bytes(journal.read_bytes()), **self.totals(), **(content or {})}
        manifest = make_manifest(KIND, made_from=self._made_from, config=self._config, content=fields)
        write_json(self.path / MANIFEST_NAME, manifest)


def mean(values: list[float]) -> float | None:
    """The mean, or None of nothing."""
    return round(sum(values) / len(values), 4) if values else None


def encode_image(image: Image) -> bytes:
    """PNG of an RGB image, with one channel when all three are equal."""
    gray = np.array_equal(image[:, :, 0], image[:, :, 1]) and np.array_equal(image[:, :, 0], image[:, :, 2])
    return encode_png(np.ascontiguousarray(image[:, :, 0]) if gray else image, compression=PNG_COMPRESSION)


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


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
