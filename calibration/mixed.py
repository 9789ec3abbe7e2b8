"""mixed.json: which convolutions a search on true disparities took out of INT8 (`calibration.sensitivity`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from calibration.config import ApcForm
from stereo.artifacts import read_json
from stereo.errors import UserError

KIND = "mixed precision"
VERSION = 1
# The form that `sensitivity` exports.
APC_FORM: ApcForm = "conv3d"


def compose_mixed(study: Mapping[str, Any], keep_float: Sequence[str]) -> dict[str, Any]:
    """The content of the file.

    Args:
        study: content of sensitivity.json.
        keep_float: names of the convolutions that stay in float.
    """
    return {
        "kind": KIND,
        "version": VERSION,
        "made_from": study["made_from"],
        "max_disp": study["student"]["max_disp"],
        "iterations": study["student"]["iterations"],
        "apc_form": APC_FORM,
        "keep_float": list(keep_float),
    }


def read_mixed(path: Path, student_sha256: str, *, iterations: int, apc_form: ApcForm) -> list[str]:
    """Names of the convolutions that stay in float.

    Args:
        student_sha256: of the student's file.
        iterations, apc_form: of the graph that is made; names of convolutions depend on them.

    Raises:
        UserError: no such file, or one of another student or another graph: what hurts one does not hurt the other.
    """
    content = read_json(path, what="result of a search")
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise UserError("is no result of a search", where=path, fix="give the mixed.json that `sensitivity` wrote")
    if content.get("version") != VERSION:
        raise UserError(f"has version {content.get('version')}, this program reads {VERSION}", where=path,
                        fix="update stereodistill")  # fmt: skip
    if content["made_from"]["student"] != student_sha256:
        raise UserError("was searched for another student", where=path, fix="run `sensitivity` on this one")
    for option, value in (("iterations", iterations), ("apc_form", apc_form)):
        if content[option] != value:
            raise UserError(f"was searched with {option} {content[option]}, not {value}", where=path,
                            fix=f"--{option} {content[option]}, or run `sensitivity` anew")  # fmt: skip
    return list(content["keep_float"])
