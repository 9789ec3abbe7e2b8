"""Studies beside the results: what quantising each part costs (`sensitivity.json`), how ranges were found.

They are read as plain JSON, so that a report needs nothing of what made them; a study belongs to the quantised variants
of the same student.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.report.entries import Entry, family
from deploy.report.sections import Bar, BarList
from stereo.artifacts import MANIFEST_NAME, read_json
from stereo.errors import UserError

log = logging.getLogger(__name__)

FIX = "give sensitivity.json of stereodistill sensitivity, or calibration.json of stereodistill quantize"
# The parts that cost most come first; the file holds all.
MOST_PARTS = 20


@dataclass(frozen=True)
class Study:
    """One study as the page shows it.

    Args:
        source_sha256: of the student.
    """

    path: Path
    source_sha256: str
    lists: list[BarList]


def read_studies(paths: Iterable[str]) -> list[Study]:
    """Read studies of either kind.

    Raises:
        UserError: a file that is neither.
    """
    return [read_study(Path(path)) for path in paths]


def read_study(path: Path) -> Study:
    """Tell the kind by its fields.

    Raises:
        UserError: neither kind, or a field is missing.
    """
    content = read_json(path, what="study")
    if not isinstance(content, dict):
        raise UserError("is no study", where=path, fix=FIX)
    try:
        if "parts" in content and "everything" in content:
            return Study(path, content["made_from"]["student"], sensitivity_lists(content))
        if content.get("kind") == "calibration frames":
            return Study(path, calibrated_student(content, path), [calibration_list(content)])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"is no study that this program can read: {error!r}", where=path, fix=FIX) from error
    raise UserError("is no study", where=path, fix=FIX)


def sensitivity_lists(content: Mapping[str, Any]) -> list[BarList]:
    """A bar for each part, and one for each step of the search."""
    parts = sorted(content["parts"], key=lambda part: -float(part["alone"]["moved_px"]))
    top = max((float(part["alone"]["moved_px"]) for part in parts), default=0.0) or 1.0
    base = float(content["fp32"]["epe_px"])
    lines = []
    for part in parts[:MOST_PARTS]:
        moved, added = float(part["alone"]["moved_px"]), float(part["alone"]["epe_px"]) - base
        text = f"{moved:.3f} px, EPE {added:+.3f} px"
        lines.append((str(part["name"]), Bar(text, 100 * moved / top, f"{len(part['convolutions'])} convolutions")))
    found = [BarList(f"Sensitivity: how far the disparity moves when one {content['by']} alone is quantised", lines)]
    steps = [
        (f"without {step['taken_out']}" if step["taken_out"] else "everything quantised", float(step["epe_px"]) - base)
        for step in content["search"]
    ]
    top = max((abs(added) for _, added in steps), default=0.0) or 1.0
    bars = [(str(name), Bar(f"EPE {added:+.3f} px", 100 * abs(added) / top, "")) for name, added in steps]
    return [*found, BarList("Search: parts taken out of INT8, one after the other", bars)]


def calibrated_student(content: Mapping[str, Any], path: Path) -> str:
    """sha256 of the student that was calibrated: older files leave it to the manifest beside them.

    Raises:
        UserError: neither tells.
    """
    if "made_from" in content:
        return content["made_from"]["student"]
    manifest = path.with_name(MANIFEST_NAME)
    found = read_json(manifest, what="manifest") if manifest.is_file() else None
    if not isinstance(found, dict) or found.get("kind") != "quantised student":
        raise UserError("does not tell which student was calibrated", where=path,
                        fix=f"keep it beside the {MANIFEST_NAME} that quantize wrote, or quantize again")  # fmt: skip
    return found["made_from"]["student"]


def calibration_list(content: Mapping[str, Any]) -> BarList:
    """Which frames the ranges were taken from, in numbers."""
    names = ("selection", "seed", "asked_for", "covering_radius", "size")
    lines = [
        (name.replace("_", " "), Bar(str(content[name]), 0.0, "")) for name in names if content.get(name) is not None
    ]
    used, total = len(content["frames"]), content["label_set"]["frames"]
    return BarList("Calibration frames", [("used", Bar(f"{used} of {total}", 100 * used / total, "")), *lines])


def lists_for(entry: Entry, studies: Sequence[Study]) -> list[BarList]:
    """The studies of an entry's student, for quantised variants: nothing else was calibrated."""
    if entry.model.precision not in ("int8", "mixed"):
        return []
    mine = [study for study in studies if study.source_sha256 == family(entry.model)]
    return [item for study in mine for item in study.lists]


def tell_strangers(entries: Sequence[Entry], studies: Sequence[Study]) -> None:
    """Warn of studies that none of the variants is of."""
    for study in studies:
        if not any(lists_for(entry, [study]) for entry in entries):
            log.warning("%s is of a student of whom these results have no INT8 variant: not shown", study.path)
