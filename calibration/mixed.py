"""mixed.json: which convolutions a search on true disparities took out of INT8 (`calibration.sensitivity`)."""

from __future__ import annotations

from pathlib import Path

from stereo.artifacts import read_json
from stereo.errors import UserError

KIND = "mixed precision"
VERSION = 1


def read_mixed(path: Path, student_sha256: str) -> list[str]:
    """Names of the convolutions that stay in float.

    Raises:
        UserError: no such file, or one of another student: what hurts one does not hurt the other.
    """
    content = read_json(path, what="result of a search")
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise UserError("is no result of a search", where=path, fix="give the mixed.json that `sensitivity` wrote")
    if content.get("version") != VERSION:
        raise UserError(f"has version {content.get('version')}, this program reads {VERSION}", where=path,
                        fix="update stereodistill")  # fmt: skip
    if content["made_from"]["student"] != student_sha256:
        raise UserError("was searched for another student", where=path, fix="run `sensitivity` on this one")
    return list(content["keep_float"])
