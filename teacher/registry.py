"""From a teacher's name to the teacher. Each entry imports its own room only when chosen."""

from __future__ import annotations

from collections.abc import Callable

from stereo.errors import UserError
from teacher.config import TeacherOptions
from teacher.protocol import Teacher


def open_semi_global(options: TeacherOptions) -> Teacher:
    """OpenCV's SGBM."""
    from teacher.semi_global import SemiGlobalTeacher

    if options.model or options.description:
        raise UserError("the teacher sgbm has no model", where="--teacher.model", fix="leave it out, or --teacher onnx")
    return SemiGlobalTeacher(128 if options.max_disp is None else options.max_disp)


def open_onnx(options: TeacherOptions) -> Teacher:
    """Any ONNX stereo network."""
    from teacher.onnx_teacher import OnnxTeacher

    if options.model is None:
        raise UserError("the teacher onnx needs a network", where="--teacher.model", fix="give an .onnx or .yaml file")
    return OnnxTeacher.open(
        options.model, description=options.description, max_disp=options.max_disp, threads=options.threads
    )


TEACHERS: dict[str, Callable[[TeacherOptions], Teacher]] = {"sgbm": open_semi_global, "onnx": open_onnx}


def open_teacher(options: TeacherOptions) -> Teacher:
    """The teacher that the options ask for.

    Raises:
        UserError: an unknown name, or options that do not fit the teacher.
    """
    if options.name not in TEACHERS:
        raise UserError(f"unknown teacher '{options.name}'", where="--teacher", fix=f"known: {', '.join(TEACHERS)}")
    return TEACHERS[options.name](options)
