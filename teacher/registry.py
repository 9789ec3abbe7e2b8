"""From a teacher's name to the teacher. Each entry imports its own room only when chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from stereo.errors import UserError
from teacher.config import TeacherOptions
from teacher.protocol import Teacher


def open_semi_global(options: TeacherOptions) -> Teacher:
    """OpenCV's SGBM."""
    from teacher.semi_global import SemiGlobalTeacher

    return SemiGlobalTeacher(128 if options.max_disp is None else options.max_disp)


def open_onnx(options: TeacherOptions) -> Teacher:
    """Any ONNX stereo network."""
    from teacher.onnx_teacher import OnnxTeacher

    if options.model is None:
        raise UserError("the teacher onnx needs a network", where="--teacher.model", fix="give an .onnx or .yaml file")
    return OnnxTeacher.open(
        options.model, description=options.description, max_disp=options.max_disp, threads=options.threads
    )


def open_foundation_stereo(options: TeacherOptions) -> Teacher:
    """The full FoundationStereo network."""
    from teacher.foundation_teacher import FoundationTeacher

    return FoundationTeacher.open(options)


@dataclass(frozen=True)
class Entry:
    """One teacher.

    Args:
        open: makes it.
        takes: the options that mean something to it.
    """

    open: Callable[[TeacherOptions], Teacher]
    takes: frozenset[str]


TEACHERS: dict[str, Entry] = {
    "sgbm": Entry(open_semi_global, frozenset({"max_disp"})),
    "onnx": Entry(open_onnx, frozenset({"model", "description", "max_disp", "threads"})),
    "foundation_stereo": Entry(
        open_foundation_stereo,
        frozenset(
            {
                "checkpoint", "max_disp", "threads", "iterations", "scale", "hierarchical", "vit", "attention_axis",
                "precision", "device", "consistency",
            }
        ),
    ),
}  # fmt: skip


def open_teacher(options: TeacherOptions) -> Teacher:
    """The teacher that the options ask for.

    Raises:
        UserError: an unknown name, or options that do not fit the teacher.
    """
    if options.name not in TEACHERS:
        raise UserError(f"unknown teacher '{options.name}'", where="--teacher", fix=f"known: {', '.join(TEACHERS)}")
    entry = TEACHERS[options.name]
    given = {field.name for field in dataclasses.fields(options) if getattr(options, field.name) is not None}
    for option in sorted(given - entry.takes - {"name"}):
        having = [name for name, other in TEACHERS.items() if option in other.takes]
        raise UserError(f"the teacher {options.name} has no {option}", where=f"--teacher.{option}",
                        fix=f"leave it out, or --teacher {' or '.join(having)}")  # fmt: skip
    return entry.open(options)
