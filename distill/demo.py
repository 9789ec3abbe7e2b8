"""`stereodistill demo`: the whole chain, from unlabeled stereo video to the report, on any machine.

    OUT/clip/         the footage: a rendered drive, unless --video names footage of your own
        truth/        pairs with true disparity that the students are scored on, unless --truth names yours
        labels/       what the teacher says of the footage
        student/      the student trained on it
        PRESET/       fp32.onnx, fp16.onnx, int8.onnx; the name of the folder is the name in the report
        results.json  accuracy and latency of each variant as it runs, teacher and SGBM beside them
        report.html   the report, with report.md and results.csv

A demo that was stopped continues where it was.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2

from calibration.quantize import quantize_student
from deploy.config import EvaluateConfig, ProfileConfig, ReportConfig
from deploy.device import precision_hints
from deploy.evaluate import evaluate, evaluate_runner
from deploy.measure import Timing
from deploy.models import shipped_students
from deploy.profile import profile, profile_runner
from deploy.report.report import write_report
from deploy.result_pictures import PictureFolder
from deploy.results import ModelFacts, update_results
from deploy.runners.protocol import NativeMethod
from deploy.textured_pair import textured_pair
from distill.config import DataOptions, DemoConfig, TrainConfig
from distill.scene_clip import write_clip
from distill.train import train
from stereo.artifacts import MANIFEST_NAME, read_json, sha256_file, write_json
from stereo.benchmarks import TRUTH_NAME, load_pairs, motorcycle_pair, write_pair
from stereo.errors import UserError
from stereo.label_set import LabelSet
from stereo.options import parse_size
from student.model import SIZE_MULTIPLE
from teacher.config import LabelConfig, TeacherOptions
from teacher.labelling import label
from teacher.protocol import Teacher
from teacher.registry import TEACHERS, open_teacher

log = logging.getLogger(__name__)
RECORD_NAME = "demo.json"
# Every how many frames of the rendered clip the truth is kept for scoring.
TRUTH_EVERY = 6
# Trained weights are adapted with a fifth of the rate that fresh ones learn with: few steps must not undo many.
CONTINUED_LEARNING_RATE = 2e-4


def demo(config: DemoConfig) -> Path:
    """The verb `demo`. Returns the path of report.html.

    Raises:
        UserError: what any link of the chain raises; what was finished before is kept.
    """
    size = parse_size(config.size, multiple=SIZE_MULTIPLE)
    out = config.out
    open_teacher(config.teacher)  # refuse a wrong teacher or truth before anything is made
    if config.truth:
        load_pairs(config.truth)
    check_record(config)
    footage = Path(config.video) if config.video else stage("footage", lambda: render_footage(out, config, size))
    truth = [config.truth] if config.truth else stage("truth", lambda: gather_truth(out, config))
    labels = stage("label", lambda: label(LabelConfig(str(footage), out=str(out / "labels"), teacher=config.teacher)))
    student = stage("train", lambda: train(training(config, labels)))
    graphs = stage("quantize", lambda: quantize_once(student, labels, size, out / config.preset, config))
    results = out / "results.json"
    stage("evaluate", lambda: evaluate_all(graphs, student, truth, results, config))
    stage("profile", lambda: profile_all(graphs, results, config, size))
    title = f"From stereo video to a deployable student: {footage.name}"
    config_of_report = ReportConfig([str(results)], out=str(out / "report.html"), title=title)
    return stage("report", lambda: write_report(config_of_report)[0])


def stage(name: str, work: Callable[[], Any]) -> Any:
    """Run one link of the chain and say how long it took."""
    log.info("── %s", name)
    began = time.monotonic()
    made = work()
    log.info("   %s: %.0f s", name, time.monotonic() - began)
    return made


def check_record(config: DemoConfig) -> None:
    """Refuse to continue a demo that was started with other settings.

    Raises:
        UserError: the folder holds one.
    """
    path = config.out / RECORD_NAME
    settings = {key: str(value) for key, value in dataclasses.asdict(config).items() if key not in ("out", "threads")}
    if path.exists():
        old = read_json(path, what="demo record")
        changed = [f"{key} was {old.get(key)}, now {value}" for key, value in settings.items() if old.get(key) != value]
        if changed:
            raise UserError(f"holds a demo with other settings: {'; '.join(changed)}", where=config.out,
                            fix="give another --out, or delete the folder")  # fmt: skip
    write_json(path, settings)


def render_footage(out: Path, config: DemoConfig, size: tuple[int, int]) -> Path:
    """The rendered clip, made once."""
    folder = out / "clip"
    if not (folder / MANIFEST_NAME).exists():  # it is written last
        write_clip(folder, config.frames, size, seed=config.seed, truth_every=TRUTH_EVERY)
    return folder


def gather_truth(out: Path, config: DemoConfig) -> list[Path]:
    """Folders of pairs with truth: the clip's where it was rendered, and a real one from Middlebury."""
    real = out / "truth" / "middlebury"
    if not (real / "motorcycle" / TRUTH_NAME).exists():
        write_pair(real / "motorcycle", motorcycle_pair())
    return [real] if config.video else [real, out / "clip" / "truth"]


def training(config: DemoConfig, labels: Path) -> TrainConfig:
    """Settings of the demo's short training: half footage, half procedural scenes."""
    data = DataOptions(labels=[labels], scene_share=0.5, batch_size=4, crop="192x384")
    settings = TrainConfig(
        out=config.out / "student", preset=config.preset, steps=config.steps, seed=config.seed, data=data,
        validate_every=0, checkpoint_every=50, init=start_of(config),
    )  # fmt: skip
    if settings.init is not None:
        settings.optimiser.learning_rate = CONTINUED_LEARNING_RATE
    return settings


def start_of(config: DemoConfig) -> str | None:
    """What the training starts from: a shipped name, a file, or None for fresh weights; said in the log."""
    if config.init == "fresh" or (config.init == "auto" and config.preset not in shipped_students()):
        log.info("the student starts from fresh weights")
        return None
    start = config.preset if config.init == "auto" else config.init
    log.info("the student starts from %s", start)
    return start


def quantize_once(student: Path, labels: Path, size: tuple[int, int], graphs: Path, config: DemoConfig) -> Path:
    """The graphs of this student, made once."""
    manifest = graphs / "manifest.json"
    if manifest.exists() and sha256_file(student) in manifest.read_text():
        return graphs
    return quantize_student(
        student, LabelSet.open(labels), size=size, out=graphs, frame_count=config.calibration_frames, seed=config.seed
    )


def evaluate_all(graphs: Path, student: Path, truth: list[Path], results: Path, config: DemoConfig) -> None:
    """Each variant under each runtime, the student in PyTorch, and the reference methods, on all truth."""
    hints = ",".join(precision_hints())
    for folder in truth:
        dataset = "clip" if folder.parent.name == "clip" else folder.name
        common: dict[str, Any] = {
            "data": str(folder), "out": str(results), "dataset": dataset, "threads": config.threads
        }  # fmt: skip
        evaluate(EvaluateConfig([str(graphs)], runtime="openvino,onnxruntime", precision_hints=hints, **common))
        evaluate(EvaluateConfig([str(student)], runtime="torch", pictures=False, **common))
        pairs = load_pairs(folder)
        for method, model in references(config):
            row = evaluate_runner(method, pairs, model=model, dataset=dataset, pictures=PictureFolder(results, dataset))
            update_results(results, [row])


def profile_all(graphs: Path, results: Path, config: DemoConfig, size: tuple[int, int]) -> None:
    """Latency and memory of each variant, and latency of the reference methods at the same size."""
    profile(profiling(graphs, results, config))
    pair = textured_pair(*size)
    for method, model in references(config):
        row = profile_runner(method, pair, model=model, timing=Timing(runs=5, seconds=30.0, warmup=1))
        update_results(results, [row])


def references(config: DemoConfig) -> list[tuple[NativeMethod, ModelFacts]]:
    """The teacher, and SGBM where it is not the teacher: what the students are measured against."""
    cv2.setNumThreads(config.threads)  # OpenCV's own default is all cores, which would not compare
    takes_threads = "threads" in TEACHERS[config.teacher.name].takes
    options = dataclasses.replace(config.teacher, threads=config.threads) if takes_threads else config.teacher
    everyone = [open_teacher(options)]
    if options.name != "sgbm":
        everyone.append(open_teacher(TeacherOptions(name="sgbm")))
    return [as_method(teacher, threads=config.threads) for teacher in everyone]


def as_method(teacher: Teacher, *, threads: int) -> tuple[NativeMethod, ModelFacts]:
    """A teacher, its left-right check included, in the form that deploy measures."""
    facts = teacher.describe()
    runtime, version = ("opencv", facts["opencv"]) if teacher.name == "sgbm" else facts["runtime"].split()[:2]
    method = NativeMethod(lambda pair: teacher.predict(pair).disparity, runtime, version, "f32", threads)
    name = "SGBM" if teacher.name == "sgbm" else f"teacher {facts['network']}"
    model = ModelFacts(name, sha256=facts["weights_sha256"], max_disp=teacher.max_disp, role="reference")
    return method, model


def profiling(graphs: Path, results: Path, config: DemoConfig) -> ProfileConfig:
    """Settings of the demo's latency measurement."""
    return ProfileConfig(
        [str(graphs)], out=str(results), runtime="openvino,onnxruntime", precision_hints=",".join(precision_hints()),
        threads=config.threads, runs=30, seconds=60.0,
    )  # fmt: skip
