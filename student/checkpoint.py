"""Student files: one safetensors with the configuration as JSON metadata. Nothing is ever pickled.

Metadata keys: `format` ("stereodistill-student-1"), `config` (JSON of `StudentConfig`), `training` (JSON: what the
student was trained on, for how long, and how good it was; free form).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from deploy.models import shipped_students
from stereo.artifacts import atomic_path, plain
from stereo.errors import UserError
from student.model import StudentConfig, StudentStereo
from student.presets import adapt

FORMAT = "stereodistill-student-1"


def find_student(name_or_path: str | Path) -> Path:
    """The file of a shipped student's name, or the path itself.

    Raises:
        UserError: neither a shipped name nor a file.
    """
    path = Path(name_or_path)
    shipped = shipped_students()
    if not path.is_file() and str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    if not path.is_file():
        names = ", ".join(shipped) or "none yet"
        raise UserError("no such student file", where=path, fix=f"a .safetensors, or a shipped name: {names}")
    return path


def save_student(student: StudentStereo, path: Path | str, *, training: Mapping[str, Any]) -> Path:
    """Write a student atomically.

    Args:
        training: what to remember of its training.
    """
    path = Path(path)
    metadata = {
        "format": FORMAT,
        "config": json.dumps(plain(student.config)),
        "training": json.dumps(plain(training), allow_nan=False),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in student.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)
    return path


def read_metadata(path: Path | str) -> dict[str, Any]:
    """Configuration and training record of a student file, without its weights.

    Returns: {"config": StudentConfig, "training": dict}.

    Raises:
        UserError: not a student file.
    """
    path = find_student(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"is not a safetensors file: {error}", where=path, fix="train or fetch it again") from error
    if metadata.get("format") != FORMAT:
        raise UserError(f"is not a student of this project (format {metadata.get('format')!r})", where=path,
                        fix=f"expected format {FORMAT!r}, as `train` writes it")  # fmt: skip
    values = json.loads(metadata["config"])
    known = {field.name for field in dataclasses.fields(StudentConfig)}
    if unknown := sorted(set(values) - known):
        raise UserError(f"was made by a newer version: unknown settings {unknown}", where=path, fix="upgrade")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return {"config": StudentConfig(**values), "training": json.loads(metadata.get("training", "{}"))}


def load_student(path: Path | str, *, max_disp: int | None = None, iterations: int | None = None) -> StudentStereo:
    """Load a student in evaluation mode.

    Args:
        path: a shipped student's name or a .safetensors file.
        max_disp, iterations: other than trained, when given (see `student.presets.adapt`).

    Raises:
        UserError: not a student file, or its weights do not fit its configuration.
    """
    path = find_student(path)
    config = adapt(read_metadata(path)["config"], max_disp=max_disp, iterations=iterations)
    student = StudentStereo(config)
    with safe_open(path, framework="pt") as file:
        tensors: dict[str, torch.Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    try:
        student.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(
            f"weights do not fit preset '{config.preset}': {error}", where=path, fix="train again"
        ) from error
    if broken := [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
        raise UserError(
            f"weights are not finite: {broken[0]} and {len(broken) - 1} more", where=path, fix="train again"
        )
    return student.eval()
