"""The model card beside a shipped student: a pure function of its file and of measured results.

    python -m student.model_card NAME [--results results.json ...] [--limits TEXT]

reads `student/weights/NAME.safetensors`, and of results files of `evaluate` the rows that are about this file or about
graphs exported from it, and writes `student/weights/NAME.md`. The last block of a card holds all its numbers as JSON:
the text is made from that block alone, so that a test can compare both.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from deploy.results import ImageAccuracy, ResultRow, read_results
from deploy.summary import mean_of
from stereo.artifacts import plain, sha256_file, write_bytes
from stereo.errors import UserError
from student.checkpoint import find_student, load_student, read_metadata
from student.shipped_record import without_folders

LICENCE = "Apache-2.0"
RECORD = re.compile(r"^```json\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
SCORED = (
    "Pairs with truth were scored on, never trained on. A student whose data are known by name to allow research or "
    "non-commercial use only is not shipped."
)
ACCURACY = ("epe_px", "bad1_pct", "bad2_pct", "d1_pct")


def card_facts(path: Path, rows: Sequence[ResultRow], *, limits: str | None = None) -> dict[str, Any]:
    """Everything a card says, as JSON values.

    Args:
        path: the student file.
        rows: of `evaluate`; those about other students are left out.
        limits: what its users must know, in a person's words.

    Raises:
        UserError: not a student file.
    """
    metadata = read_metadata(path)
    digest = sha256_file(path)
    parameters = sum(value.numel() for value in load_student(path).parameters())
    own = [row for row in rows if row.accuracy and digest in (row.model.sha256, row.model.source_sha256)]
    return {
        "name": path.stem,
        "licence": LICENCE,
        "sha256": digest,
        "size_bytes": path.stat().st_size,
        "parameters": parameters,
        "config": plain(metadata["config"]),
        "training": metadata["training"],
        "limits": limits,
        "accuracy": [accuracy_of(row) for row in own],
    }


def accuracy_of(row: ResultRow) -> dict[str, Any]:
    """One row of results as the card keeps it."""
    return {
        "max_disp": row.model.max_disp,
        "iterations": row.model.iterations,
        "precision": row.model.precision,
        "runtime": f"{row.place.runtime} {row.place.runtime_version}",
        "device": row.place.device,
        "commit": row.commit,
        "command": shlex.join(without_folders(shlex.split(row.command))),
        "images": [plain(entry) for entry in row.accuracy],
    }


def card_text(facts: dict[str, Any]) -> str:
    """The card, Markdown."""
    training = facts["training"]
    recipe = yaml.safe_dump(training["config"], sort_keys=False, allow_unicode=True).strip()
    parts = [
        f"---\nlicense: {LICENCE.lower()}\npipeline_tag: depth-estimation\ntags: [stereo-matching]\n---",
        f"# {facts['name']}",
        f"A student of stereodistill: {facts['parameters']:,} parameters, {facts['size_bytes'] / 1e6:.2f} MB, "
        f"disparities up to {range_text(facts)}, {facts['config']['iterations']} refinement steps. "
        f"Licence: {LICENCE}. `stereodistill predict LEFT RIGHT --model {facts['name']} --out DIR` runs it.",
        *([f"## Limits\n\n{facts['limits']}"] if facts.get("limits") else []),
        "## Data\n\n" + data_text(training),
        "## Training\n\n" + training_text(training),
        "## Accuracy\n\n" + accuracy_text(facts),
        "## How to make it again\n\nThe folders named here are those of the section Data; the commit is "
        f"{training['commit']}.\n\n```bash\nstereodistill train --config recipe.yaml --out DIR\n```\n\n"
        f"```yaml\n{recipe}\n```",
        "## Record\n\nAll numbers above, as the file and the results of `evaluate` have them.\n\n"
        f"```json\n{json.dumps(facts, indent=1, ensure_ascii=False)}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def range_text(facts: dict[str, Any]) -> str:
    """The range of disparities, and that of the training where it is larger."""
    own, trained = facts["config"]["max_disp"], facts["training"]["config"].get("max_disp") or 0
    return f"{own} px (trained up to {trained} px: `--max_disp {trained}`)" if trained > own else f"{own} px"


def data_text(training: dict[str, Any]) -> str:
    """What the weights were made from."""
    lines = ["- procedural scenes of `stereodistill scenes`, rendered while training"]
    for photos in training["textures"]:
        lines.append(
            f"- photographs on their surfaces, {photos['name']}: {len(photos['files'])} of {photos['source']}, "
            f"licence: {photos['licence']}. Files: {', '.join(photos['files'])}"
        )
    for labels in training["labels"]:
        teacher = labels["teacher"].get("network") or labels["teacher"]["name"]
        lines.append(f"- pseudo-labels {labels['name']} of the teacher {teacher}, licence: {labels['licence']}")
    if start := training["started_from"]:
        lines.append(f"- started from the weights {start['name']} (sha256 {start['sha256']})")
    return "\n".join([*lines, "", SCORED])


def training_text(training: dict[str, Any]) -> str:
    """Steps, samples, compute, seed; the trainings before it in their order."""
    lines, total, count = [], 0, 0
    while training:
        lines.append(one_training(training))
        total, count = total + (training.get("samples") or 0), count + 1
        training = (training.get("started_from") or {}).get("training") or {}
    if count == 1:
        return lines[0]
    return (
        "\n".join(f"{index}. {line}" for index, line in enumerate(reversed(lines), 1))
        + f"\n\n{total:,} samples in all."
    )


def one_training(training: dict[str, Any]) -> str:
    """Steps, samples, compute and seed of one of them; or that it was no training but a widening."""
    if widened := training.get("widened"):
        return f"Widened from a {widened['preset']} (`stereodistill widen`, seed {widened['seed']}), without training."
    if "config" not in training or "samples" not in training:
        return "A training that does not say how long it was."
    config = training["config"]
    planned = f" of {training['planned_steps']:,} that were planned" if "planned_steps" in training else ""
    share = training["steps"] / training.get("planned_steps", training["steps"])
    stages = [stage for stage in config["data"].get("stages") or [] if stage["start"] < share]
    crops = [config["data"]["crop"], *(stage["crop"] for stage in stages)]
    return (
        f"{training['steps']:,} steps{planned}, {training['samples']:,} samples of {', then '.join(crops)} px, seed "
        f"{config['seed']}, {training['precision']}, {training['seconds'] / 3600:.2f} hours on {training['device']}."
    )


def accuracy_text(facts: dict[str, Any]) -> str:
    """A table for each row of results."""
    if not facts["accuracy"]:
        return "Not measured."
    tables = []
    for row in facts["accuracy"]:
        lines = [
            f"max_disp {row['max_disp']}, {row['iterations']} refinement steps, {row['precision']}, {row['runtime']} "
            f"on {row['device']}, commit {row['commit']}: `{row['command']}`", "",
            "| image | pixels | EPE px | bad-1 % | bad-2 % | D1 % |", "|---|---|---|---|---|---|",
        ]  # fmt: skip
        images = [ImageAccuracy(**entry) for entry in row["images"]]
        lines += [table_line(entry.image, entry.mask, [entry]) for entry in images]
        lines += [table_line(f"mean of {len(group)}, {name}", mask, group) for name, mask, group in groups_of(images)]
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def table_line(title: str, mask: str, entries: Sequence[ImageAccuracy]) -> str:
    """Numbers of some images, reduced as the report does; – where one has no number."""
    means = [mean_of(entries, metric) for metric in ACCURACY]
    return f"| {title} | {mask} | {' | '.join('–' if mean is None else f'{mean:.2f}' for mean in means)} |"


def groups_of(images: Sequence[ImageAccuracy]) -> list[tuple[str, str, list[ImageAccuracy]]]:
    """What is averaged: each dataset; each of its masks alone where an image is counted under several."""
    groups = []
    for name in dict.fromkeys(entry.dataset for entry in images):
        own = [entry for entry in images if entry.dataset == name]
        if len({entry.image for entry in own}) == len(own):
            groups.append((name, "as above", own))
            continue
        for mask in dict.fromkeys(entry.mask for entry in own):
            groups.append((name, mask, [entry for entry in own if entry.mask == mask]))
    return groups


def read_card(path: Path) -> dict[str, Any]:
    """The record of a card.

    Raises:
        UserError: no card, or one without a record.
    """
    if not path.is_file():
        raise UserError("no model card", where=path, fix=f"python -m student.model_card {path.stem}")
    blocks = RECORD.findall(path.read_text(encoding="utf-8"))
    try:
        return json.loads(blocks[-1])
    except (IndexError, json.JSONDecodeError) as error:
        raise UserError("the model card has no record", where=path, fix="make it again") from error


def write_card(path: Path, rows: Sequence[ResultRow], *, limits: str | None = None) -> Path:
    """Write NAME.md beside NAME.safetensors; see `card_facts`. Returns its path."""
    card = path.with_suffix(".md")
    write_bytes(card, card_text(card_facts(path, rows, limits=limits)).encode())
    return card


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the card of a shipped student."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a shipped student, or a .safetensors file")
    parser.add_argument("--results", nargs="*", default=[], help="results files of evaluate")
    parser.add_argument("--limits", help="what its users must know, in a sentence or two")
    options = parser.parse_args(arguments)
    try:
        rows = [row for path in options.results for row in read_results(path)]
        print(write_card(find_student(options.name), rows, limits=options.limits))
    except UserError as error:
        parser.exit(2, f"error: {error}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
