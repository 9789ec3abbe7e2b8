"""`stereodistill quantize`: a student file → FP32, FP16 and INT8 graphs of it, with one manifest.

    student ─ export ─ fp32.onnx ─┬─────────────────────────────── autocast ─ fp16.onnx
                                  └─ PTQ on frames of a label set ─ autocast ─ int8.onnx, mixed.onnx

Which nodes stay in higher precision stands in `calibration.precision`. The files of a run appear in the output folder
at its end, the manifest last.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from calibration.config import ApcForm, CalibrationMethod, QuantizeConfig, Selection
from calibration.difference import differences_from_fp32
from calibration.frames import Choice, FrameRecord, choose_frames, describe
from calibration.input_check import InputFacts, check_inputs
from calibration.mixed import read_mixed
from calibration.modelopt_process import check_installed, run_modelopt
from calibration.modelopt_request import ModeloptRequest
from calibration.precision import convolutions_kept_float, nodes_kept_fp32, quantised_nodes
from calibration.record import RECORD_NAME, check_repeated, compose_record, repeat_choice
from calibration.variants import CONVERTED, MIXED, ROLES, describe_precision, describe_variants, finish_graph
from deploy.io_form import write_in_form
from deploy.models import shipped_students
from deploy.onnx_stereo import read_stereo_graph
from stereo.artifacts import MANIFEST_NAME, disk_error, make_manifest, sha256_file, write_json
from stereo.errors import UserError
from stereo.label_set import LabelSet
from stereo.options import parse_size
from stereo.progress import clock
from student.checkpoint import find_student, load_student
from student.export import export_student, graph_metadata
from student.exported import check_outputs
from student.model import SIZE_MULTIPLE, StudentStereo

KIND = "quantised student"
# Frames on which the variants are compared right away; accuracy against truth is the business of `evaluate`.
COMPARED_FRAMES = 3

log = logging.getLogger(__name__)


def quantize(config: QuantizeConfig) -> Path:
    """The verb `quantize`."""
    return make_variants(config, LabelSet.open(config.frames))


def quantize_student(
    student_path: str | Path,
    frames: LabelSet,
    *,
    size: tuple[int, int],
    out: Path | str,
    frame_count: int = 128,
    selection: Selection = "coverage",
    seed: int = 0,
    method: CalibrationMethod = "max",
    apc_form: ApcForm = "conv3d",
) -> Path:
    """Write `out`/fp32.onnx, fp16.onnx, int8.onnx, calibration.json and manifest.json.

    Args:
        student_path: a shipped student's name or a .safetensors file.
        frames: where calibration frames are drawn from.
        size: (height, width) of the graphs in pixels, multiples of 32; frames of other sizes are fitted.
        out: the folder; files of an earlier run in it are replaced.
        frame_count, selection, seed: see `calibration.frames.choose_frames`.
        method: how activation ranges are found.
        apc_form: spelling of axial-planar convolutions.

    Returns: `out`.

    Raises:
        UserError: not a student, no usable frames, a folder that cannot be written, a full disk.
    """
    config = QuantizeConfig(
        str(student_path), frames=frames.path, out=Path(out), size=f"{size[0]}x{size[1]}", frame_count=frame_count,
        selection=selection, seed=seed, method=method, apc_form=apc_form,
    )  # fmt: skip
    return make_variants(config, frames)


@dataclass(frozen=True)
class Job:
    """Everything that decides the result, checked.

    Args:
        config: the options.
        labels: where the frames come from.
        student: the loaded student.
        source_sha256: of its file.
        size: (H, W) of the graphs.
        choice: the calibration frames.
        inputs: how they compare with what the student was trained on.
        mixed: convolutions that stay in float in mixed.onnx; None makes none.
    """

    config: QuantizeConfig
    labels: LabelSet
    student: StudentStereo
    source_sha256: str
    size: tuple[int, int]
    choice: Choice
    inputs: InputFacts
    mixed: list[str] | None

    @property
    def converted(self) -> tuple[str, ...]:
        """The graphs that modelopt makes."""
        return CONVERTED if self.mixed is None else (*CONVERTED, MIXED)


def make_variants(config: QuantizeConfig, labels: LabelSet) -> Path:
    """Do what `quantize_student` says."""
    start = time.monotonic()
    check_installed("quantize")
    with work_folder(config.out) as folder:  # before frames are looked at, which takes a while
        job = prepare(config, labels)
        records = make_graphs(job, folder)
        if config.calibration is not None:
            check_repeated(config.calibration, records, job.size)
        record = compose_record(labels, job.choice, records, job.size, student_sha256=job.source_sha256)
        write_json(folder / RECORD_NAME, record)
        manifest = compose_manifest(job, folder, records)
        publish(folder, config.out, manifest, ("fp32", *job.converted))
    report(manifest)
    log.info("quantised in %s", clock(time.monotonic() - start))
    return config.out


def prepare(config: QuantizeConfig, labels: LabelSet) -> Job:
    """Check the options and load the student.

    Raises:
        UserError: what is wrong with them.
    """
    refuse_graphs(config.student)
    check_outputs(config.outputs)
    size = parse_size(config.size, multiple=SIZE_MULTIPLE)
    path = find_student(config.student)
    student = load_student(path, max_disp=config.max_disp, iterations=config.iterations)
    source = sha256_file(path)
    mixed = None
    if config.mixed is not None:
        mixed = read_mixed(
            config.mixed, source, iterations=student.config.iterations, apc_form=config.apc_form
        )  # fmt: skip
    if config.calibration is not None:
        choice = repeat_choice(config.calibration, labels)
    else:
        choice = choose_frames(labels, config.frame_count, selection=config.selection, seed=config.seed)
    inputs = check_inputs(student, labels, choice.indices, size)
    return Job(config, labels, student, source, size, choice, inputs, mixed)


def refuse_graphs(student: str) -> None:
    """Tell apart what people hand over instead of a student.

    Raises:
        UserError: it is a graph, or a folder.
    """
    path = Path(student)
    if path.is_dir() and student not in shipped_students():
        raise UserError("is a folder, not a student file", where=path, fix="give the .safetensors that `train` wrote")
    if path.suffix == ".onnx" and path.exists():
        precision = read_stereo_graph(path).precision
        what = "is already quantised" if precision == "int8" else f"is an exported graph ({precision})"
        raise UserError(what, where=path, fix="give the .safetensors student that it was made from")


def make_graphs(job: Job, folder: Path) -> list[FrameRecord]:
    """Write all variants into the work folder. Returns the calibration frames as they went in."""
    form = job.config.apc_form
    fp32 = export_student(
        job.student, folder / "fp32.onnx", size=job.size, source_sha256=job.source_sha256, apc_form=form,
        extra_outputs=job.config.outputs,
    )  # fmt: skip
    model = onnx.load(fp32)
    request = ModeloptRequest(
        fp32=str(fp32),
        fp16=str(folder / "fp16.onnx"),
        int8=str(folder / "int8.onnx"),
        label_set=str(job.labels.path.resolve()),
        frames=job.choice.indices,
        size=job.size,
        method=job.config.method,
        keep_fp32=nodes_kept_fp32(model),
        keep_float=convolutions_kept_float(model),
        mixed=None if job.mixed is None else str(folder / f"{MIXED}.onnx"),
        mixed_keep_float=job.mixed or [],
    )
    records = run_modelopt(request, folder)
    for role in job.converted:
        # What Q/DQ nodes make of a graph is INT8, however many of them there are.
        precision = "int8" if role == MIXED else role
        metadata = graph_metadata(job.student, precision=precision, source_sha256=job.source_sha256, apc_form=form)
        finish_graph(folder / f"{role}.onnx", metadata=metadata, size=job.size)
    for role in ("fp32", *job.converted):
        write_in_form(folder / f"{role}.onnx", convention=job.config.io, pixels=job.config.pixels)
    return records


def compose_manifest(job: Job, folder: Path, records: list[FrameRecord]) -> dict[str, Any]:
    """The manifest of the finished graphs in the work folder."""
    chosen = job.choice.indices
    step = max(1, len(chosen) // COMPARED_FRAMES)
    differences = differences_from_fp32(
        folder, job.converted, labels=job.labels, frames=chosen[::step][:COMPARED_FRAMES], size=job.size
    )
    student = job.student.config
    frames = describe(records, job.choice, total=len(job.labels))
    return make_manifest(
        KIND,
        made_from={
            "student": job.source_sha256,
            "label set manifest": sha256_file(job.labels.path / MANIFEST_NAME),
            "label set journal": job.labels.fingerprint(),
        },
        config=job.config,
        content={
            "student": {
                "preset": student.preset,
                "max_disp": student.max_disp,
                "iterations": student.iterations,
            },
            "variants": describe_variants(folder, differences, ("fp32", *job.converted)),
            "precision": describe_precision(folder),
            "mixed": describe_mixed(job, folder),
            "calibration": {"method": job.config.method, **frames, "inputs": asdict(job.inputs)},
        },
    )


@contextmanager
def work_folder(out: Path) -> Iterator[Path]:
    """A temporary folder inside `out`, so that finished files move by renaming; nothing stays of a run that fails.

    Raises:
        UserError: `out` is a file or cannot be written, or the disk is full.
    """
    existed = out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".quantize.", dir=out)).resolve()
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError("is a file, not a folder, or lies below one", where=out, fix="choose another --out") from error
    except OSError as error:
        raise disk_error(error, out) from error
    try:
        yield folder
    except OSError as error:
        raise disk_error(error, out) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not existed and not any(out.iterdir()):
            out.rmdir()


def describe_mixed(job: Job, folder: Path) -> dict[str, Any] | None:
    """What is quantised in mixed.onnx, and by which search; None where there is none."""
    if job.mixed is None or job.config.mixed is None:
        return None
    quantised = quantised_nodes(onnx.load(folder / f"{MIXED}.onnx"))
    return {"search": sha256_file(job.config.mixed), "quantised": quantised, "kept_float": job.mixed}


def publish(folder: Path, out: Path, manifest: dict[str, Any], roles: Sequence[str]) -> None:
    """Move the finished files into place; a manifest is there only while it describes the files beside it."""
    write_json(folder / MANIFEST_NAME, manifest)  # the last thing that needs space
    (out / MANIFEST_NAME).unlink(missing_ok=True)
    for role in {*ROLES, MIXED} - set(roles):
        (out / f"{role}.onnx").unlink(missing_ok=True)  # of an earlier run
    for name in (*(f"{role}.onnx" for role in roles), RECORD_NAME, MANIFEST_NAME):
        (folder / name).replace(out / name)


def report(manifest: dict[str, Any]) -> None:
    """Say in a few lines what came out."""
    for role, variant in manifest["variants"].items():
        moved = variant["difference_from_fp32"]
        text = f"{role}: {variant['bytes'] / 1e6:.2f} MB"
        if moved:
            text += f", moves by {moved['mean_px']:.4f} px (p99 {moved['p99_px']:.3f}, max {moved['max_px']:.3f})"
        log.info("%s", text)
    precision = manifest["precision"]
    log.info("int8: %d of %d convolutions quantised", len(precision["quantised"]), precision["convolutions"])
