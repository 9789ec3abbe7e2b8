"""Write a label set so that it can be killed at any moment and resumed, by one process or by several at once.

The manifest holds the *identity* of the set (source, teacher, thresholds) from the start, and resuming with another
identity is refused. One process owns the set (`LabelSetWriter`): it holds the lock on `journal.jsonl` from start to
end, merges the journals of single processes, and finishes the manifest. With several processes each of them, the
owner's too, writes frames through a journal of its own (`RankWriter`).
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from stereo.artifacts import MANIFEST_NAME, make_manifest, plain, read_json, sha256_file, write_json
from stereo.disparity_files import PNG_LIMIT
from stereo.errors import UserError
from stereo.frame_writer import FrameWriter, StoredFrame, skipped_frame
from stereo.journal import Journal
from stereo.label_journal import (
    FINISHED,
    JOURNAL_NAME,
    SKIPPED,
    UNTRUSTED,
    FrameStates,
    JournalIndex,
    merge_journals,
)
from stereo.label_set import FORMAT_VERSION, KIND, check_file
from stereo.pair import Rig

# So many names per reason stand in the manifest; the journal has all of them.
NAMED_FRAMES = 100
DAMAGED = "label file damaged"
# Threads that compute checksums at once; they wait for the disk most of the time.
CHECKERS = 4

log = logging.getLogger(__name__)

In = TypeVar("In")
Out = TypeVar("Out")


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


def full_identity(identity: Mapping[str, Any], *, max_disp: float, keep_threshold: float, rig: Rig | None) -> Any:
    """All that the labels depend on, as JSON values."""
    scale = disparity_scale_for(max_disp)
    return plain({**identity, "disparity_scale": scale, "keep_threshold": keep_threshold, "rig": rig})


def check_identity(path: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """The manifest of the set that is to be resumed, or None when there is none yet.

    Raises:
        UserError: the folder holds something else, or a set with another identity.
    """
    if not (path / MANIFEST_NAME).exists():
        # A run killed in its first moment leaves an empty journal and perhaps a torn manifest.
        started = path.is_dir() and all(
            file.name.startswith((f".{Path(MANIFEST_NAME).stem}.", f".{Path(JOURNAL_NAME).stem}."))
            or (file.name == JOURNAL_NAME and not file.stat().st_size)
            for file in path.iterdir()
        )
        if path.exists() and not started:
            raise UserError("exists and is not a label set", where=path, fix="choose another --out")
        return None
    manifest = read_json(path / MANIFEST_NAME, what="manifest")
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND or "view_of" in manifest:
        raise UserError("holds something else than a label set", where=path, fix="choose another --out")
    difference = first_difference({key: manifest.get(key) for key in identity}, identity)
    if difference:
        field, before, after = difference
        raise UserError(
            f"the label set was made with {field} = {before!r}, this run has {after!r}",
            where=path,
            fix="use the same options to resume, or another --out",
        )
    return manifest


class LabelSetWriter(FrameWriter):
    """Makes or resumes a label set, and owns it until it is finished or closed.

    Args:
        path: the set's folder.
        identity: what the labels depend on, such as {"source": {...}, "teacher": {...}}; JSON values.
        max_disp: the largest disparity the teacher gives, in px; fixes the PNG scale.
        keep_threshold: confidence from which on a pixel counts as kept.
        made_from: name of each input → its sha256.
        config: the resolved options, for the manifest only.
        rig: the cameras, when known.

    Raises:
        UserError: the folder holds something else, or a set with another identity; another process is writing it.
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
        path = Path(path)
        self.identity = full_identity(identity, max_disp=max_disp, keep_threshold=keep_threshold, rig=rig)
        self._made_from, self._config = dict(made_from or {}), {} if config is None else config
        check_identity(path, self.identity)
        journal = Journal(path / JOURNAL_NAME)
        try:
            # Again, because another process may have made and finished the set before the lock was taken.
            manifest = check_identity(path, self.identity)
            check_unaltered(path, manifest)
            index = merge_journals(journal)
        except BaseException:
            journal.close()
            raise
        super().__init__(
            path,
            journal,
            FrameStates(index),
            disparity_scale=self.identity["disparity_scale"],
            keep_threshold=keep_threshold,
        )
        if not (manifest or {}).get("finished"):
            remove_torn_files(path)
        self._write_manifest(finished=False)
        self._check_files(line for lines in index.recent.values() for line in lines)

    def _check_files(self, lines: Iterable[dict[str, Any]]) -> None:
        """Take frames out of the set whose files are missing or altered, so that they are labelled again."""

        def problem(line: dict[str, Any]) -> StoredFrame | None:
            for name, record in line["files"].items():
                try:
                    check_file(self.path / name, record)
                except UserError as error:
                    detail = f"{error.where}: {error.what}"
                    return skipped_frame(line["frame"], line["name"], reason=DAMAGED, detail=detail)
            return None

        with ThreadPoolExecutor(CHECKERS, thread_name_prefix="check") as pool:
            damaged = [found for found in bounded_map(pool, problem, lines) if found is not None]
        for frame in damaged:
            log.warning("%s; the frame is labelled again", frame.line["detail"])
        self.commit(*damaged)

    def verify(self) -> None:
        """Compare every checksum of the set; frames whose files differ are taken out, so that they are labelled again.

        Reads the whole set. On resume only the files of the last frames are checked.
        """
        index = JournalIndex([self.path / JOURNAL_NAME])
        places = np.flatnonzero((index.kinds == FINISHED) | (index.kinds == UNTRUSTED)).tolist()
        self._check_files(index.lines(places))

    def totals(self) -> dict[str, Any]:
        """Merge what single processes wrote; counts and means over the finished frames, and the others by reason.

        Raises:
            UserError: another process is still writing, or the disk is full.
        """
        return totals_of(merge_journals(self._journal).lines())

    def first_problem(self) -> str | None:
        """What was wrong with the first frame that was skipped."""
        index = JournalIndex([self.path / JOURNAL_NAME])
        return next((line["detail"] for line in index.lines(np.flatnonzero(index.kinds == SKIPPED)[:1].tolist())), None)

    def finish(
        self,
        content: Mapping[str, Any] | None = None,
        *,
        made_from: Mapping[str, str | None] | None = None,
        totals: Mapping[str, Any] | None = None,
    ) -> Path:
        """Merge what single processes wrote, write the final manifest and close. Returns the set's folder.

        Args:
            content: further fields of the manifest.
            made_from: further inputs and their sha256.
            totals: what `totals` gave, when nothing was written since.

        Raises:
            UserError: another process is still writing, or the disk is full.
        """
        self._made_from |= dict(made_from or {})
        self._write_manifest(finished=True, content={**(totals or self.totals()), **(content or {})})
        self.close()
        return self.path

    def _write_manifest(self, *, finished: bool, content: Mapping[str, Any] | None = None) -> None:
        fields: dict[str, Any] = {"format_version": FORMAT_VERSION, "finished": finished, **self.identity}
        if finished:
            fields |= {"journal_sha256": sha256_file(self.path / JOURNAL_NAME), **(content or {})}
        manifest = make_manifest(KIND, made_from=self._made_from, config=self._config, content=fields)
        write_json(self.path / MANIFEST_NAME, manifest)


class RankWriter(FrameWriter):
    """Writes frames of a set that another process owns, through a journal of its own.

    Args:
        path: the set's folder, made by the owner.
        rank: number of this process.
        identity: what this process would write into the set's manifest; see `LabelSetWriter`.

    Raises:
        UserError: another process has this rank, or this one's settings differ from the owner's.
    """

    def __init__(self, path: Path, rank: int, *, identity: Mapping[str, Any]) -> None:
        if check_identity(path, identity) is None:
            raise UserError("no label set there yet", where=path, fix="do all processes see the same folder?")
        index = JournalIndex([path / JOURNAL_NAME])
        super().__init__(
            path,
            Journal(path / f"journal.{rank}.jsonl"),
            FrameStates(index),
            disparity_scale=identity["disparity_scale"],
            keep_threshold=identity["keep_threshold"],
        )


def check_unaltered(path: Path, manifest: Mapping[str, Any] | None) -> None:
    """Refuse to resume a finished set whose journal is not the one that its manifest describes.

    Raises:
        UserError: the journal was altered.
    """
    if manifest and manifest.get("finished") and sha256_file(path / JOURNAL_NAME) != manifest.get("journal_sha256"):
        raise UserError("differs from the checksum in the manifest", where=path / JOURNAL_NAME,
                        fix="the label set was altered; restore it, or delete the set and label again")  # fmt: skip


def remove_torn_files(path: Path) -> None:
    """Remove what a killed run was writing."""
    for pattern in (".*.part*", "*/.*.part*", "confidence_terms/*/.*.part*"):
        for leftover in path.glob(pattern):
            leftover.unlink(missing_ok=True)


def bounded_map(
    pool: ThreadPoolExecutor, function: Callable[[In], Out], items: Iterable[In], *, ahead: int = 64
) -> Iterator[Out]:
    """`map` over threads that takes only a few items ahead, so that the rest need not be in memory."""
    waiting: deque[Future[Out]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def totals_of(lines: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts and means over the lines of a journal, one per frame, in frame order."""
    frames, valid_pct, kept_pct = 0, 0.0, 0.0
    forms: Counter[str] = Counter()
    groups: dict[str, dict[str, dict[str, Any]]] = {"skipped": {}, "dropped": {}, "untrusted": {}}
    for line in lines:
        if "files" in line:
            frames += 1
            valid_pct += line["valid_pct"]
            kept_pct += line["kept_pct"]
            forms.update(record["form"] for record in line["files"].values())
        for group, reason in (
            ("skipped", line.get("skipped")), ("dropped", line.get("dropped")), ("untrusted", line.get("verdict")),
        ):  # fmt: skip
            if reason:
                counted = groups[group].setdefault(reason, {"count": 0, "frames": []})
                counted["count"] += 1
                if len(counted["frames"]) < NAMED_FRAMES:
                    counted["frames"].append(line["name"])
    return {
        "frames": frames,
        "valid_pct": round(valid_pct / frames, 4) if frames else None,
        "kept_pct": round(kept_pct / frames, 4) if frames else None,
        **groups,
        "file_forms": dict(sorted(forms.items())),
    }
