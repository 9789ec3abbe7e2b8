"""What a run was made from, beside its checkpoint: a run goes on only with the same settings and the same data."""

from __future__ import annotations

import hashlib
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from distill.build import result_name, source_files
from distill.callbacks import CHECKPOINT_NAME
from distill.config import QatOptions, TrainConfig
from distill.packed import open_labels
from distill.scene_textures import find_photographs
from stereo.artifacts import commit, plain, read_json, sha256_file, tool_versions, write_json
from stereo.errors import UserError

RECORD_NAME = "train.json"
SPOOL_NAME = "shards"
# Settings that change how a run is carried out, not what it computes: they may differ when it is resumed.
FREE_ON_RESUME = {
    "out", "restart", "finish", "trainer", "validate_every", "checkpoint_every", "pairs", "data.workers",
    "data.render_device", "data.cache_mb",
}  # fmt: skip

# What runs of earlier versions computed with, where their record does not know the option yet.
EARLIER: dict[str, Any] = {
    "qat": plain(QatOptions()), "data.occluded_weight": 1.0, "loss.planes": 0.0, "loss.robust_px": 0.0,
}  # fmt: skip


def make_record(config: TrainConfig) -> dict[str, Any]:
    """What the run is made from: configuration, checksums of its inputs, tools, commit."""
    # The journal lists every frame's checksums; the manifest is stamped anew whenever `label` looks at the set.
    spool = config.out / SPOOL_NAME
    places = [*config.data.labels, *([] if config.qat.frames is None else [config.qat.frames])]
    made_from = {str(place): open_labels(place, spool).fingerprint() for place in places}
    made_from |= {str(path): sha256_file(path) for path in source_files(config)}
    if config.data.textures is not None:
        made_from[str(config.data.textures)] = fingerprint_of_photographs(config.data.textures)
    return {"config": plain(config), "made_from": made_from, "tools": tool_versions(), "commit": commit()}


def fingerprint_of_photographs(folder: Path) -> str:
    """sha256 of the photographs that the scenes' textures are cut from, their names and contents.

    Raises:
        UserError: no such folder, or none in it.
    """
    digest = hashlib.sha256()
    for path in find_photographs((str(folder),)):
        name = path.relative_to(folder) if folder.is_dir() else path.name
        digest.update(f"{name} {sha256_file(path)}\n".encode())
    return digest.hexdigest()


def prepare_folder(config: TrainConfig, record: dict[str, Any]) -> bool:
    """Write the record of a new run, or check that an old one may go on. Returns whether there is one to resume.

    Raises:
        UserError: the folder holds a run with other settings or other data.
    """
    path = config.out / RECORD_NAME
    if path.exists() and not config.restart:
        old = read_json(path, what="training record")
        differing = [*differences(old["config"], record["config"]), *differences(old["made_from"], record["made_from"])]
        if differing:
            raise UserError(f"holds a run with other settings: {'; '.join(differing)}", where=config.out,
                            fix="give them as they were, another --out, or --restart true")  # fmt: skip
        if (config.out / CHECKPOINT_NAME).exists():
            return True
    for name in (CHECKPOINT_NAME, result_name(config)):
        (config.out / name).unlink(missing_ok=True)
    write_json(path, record)
    return False


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Settings that differ and matter, as "name was OLD, now NEW"."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        name, after = prefix + key, new.get(key)
        before = old.get(key, EARLIER.get(name))
        if name in FREE_ON_RESUME or before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f"{name}.")
        else:
            found.append(f"{name} was {before}, now {after}")
    return found


def checkpoint_step(path: Path, config: TrainConfig) -> int:
    """Steps that a checkpoint has behind it.

    Raises:
        UserError: it cannot be read, or is not of this run.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        step, preset = int(checkpoint["global_step"]), str(checkpoint["preset"])
    except (RuntimeError, KeyError, EOFError, OSError, UnpicklingError) as error:
        raise UserError(f"is not a readable checkpoint: {error}", where=path, fix="--restart true") from error
    if preset != config.preset:
        raise UserError(f"is a checkpoint of '{preset}', not of '{config.preset}'", where=path,
                        fix="put the run's own back, or --restart true")  # fmt: skip
    if broken := [name for name, tensor in checkpoint["state_dict"].items() if not torch.isfinite(tensor).all()]:
        raise UserError(f"weights are not finite: {broken[0]} and {len(broken) - 1} more", where=path,
                        fix="--restart true, with a lower --optimiser.learning_rate")  # fmt: skip
    return step


def run_precision(config: TrainConfig) -> str | None:
    """What the run in the folder computes in, so that it goes on alike on another machine; None where none goes on."""
    path = config.out / CHECKPOINT_NAME
    if config.restart or not path.is_file():
        return None
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, OSError, UnpicklingError):
        return None  # told by checkpoint_step
    return checkpoint.get("precision") if isinstance(checkpoint, dict) else None
