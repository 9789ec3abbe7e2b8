"""`stereodistill sensitivity`: what each part of a student costs when it is quantised, on true disparities.

    student ─ export ─ FP32 ─ PTQ of every convolution (one calibration) ─┬─ one part quantised alone      error added
                                                                          ├─ all but one part quantised    error removed
                                                                          └─ greedy search                 mixed.json

Two questions, because errors do not add up: a part that is harmless alone may push what is already off further, and one
that hurts alone may hide behind others. The search takes parts out of INT8, those whose leaving moves the map back most
per multiply-add first, until the loss is within the budget; `quantize --mixed FILE` makes that graph.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from calibration.config import SensitivityConfig
from calibration.frames import Choice, FrameRecord, choose_frames, describe
from calibration.mixed import compose_mixed
from calibration.modelopt_process import check_installed, run_modelopt
from calibration.modelopt_request import ModeloptRequest
from calibration.multiply_adds import multiply_adds
from calibration.partial import blocks_of, layers_of, quantise_only
from calibration.precision import convolutions_kept_float, nodes_kept_fp32, quantised_nodes
from calibration.quantize import refuse_graphs, work_folder
from calibration.sensitivity_pictures import bar_chart, markdown
from deploy.run_pair import run_pair
from deploy.runners.registry import open_runner
from stereo.artifacts import make_manifest, sha256_file, write_bytes, write_json
from stereo.benchmarks import load_pairs
from stereo.errors import UserError
from stereo.label_set import LabelSet
from stereo.metrics import errors_against_truth
from stereo.options import parse_size
from stereo.pair import Disparity, StereoPair
from stereo.progress import progress
from student.checkpoint import find_student, load_student
from student.export import export_student
from student.model import SIZE_MULTIPLE

KIND = "sensitivity"
NAMES = ("sensitivity.json", "mixed.json", "sensitivity.md", "sensitivity.svg")
# A pixel that moves by more than this is an outlier of the quantisation.
FAR_PX = 3.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Score:
    """Errors of a graph over all pairs.

    Args:
        epe_px, bad2_pct: means over the pairs.
        max_error_px: largest of all pixels.
        moved_px, moved_max_px: mean and largest difference from FP32, over all pixels with truth or without.
        moved_far_pct: share of pixels that move by more than 3 px.
    """

    epe_px: float
    bad2_pct: float
    max_error_px: float
    moved_px: float
    moved_max_px: float
    moved_far_pct: float


class Judge:
    """Scores graphs on the same pairs, against the truth and against FP32.

    Args:
        pairs: with true disparity.
        folder: for graphs while they are measured.
        runtime, threads: what they run in.
    """

    def __init__(self, pairs: Sequence[StereoPair], folder: Path, *, runtime: str, threads: int) -> None:
        self._pairs, self._folder, self._runtime, self._threads = pairs, folder, runtime, threads
        self._plain: list[Disparity] | None = None

    def score(self, model: onnx.ModelProto) -> Score:
        """Errors of a graph; the first one is what later ones are compared with.

        Raises:
            UserError: it gives NaN or infinity.
        """
        path = self._folder / "judged.onnx"
        onnx.save(model, path)
        runner = open_runner(path, self._runtime, threads=self._threads)
        try:
            found = [run_pair(runner, pair) for pair in self._pairs]
        finally:
            runner.close()
        for prediction, pair in zip(found, self._pairs, strict=True):
            if prediction.nonfinite_pixels:
                raise UserError(f"{prediction.nonfinite_pixels} pixels of a graph are NaN or infinite", where=pair.name,
                                fix="train the student further, or report which student this is")  # fmt: skip
        maps = [prediction.disparity for prediction in found]
        self._plain = maps if self._plain is None else self._plain
        errors = []
        for disparity, pair in zip(maps, self._pairs, strict=True):
            assert pair.disparity is not None
            errors.append(errors_against_truth(disparity, pair.disparity, mask=pair.noc))
        moved = np.concatenate([np.abs(a - b).ravel() for a, b in zip(maps, self._plain, strict=True)])
        return Score(
            epe_px=float(np.mean([error.epe_px for error in errors])),
            bad2_pct=float(np.mean([error.bad2_pct for error in errors])),
            max_error_px=float(np.max([error.max_error_px for error in errors])),
            moved_px=float(moved.mean()),
            moved_max_px=float(moved.max()),
            moved_far_pct=100.0 * float((moved > FAR_PX).mean()),
        )


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
    size = parse_size(config.size, multiple=SIZE_MULTIPLE)
    pairs = load_pairs(config.truth)
    labels = LabelSet.open(config.frames)
    path = find_student(config.student)
    student = load_student(path, max_disp=config.max_disp, iterations=config.iterations)
    choice = choose_frames(labels, config.frame_count, selection=config.selection, seed=config.seed)
    with work_folder(config.out) as folder:
        fp32 = export_student(student, folder / "fp32.onnx", size=size, source_sha256=sha256_file(path))
        original = onnx.load(fp32)
        quantised, records = quantise_everything(fp32, folder, labels, choice, size, config)
        judge = Judge(pairs, folder, runtime=config.runtime, threads=config.threads)
        content = measure(original, quantised, judge, config)
        manifest = make_manifest(
            KIND,
            made_from={
                "student": sha256_file(path),
                "label set journal": labels.fingerprint(),
                **{f"pair {pair.name}": fingerprint(pair) for pair in pairs},
            },
            config=config,
            content={
                "student": {"preset": student.config.preset, "max_disp": student.config.max_disp,
                            "iterations": student.config.iterations},
                "pairs": [pair.name for pair in pairs],
                "calibration": {"method": config.method, **describe(records, choice, total=len(labels))},
                **content,
            },
        )  # fmt: skip
        publish(folder, config.out, manifest)
    return config.out / "sensitivity.md"


def quantise_everything(
    fp32: Path, folder: Path, labels: LabelSet, choice: Choice, size: tuple[int, int], config: SensitivityConfig
) -> tuple[onnx.ModelProto, list[FrameRecord]]:
    """The graph with Q/DQ around every convolution that modelopt takes, float32 for the rest, and its frames.

    Raises:
        UserError: it takes none.
    """
    request = ModeloptRequest(
        fp32=str(fp32), int8=str(folder / "everything.onnx"), fp16=None, label_set=str(labels.path.resolve()),
        frames=choice.indices, size=size, method=config.method, keep_fp32=nodes_kept_fp32(onnx.load(fp32)),
        keep_float=[],
    )  # fmt: skip
    records = run_modelopt(request, folder)
    quantised = onnx.load(folder / "everything.onnx")
    if not quantised_nodes(quantised):
        raise UserError("no convolution of this student could be quantised", where=config.student,
                        fix="modelopt wants convolutions of 16 channels and more; choose a larger preset")  # fmt: skip
    # Converted graphs lose the metadata that runners look for.
    del quantised.metadata_props[:]
    quantised.metadata_props.extend(onnx.load(fp32).metadata_props)
    return quantised, records


def measure(
    original: onnx.ModelProto, quantised: onnx.ModelProto, judge: Judge, config: SensitivityConfig
) -> dict[str, Any]:
    """Ask for every part, then search; the content of sensitivity.json."""
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
    steps = search(measured, original, quantised, judge, config, fp32=fp32, everything=everything)
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
    config: SensitivityConfig, *, fp32: Score, everything: Score,
) -> list[dict[str, Any]]:  # fmt: skip
    """Take parts out of INT8, the most movement removed per multiply-add first, until the budget is met.

    The order goes by how far the map moves: unlike the errors, that cannot fall by chance when an error happens to
    point towards the truth.

    Returns: the steps from everything quantised on; the last one is the result.
    """
    names = quantised_nodes(quantised)
    order = sorted(parts, key=lambda part: -(everything.moved_px - part.without.moved_px) / part.multiply_adds)
    left_out: list[str] = []
    score = everything
    steps = [step(left_out, names, None, score)]
    for part in order:
        if within(score, fp32, config):
            break
        left_out += part.convolutions
        score = judge.score(quantise_only(quantised, original, [name for name in names if name not in set(left_out)]))
        steps.append(step(left_out, names, part.name, score))
    return steps


def step(left_out: Collection[str], names: Sequence[str], taken: str | None, score: Score) -> dict[str, Any]:
    """One line of the search."""
    quantised = [name for name in names if name not in set(left_out)]
    return {"taken_out": taken, "quantised": quantised, "keep_float": list(left_out), **asdict(score)}


def fingerprint(pair: StereoPair) -> str:
    """sha256 of a pair's images, truth and mask."""
    digest = hashlib.sha256()
    for array in (pair.left, pair.right, pair.disparity, pair.noc):
        if array is not None:
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


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
