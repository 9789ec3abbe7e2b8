"""What a shipped student says of its training: everything that matters, and no path of the machine it was made on.

`train` records its whole configuration. Here the folders in it become what they held: photographs with their source and
licence, label sets with their footage and teacher, and the students it started from with their own records.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stereo.artifacts import read_json, sha256_file
from stereo.errors import UserError
from stereo.label_set import LabelSet, read_manifest
from student.checkpoint import find_student, read_metadata

# Data and weights whose licences allow research or non-commercial use only, as their names are mostly written.
NON_COMMERCIAL = ("kitti", "middlebury", "sceneflow", "flyingthings", "monkaa", "eth3d", "foundationstereo")
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def shipped_record(
    training: Mapping[str, Any], *, trained_on: str | None, licences: Mapping[str, str]
) -> dict[str, Any]:
    """The record of a student that ships.

    Args:
        training: as `train` wrote it.
        trained_on: the device; None takes what the record says.
        licences: of each label set, by the name of its folder: of its footage and of its teacher's weights.

    Raises:
        UserError: the device, a licence or a folder of the training is missing, or its data may not ship.
    """
    device = trained_on or training.get("device")
    if not device:
        raise UserError("the training does not say which device it ran on", where="--trained-on", fix="name it")
    refuse_non_commercial(training)  # before its folders are cut down to their names
    config = training["config"]
    data = config["data"]
    record = {key: training[key] for key in ("steps", "samples", "seconds", "precision", "commit", "tools")}
    if "planned_steps" in training:  # a run that was stopped
        record["planned_steps"] = training["planned_steps"]
    record |= {
        "device": device,
        "config": without_folders(
            {key: value for key, value in config.items() if key not in ("out", "restart", "finish")}
        ),
        "textures": [] if data["textures"] is None else photographs(Path(data["textures"])),
        "labels": [labels_of(Path(path), licences) for path in data["labels"]],
        "started_from": ancestor(config.get("init"), training.get("made_from", {})),
        "validation": training.get("validation", {}),
    }
    return record


def without_folders(value: Any) -> Any:
    """The same JSON value with each path cut down to its last part, among the keys too; a licence stays as it is."""
    if isinstance(value, Mapping):
        return {last_part(key): item if key == "licence" else without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_folders(item) for item in value]
    return last_part(value)


def last_part(value: Any) -> Any:
    """The name at the end of a path; anything else as it is. A text of several words with a slash in it is no path."""
    is_path = isinstance(value, str) and "/" in value and (value[0] in "/~." or len(value.split()) == 1)
    return Path(value).name if is_path else value


def photographs(folder: Path) -> list[dict[str, Any]]:
    """Each folder of photographs with a README.json that says `source` and `licence`.

    Raises:
        UserError: the folder is gone, a photograph lies in none of them, or a field is missing.
    """
    if not folder.is_dir():
        raise UserError("no such folder of photographs", where=folder, fix="ship where the training ran")
    sets = []
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
    for place in sorted({path.parent for path in files}):
        told = read_json(place / "README.json", what="description of photographs")
        if not told.get("source") or not told.get("licence"):
            raise UserError("does not say source and licence", where=place / "README.json", fix="add both fields")
        names = [path.name for path in files if path.parent == place]
        sets.append({"name": place.name, "source": told["source"], "licence": told["licence"], "files": names})
    return sets


def labels_of(path: Path, licences: Mapping[str, str]) -> dict[str, Any]:
    """A label set by its footage, teacher and licence.

    Raises:
        UserError: it is gone, or its licence is not told.
    """
    manifest = read_manifest(LabelSet.open(path).root)  # a view's own one does not tell footage and teacher
    if path.name not in licences:
        raise UserError("the licence of this label set is not told", where=path,
                        fix=f"--licence '{path.name}=of the footage and of the teacher'")  # fmt: skip
    teacher, source = manifest.get("teacher") or {}, manifest.get("source") or {}
    refuse_non_commercial({"labels": [teacher, source]})
    return {
        "name": path.name,
        "licence": licences[path.name],
        "source": without_folders(source),
        "teacher": {key: teacher.get(key) for key in ("name", "network", "weights_sha256")},
    }


def ancestor(init: str | None, made_from: Mapping[str, str]) -> dict[str, Any] | None:
    """Name, checksum and training record of the student that a training started from, and of what that started from.

    Raises:
        UserError: one of these files is gone, or is another one now.
    """
    if init is None:
        return None
    path = find_student(init)
    digest = sha256_file(path)
    if digest not in made_from.values():
        raise UserError("is not the file that the training started from", where=path, fix="ship it beside that file")
    training = complete(read_metadata(path)["training"])
    refuse_non_commercial(training)
    return {"name": path.name, "sha256": digest, "training": without_folders(training)}


def complete(training: Mapping[str, Any]) -> dict[str, Any]:
    """A record with that of the student it started from, and so on to the first, as shipped students have them.

    Raises:
        UserError: one of these files is gone, or is another one now.
    """
    start, config = training.get("started_from"), training.get("config") or {}
    if start:  # shipped, or widened: the record beneath may still lack its own
        return {**training, "started_from": {**start, "training": complete(start["training"])}}
    if config.get("init"):
        return {**training, "started_from": ancestor(config["init"], training.get("made_from", {}))}
    return dict(training)


def data_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a record that says what the weights were made from; what they were scored on is not in it."""
    config = record.get("config") or {}
    parts = {key: record.get(key) for key in ("textures", "labels", "made_from")}
    parts["data"] = config.get("data")
    parts["init"] = config.get("init")
    parts["qat"] = config.get("qat")
    if (config.get("teacher") or {}).get("checkpoint"):
        parts["teacher"] = "FoundationStereo in the loop"
    start = record.get("started_from")
    if start:
        parts["started_from"] = {"name": start["name"], "data": data_of(start["training"])}
    return parts


def refuse_non_commercial(record: Mapping[str, Any]) -> None:
    """Refuse data that may not go into a shipped weight, found by name in the record of the training.

    Raises:
        UserError: a name of `NON_COMMERCIAL`.
    """
    for text in strings(data_of(record)):
        plain_text = re.sub(r"[^a-z0-9]", "", text.lower())
        for name in NON_COMMERCIAL:
            if name in plain_text:
                raise UserError(f"trained on '{text}': the licence of {name} does not allow to ship it",
                                fix="train without it")  # fmt: skip


def strings(value: Any) -> list[str]:
    """All keys and strings in a JSON value."""
    if isinstance(value, Mapping):
        return [text for key, item in value.items() for text in (str(key), *strings(item))]
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []
