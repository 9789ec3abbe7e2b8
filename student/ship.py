"""Make a trained student one that ships: `student/weights/NAME.safetensors` and its card.

    python -m student.ship RUN/student.safetensors --name nano [--trained-on DEVICE] [--licence LABELS=TEXT ...]
        [--max-disp 192]
    stereodistill evaluate nano --data PAIRS --out results.json
    python -m student.model_card nano --results results.json

The weights stay as they are; the record of their training is completed and freed of paths (`student.shipped_record`),
which changes the file's checksum: what is measured before shipping is of another file.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.models import student_weights
from stereo.artifacts import sha256_file
from stereo.errors import UserError
from student.checkpoint import load_student, read_metadata, save_student
from student.model_card import card_facts, card_text, read_card, write_card
from student.shipped_record import refuse_non_commercial, shipped_record

LARGEST_BYTES = 16_000_000


def ship(
    path: Path, name: str, *, trained_on: str | None, licences: Mapping[str, str], max_disp: int | None = None
) -> Path:
    """Write the shipped file and a card without measured accuracy. Returns the file's path.

    Args:
        path: what `train` wrote.
        name: what it is called from now on.
        trained_on: see `student.shipped_record.shipped_record`.
        licences: likewise.
        max_disp: range that it has when nobody asks for one, in px; as trained when None.

    Raises:
        UserError: not a student with finite weights, data that may not ship, a record that is incomplete, or a file
            that is too large.
    """
    if path.stat().st_size > LARGEST_BYTES:
        raise UserError(f"{path.stat().st_size / 1e6:.1f} MB is more than {LARGEST_BYTES / 1e6:g} MB", where=path,
                        fix="ship a smaller preset")  # fmt: skip
    student = load_student(path, max_disp=max_disp)
    record = shipped_record(read_metadata(path)["training"], trained_on=trained_on, licences=licences)
    record["trained_file_sha256"] = sha256_file(path)
    shipped = save_student(student, student_weights() / f"{name}.safetensors", training=record)
    write_card(shipped, [])
    return shipped


def shipped_problems(path: Path) -> list[str]:
    """Why a file among the weights may not ship as it is; empty when it may."""
    problems = []
    if path.stat().st_size > LARGEST_BYTES:
        problems.append(f"{path.name} has {path.stat().st_size / 1e6:.1f} MB, more than {LARGEST_BYTES / 1e6:g} MB")
    try:
        load_student(path)  # refuses weights that do not fit or are not finite
        refuse_non_commercial(read_metadata(path)["training"])
        card = path.with_suffix(".md")
        said = read_card(card)
        true = {**card_facts(path, []), "accuracy": said.get("accuracy"), "limits": said.get("limits")}
        differing = sorted(key for key in said.keys() | true.keys() if said.get(key) != true.get(key))
        if differing:
            problems.append(f"{card.name} differs from {path.name} in {', '.join(differing)}")
        elif card_text(said) != card.read_text(encoding="utf-8"):
            problems.append(f"the text of {card.name} differs from its record")
    except UserError as error:
        problems.append(str(error))
    return problems


def main(arguments: Sequence[str] | None = None) -> int:
    """Ship one student."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("student", type=Path, help="the .safetensors that train wrote")
    parser.add_argument("--name", required=True, help="what it is called from now on")
    parser.add_argument("--trained-on", help="the device, where the record does not say it")
    parser.add_argument("--max-disp", type=int, help="range when nobody asks for one, in px; as trained without it")
    parser.add_argument("--licence", action="append", default=[], help="LABELS=TEXT, for each label set")
    options = parser.parse_args(arguments)
    try:
        if not options.student.is_file():
            raise UserError("no such student file", where=options.student, fix="train writes one")
        licences = dict(item.split("=", 1) for item in options.licence if "=" in item)
        shipped = ship(
            options.student, options.name, trained_on=options.trained_on, licences=licences, max_disp=options.max_disp
        )
        print(shipped)
    except UserError as error:
        parser.exit(2, f"error: {error}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
