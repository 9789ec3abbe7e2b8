"""`stereodistill export`: a student file → one FP32 ONNX graph."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

from deploy.export import export_onnx
from deploy.io_form import write_in_form
from deploy.onnx_stereo import OUTPUT
from stereo.artifacts import sha256_file
from stereo.errors import UserError
from stereo.options import parse_size
from student.checkpoint import find_student, load_student
from student.config import ApcForm, ExportConfig
from student.exported import ExportedStudent
from student.model import SIZE_MULTIPLE, StudentStereo
from teacher.fusing import fold_batch_norms


def graph_metadata(student: StudentStereo, *, precision: str, source_sha256: str, apc_form: ApcForm) -> dict[str, str]:
    """What every graph of a student says of itself."""
    return {
        "preset": student.config.preset,
        "max_disp": str(student.config.max_disp),
        "iterations": str(student.config.iterations),
        "precision": precision,
        "apc_form": apc_form,
        "source_sha256": source_sha256,
    }


def export_student(
    student: StudentStereo,
    path: Path,
    *,
    size: tuple[int, int],
    source_sha256: str,
    apc_form: ApcForm = "conv3d",
    opset: int = 18,
    extra_outputs: Sequence[str] = (),
    open_batch: bool = False,
) -> Path:
    """Export a loaded student.

    Args:
        size: (height, width), multiples of 32.
        source_sha256: of the student file, recorded in the graph.
        extra_outputs: see `student.exported`.
        open_batch: take any number of pairs at a time.
    """
    metadata = graph_metadata(student, precision="fp32", source_sha256=source_sha256, apc_form=apc_form)
    outputs: tuple[str, ...] = (OUTPUT,)
    if extra_outputs:
        student = ExportedStudent(student, extra_outputs)
        outputs = student.outputs
    if apc_form == "conv2d":
        # The exporter computes no large constants, and so leaves norms behind weights that are reshaped first.
        student = copy.deepcopy(student).eval()
        fold_batch_norms(student)
    student.set_apc_form(apc_form)
    return export_onnx(
        student, path, size=size, metadata=metadata, opset=opset, outputs=outputs, open_batch=open_batch
    )  # fmt: skip


def export(config: ExportConfig) -> Path:
    """The verb `export`."""
    if config.out.suffix != ".onnx":
        raise UserError(f"'{config.out}' does not end in .onnx", where="--out", fix="name the file, such as nano.onnx")
    size = parse_size(config.size, multiple=SIZE_MULTIPLE)
    path = find_student(config.student)
    student = load_student(path, max_disp=config.max_disp, iterations=config.iterations)
    out = export_student(
        student, config.out, size=size, source_sha256=sha256_file(path), apc_form=config.apc_form, opset=config.opset,
        extra_outputs=config.outputs, open_batch=config.open_batch,
    )  # fmt: skip
    write_in_form(out, convention=config.io, pixels=config.pixels)
    return out
