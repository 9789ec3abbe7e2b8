"""calibration.json: which frames a calibration saw, to the pixel, so that it can be repeated bit by bit.

A small file of its own, because it outlives the graphs: the next student, or the next version of this one, is
calibrated on the same frames by `quantize --calibration FILE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from calibration.frames import Choice, FrameRecord
from stereo.artifacts import read_json
from stereo.errors import UserError
from stereo.label_set import LabelSet

RECORD_NAME = "calibration.json"
KIND = "calibration frames"
VERSION = 1
REPEATED = "repeated: "


def compose_record(
    labels: LabelSet,
    choice: Choice,
    records: Sequence[FrameRecord],
    size: tuple[int, int],
    *,
    student_sha256: str,
) -> dict[str, Any]:
    """The content of the file.

    Args:
        records: the frames as they went in, in order.
        size: (H, W) of the graphs they were fitted to.
        student_sha256: of the file that was calibrated, so that a report shows the frames with its variants alone.
    """
    return {
        "kind": KIND,
        "version": VERSION,
        "made_from": {"student": student_sha256},
        "label_set": {"journal": labels.fingerprint(), "frames": len(labels)},
        "selection": choice.selection,
        "seed": choice.seed,
        "asked_for": choice.asked,
        "covering_radius": choice.covering_radius,
        "size": list(size),
        "frames": [asdict(record) for record in records],
    }


def read_record(path: Path) -> dict[str, Any]:
    """Read and check a file.

    Raises:
        UserError: it is none, or one of a later version.
    """
    record = read_json(path, what="calibration record")
    if not isinstance(record, dict) or record.get("kind") != KIND or not record.get("frames"):
        raise UserError("is no calibration record", where=path, fix=f"give the {RECORD_NAME} that `quantize` wrote")
    if record.get("version") != VERSION:
        raise UserError(f"has version {record.get('version')}, this program reads {VERSION}", where=path,
                        fix="update stereodistill")  # fmt: skip
    return record


def repeat_choice(path: Path, labels: LabelSet) -> Choice:
    """The frames of an earlier calibration.

    Raises:
        UserError: the label set is not the one they were chosen from.
    """
    record = read_record(path)
    if record["label_set"]["journal"] != labels.fingerprint():
        raise UserError(
            f"was made from another label set (of {record['label_set']['frames']} frames; {labels.path} has "
            f"{len(labels)}, or other ones)", where=path, fix="give --frames as it was, or leave --calibration out",
        )  # fmt: skip
    indices = [frame["index"] for frame in record["frames"]]
    selection = f"{REPEATED}{record['selection'].removeprefix(REPEATED)}"
    return Choice(indices, selection, record["seed"], record["asked_for"], record["covering_radius"])


def check_repeated(path: Path, records: Sequence[FrameRecord], size: tuple[int, int]) -> None:
    """Refuse a repetition that saw other pixels: with another version of OpenCV a scaled frame is another one.

    Args:
        records: the frames as they went in now.
        size: (H, W) they were fitted to; at another size nothing can be said.

    Raises:
        UserError: with the first frame that differs.
    """
    earlier = read_record(path)
    if earlier["size"] != list(size):
        return
    for frame, record in zip(earlier["frames"], records, strict=True):
        if frame["sha256"] != record.sha256:
            raise UserError(f"frame {record.name} has other pixels than then", where=path,
                            fix="install the same version of opencv-python, or leave --calibration out")  # fmt: skip
