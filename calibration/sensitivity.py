"""`stereodistill sensitivity`: what each part of a student costs when it is quantised, on true disparities.

    student ─ export ─ FP32 ─ PTQ of every convolution (one calibration) ─┬─ one part quantised alone      error added
                                                                          ├─ all but one part quantised    error removed
                                                                          └─ greedy search                 mixed.json

Two questions, because errors do not add up: a part that is harmless alone may push what is already off further, and one
that hurts alone may hide behind others. The search takes parts out of INT8, those whose leaving moves the map back most
per multiply-add first, until the loss is within the budget; `quantize --mixed FILE` makes that graph. A study that is
stopped goes on with the scores that it has; the calibration is made again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from calibration.config import SensitivityConfig
from calibration.frames import choose_frames, describe
from calibration.integer_graph import integer_graph
from calibration.judge import Judge, Score
from calibration.latency_budget import LatencyShare, check_budget, latency_share, within_budget
from calibration.mixed import compose_mixed
from calibration.modelopt_process import check_installed
from calibration.partial import blocks_of, layers_of, quantise_only
from calibration.precision import convolutions_kept_float, quantised_nodes
from calibration.quantize import refuse_graphs, work_folder
from calibration.sensitivity_pictures import bar_chart, markdown
from deploy.multiply_adds import multiply_adds
from stereo.artifacts import make_manifest, sha256_bytes, sha256_file, write_bytes, write_json
from stereo.errors import UserError
from stereo.label_set import LabelSet
from stereo.options import parse_size
from stereo.progress import progress
from stereo.truth_set import PairFiles, open_truth_set
from student.checkpoint import find_student, load_student
from student.export import export_student
from student.model import SIZE_MULTIPLE

KIND = "sensitivity"
NAMES = ("sensitivity.json", "mixed.json", "sensitivity.md", "sensitivity.svg")
# Scores of a study that is not finished.
KEPT_NAME = "scores.part.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """A block or a layer, and what quantising it does.

    Args:
        name: of it.
        convolutions: node names.
        multiply_adds: for one pair.
        kept_by_table: how many of its convolutions `calibration.precision` keeps from being quantised.
        alone: it alone is quantised.
        without: all the others are.
    """

    name: str
    convolutions: list[str]
    multiply_adds: int
    kept_by_table: int
    alone: Score
    without: Score


def sensitivity(config: SensitivityConfig) -> Path:
    """The verb `sensitivity`. Returns the table, `out`/sensitivity.md.

    Raises:
        UserError: not a student, no usable frames or pairs, nothing that can be quantised.
    """
    check_installed("sensitivity")
    refuse_graphs(config.student)
    for option in ("epe_budget_px", "bad2_budget_points"):
        if not 0 <= getattr(config, option) < math.inf:
            raise UserError(f"{getattr(config, option)} is no budget", where=f"--{option}", fix="0 or more")
    check_budget(config)
    size = parse_size(config.size, multiple=SIZE_MULTIPLE)
    truth = open_truth_set(config.truth, images=config.images)
    labels = LabelSet.open(config.frames)
    path = find_student(config.student)
    student = load_student(path, max_disp=config.max_disp, iterations=config.iterations)
    made_from = {
        "student": sha256_file(path),
        "label set journal": labels.fingerprint(),
        **{f"pair {files.name}": content_sha256(files) for files in truth.files},
    }
    kept = config.out / KEPT_NAME
    with work_folder(config.out) as folder:
        choice = choose_frames(labels, config.frame_count, selection=config.selection, seed=config.seed)
        fp32 = export_student(student, folder / "fp32.onnx", size=size, source_sha256=made_from["student"])
        quantised, records = integer_graph(
            fp32, folder, labels=labels, frames=choice.indices, size=size, method=config.method, keep_float=[]
        )
        if not quantised_nodes(quantised):
            raise UserError("no convolution of this student could be quantised", where=config.student,
                            fix="modelopt wants 16 channels and more; choose a larger preset")  # fmt: skip
        judge = Judge(
            list(truth), folder, runtime=config.runtime, threads=config.threads, kept=kept, identity=str(made_from)
        )
        manifest = make_manifest(
            KIND,
            made_from=made_from,
            config=config,
            content={
                "student": {"preset": student.config.preset, "max_disp": student.config.max_disp,
                            "iterations": student.config.iterations},
                "pairs": [files.name for files in truth.files],
                "calibration": {"method": config.method, **describe(records, choice, total=len(labels))},
                **measure(onnx.load(fp32), quantised, judge, config, folder),
            },
        )  # fmt: skip
        publish(folder, config.out, manifest)
    kept.unlink()
    return config.out / "sensitivity.md"


def measure(
    original: onnx.ModelProto, quantised: onnx.ModelProto, judge: Judge, config: SensitivityConfig, folder: Path
) -> dict[str, Any]:
    """Ask for every part, then search; the content of sensitivity.json. `folder` is for graphs that are timed."""
    names = quantised_nodes(quantised)
    weights = multiply_adds(original)
    kept = set(convolutions_kept_float(original))
    parts = layers_of(names) if config.layers else blocks_of(names)
    fp32, everything = judge.score(original), judge.score(quantised)
    default = judge.score(quantise_only(quantised, original, [name for name in names if name not in kept]))
    measured = []
    with progress("measuring", len(parts), unit="parts") as ticker:
        for part, own in parts.items():
            others = [name for name in names if name not in own]
            measured.append(
                Part(
                    part, own, sum(weights[name] for name in own), len(kept & set(own)),
                    alone=judge.score(quantise_only(quantised, original, own)),
                    without=judge.score(quantise_only(quantised, original, others)),
                )
            )  # fmt: skip
            ticker.advance(note=part)
    with latency_share(config, original, folder) as latency:
        steps = search(measured, original, quantised, judge, config, fp32=fp32, everything=everything, latency=latency)
    tell_missed(steps[-1], fp32, config)
    if not steps[-1]["quantised"]:
        log.warning(
            "no part may stay in INT8 if no more than %g px EPE and %g points bad-2 are to be lost: no mixed.json",
            config.epe_budget_px, config.bad2_budget_points,
        )  # fmt: skip
    return {
        "fp32": asdict(fp32),
        "everything": asdict(everything),
        "default": asdict(default),
        "by": "layer" if config.layers else "block",
        "parts": [asdict(part) for part in measured],
        "multiply_adds": {"quantisable": sum(weights[name] for name in names), "all": sum(weights.values())},
        "search": steps,
    }


def within(score: Score, fp32: Score, config: SensitivityConfig) -> bool:
    """Whether a graph loses no more than the budget allows."""
    return (
        score.epe_px - fp32.epe_px <= config.epe_budget_px
        and score.bad2_pct - fp32.bad2_pct <= config.bad2_budget_points
    )


def search(
    parts: Sequence[Part], original: onnx.ModelProto, quantised: onnx.ModelProto, judge: Judge,
    config: SensitivityConfig, *, fp32: Score, everything: Score, latency: LatencyShare | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Take parts out of INT8, the most movement removed per multiply-add first, until the budget of errors is met.

    The order goes by how far the map moves: unlike the errors, that cannot fall by chance when an error happens to
    point towards the truth. A part whose leaving would exceed the budget of latency stays, and the next one is tried.

    Returns: the steps from everything quantised on; the last one is the result.
    """
    names = quantised_nodes(quantised)
    order = sorted(parts, key=lambda part: -(everything.moved_px - part.without.moved_px) / part.multiply_adds)
    left_out: list[str] = []
    score = everything
    steps = [step(left_out, names, None, score, latency and latency(quantised))]
    for part in order:
        if within(score, fp32, config):
            break
        candidate = {*left_out, *part.convolutions}
        graph = quantise_only(quantised, original, [name for name in names if name not in candidate])
        share = latency and latency(graph)
        if not within_budget(share, config.latency_budget):
            continue
        left_out += part.convolutions
        score = judge.score(graph)
        steps.append(step(left_out, names, part.name, score, share))
    return steps


def tell_missed(last: Mapping[str, Any], fp32: Score, config: SensitivityConfig) -> None:
    """Warn where the search could not keep every budget."""
    share = last["latency_share"]
    if not within_budget(share, config.latency_budget):
        log.warning("INT8 everywhere takes %.2f of FP32's latency (%s), more than the budget of %g: nothing was taken "
                    "out", share, config.latency_on, config.latency_budget)  # fmt: skip
    lost_px, lost_points = last["epe_px"] - fp32.epe_px, last["bad2_pct"] - fp32.bad2_pct
    if lost_px > config.epe_budget_px or lost_points > config.bad2_budget_points:
        log.warning("the mixed graph loses %.3f px EPE and %.2f points bad-2, more than allowed: no more fits into the "
                    "budget of latency", lost_px, lost_points)  # fmt: skip


def step(
    left_out: Collection[str], names: Sequence[str], taken: str | None, score: Score, share: float | None
) -> dict[str, Any]:
    """One line of the search; latency_share is None where nobody asked."""
    quantised = [name for name in names if name not in set(left_out)]
    return {"taken_out": taken, "quantised": quantised, "keep_float": list(left_out),
            "latency_share": share, **asdict(score)}  # fmt: skip


def content_sha256(files: PairFiles) -> str:
    """Of the images, the truth and the mask of a pair."""
    paths = (files.left, files.right, files.truth, files.noc)
    return sha256_bytes(" ".join(sha256_file(path) for path in paths if path is not None).encode())


def publish(folder: Path, out: Path, manifest: Mapping[str, Any]) -> None:
    """Write and move the files into place; sensitivity.json is there only while it describes the files beside it."""
    last = manifest["search"][-1]
    write_bytes(folder / "sensitivity.md", markdown(manifest).encode())
    write_bytes(folder / "sensitivity.svg", bar_chart(manifest).encode())
    if last["quantised"]:
        write_json(folder / "mixed.json", compose_mixed(manifest, last["keep_float"]))
    write_json(folder / "sensitivity.json", manifest)
    for name in NAMES:
        (out / name).unlink(missing_ok=True)
    for name in NAMES:
        if (folder / name).exists():
            (folder / name).replace(out / name)
