"""The network of a run, made from its options, and what may be wrong with them."""

from __future__ import annotations

import math
from pathlib import Path

from distill.config import FoundationStereoOptions, OnlineTeacherOptions, TrainConfig
from distill.distillation import Distillation
from distill.foundation_stereo import build_foundation_stereo
from distill.networks import TrainedFoundationStereo, TrainedNetwork, TrainedStudent
from distill.online_teacher import open_online_teacher
from distill.qat import qat_files, quantised_student
from stereo.errors import UserError
from student.checkpoint import find_student, load_student
from student.model import StudentStereo
from student.presets import PRESETS as STUDENT_PRESETS
from student.presets import build_student
from teacher.checkpoints import OBTAIN, check_max_disp
from teacher.presets import PRESETS as FOUNDATION_STEREO_PRESETS


def is_foundation_stereo_preset(config: TrainConfig) -> bool:
    """Whether the run trains a FoundationStereo.

    Raises:
        UserError: the preset is neither that nor a student.
    """
    if config.preset not in FOUNDATION_STEREO_PRESETS and config.preset not in STUDENT_PRESETS:
        known = ", ".join([*STUDENT_PRESETS, *FOUNDATION_STEREO_PRESETS])
        raise UserError(f"no preset '{config.preset}'", where="--preset", fix=f"one of: {known}")
    return config.preset in FOUNDATION_STEREO_PRESETS


def result_name(config: TrainConfig) -> str:
    """Name of the file that the run makes."""
    return "foundation_stereo.safetensors" if is_foundation_stereo_preset(config) else "student.safetensors"


def source_files(config: TrainConfig) -> list[Path]:
    """Files of weights that the run starts from.

    Raises:
        UserError: one that is not there.
    """
    files = []
    if parts := config.foundation_stereo.weights:
        require_file(parts, "benchmarks/ablation.py makes some for the tiny network")
        files.append(parts)
    if config.teacher.checkpoint is not None:
        require_file(Path(config.teacher.checkpoint), OBTAIN)
        files.append(Path(config.teacher.checkpoint))
    if config.init is not None and is_foundation_stereo_preset(config):
        require_file(Path(config.init), OBTAIN)
        files.append(Path(config.init))
    elif config.init is not None:
        files.append(find_student(config.init))
    for path in qat_files(config):
        require_file(path, "give the folder that `quantize` wrote")
        files.append(path)
    return files


def require_file(path: Path, fix: str) -> None:
    """Refuse a path without a file."""
    if not path.is_file():
        raise UserError("no such file", where=path, fix=fix)


def build(config: TrainConfig) -> TrainedNetwork:
    """The network of a run, with fresh weights or with those of a file.

    Raises:
        UserError: unknown preset, or settings that do not fit it or the file.
    """
    if is_foundation_stereo_preset(config):
        iterations = config.iterations or FOUNDATION_STEREO_PRESETS[config.preset].iterations
        freeze = config.init is not None if config.batch_norm == "auto" else config.batch_norm == "freeze"
        return TrainedFoundationStereo(build_foundation_stereo(config), iterations, freeze)
    if config.foundation_stereo != FoundationStereoOptions():
        raise UserError(f"'{config.preset}' is a student", where="--foundation_stereo",
                        fix="leave these options out, or take a preset foundation_stereo_*")  # fmt: skip
    student = build_trained_student(config)
    if config.qat.graphs is not None:
        return quantised_student(student, config)
    distillation = None
    if config.teacher.checkpoint is not None:
        teacher = open_online_teacher(config.teacher, min_confidence=config.data.min_confidence)
        distillation = Distillation(student, teacher, config.loss)
    return TrainedStudent(student, config.batch_norm == "freeze", distillation)


def check_teacher(config: TrainConfig) -> None:
    """Refuse a teacher on line that cannot teach, and terms without one.

    Raises:
        UserError: see there.
    """
    loss, teacher = config.loss, config.teacher
    for name in ("gamma", "sequence", "initial", "planes", "robust_px", "features", "volume"):
        if not 0 <= getattr(loss, name) < math.inf:
            raise UserError(f"{getattr(loss, name)} is out of range", where=f"--loss.{name}", fix="0 or more")
    if not 0 < loss.temperature < math.inf:
        raise UserError(f"{loss.temperature} is no temperature", where="--loss.temperature", fix="1 leaves it out")
    if teacher.checkpoint is None:
        for name in ("features", "volume"):
            if getattr(loss, name):
                raise UserError(f"--loss.{name} needs a teacher on line", where="--teacher.checkpoint", fix=OBTAIN)
        if teacher != OnlineTeacherOptions():
            raise UserError("the teacher on line needs weights", where="--teacher.checkpoint", fix=OBTAIN)
        return
    if is_foundation_stereo_preset(config):
        raise UserError(f"'{config.preset}' is no student", where="--teacher.checkpoint", fix="leave it out")
    if teacher.replaces == "nothing" and not (loss.features or loss.volume):
        raise UserError("the teacher has nothing to teach", where="--teacher.replaces",
                        fix="labels or everything, or weights for --loss.features and --loss.volume")  # fmt: skip
    if teacher.iterations < 1:
        raise UserError(f"{teacher.iterations} is less than 1", where="--teacher.iterations", fix="16 is usual here")
    if teacher.max_disp is not None:
        check_max_disp(teacher.max_disp)


def build_trained_student(config: TrainConfig) -> StudentStereo:
    """A student with fresh weights, or with those of another."""
    if config.init is None:
        return build_student(config.preset, max_disp=config.max_disp, iterations=config.iterations)
    student = load_student(config.init, max_disp=config.max_disp, iterations=config.iterations)
    if student.config.preset != config.preset:
        raise UserError(f"is a '{student.config.preset}', not a '{config.preset}'", where=config.init,
                        fix=f"--preset {student.config.preset}")  # fmt: skip
    return student
