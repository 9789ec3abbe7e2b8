"""The verb `curate`: let students find the labels that cannot be right.

FoundationStereo's self-curation (arXiv 2501.09898, section 4) turned on pseudo-labels: a student is trained on a set
and asked about the same frames. What a network cannot even learn by heart, because views and label contradict each
other, it still gets wrong; such frames are dropped, and the next round trains without them.

    OUT/
      round_1/student/        a training; see `distill.train`
              scores.jsonl    one line per frame, as they are judged
              removed.json    what was dropped, worst first, and why
              removed.md      the same with pictures, for a person to look at
              pictures/       left, label, student, error of each dropped frame
              labels/         the frames that are left: a manifest over the same files
      labels/                 those of the last round
      manifest.json
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.curation_config import CurateConfig
from distill.processes import require_one_process
from distill.train import train
from stereo.artifacts import make_manifest, sha256_file, write_bytes, write_json
from stereo.errors import UserError
from stereo.journal import Journal, read_journal
from stereo.label_set import LabelledFrame, LabelSet
from stereo.label_set_view import write_view
from stereo.metrics import errors_against_truth
from stereo.pair import Disparity, StereoPair
from stereo.pictures import disparity_picture, error_picture, side_by_side, stacked, write_png
from stereo.progress import progress
from student.checkpoint import load_student
from student.model import StudentStereo
from student.runner import predict_pair

SCORES_NAME = "scores.jsonl"
NO_TRUSTED_PIXEL = "no trusted pixel"

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Score:
    """What a student thinks of one frame's label, over the label's trusted pixels.

    Args:
        name: of the frame.
        bad_pct: share of pixels where the student is farther from the label than it may be; None without pixels.
        epe_px: mean distance; None without pixels.
        pixels: how many are trusted.
    """

    name: str
    bad_pct: float | None
    epe_px: float | None
    pixels: int


def curate(config: CurateConfig) -> Path:
    """Curate a set; see `CurateConfig`. Returns the folder of the curated set.

    Raises:
        UserError: a setting out of range, a set or a training that cannot be used, or a student too weak to judge.
    """
    check(config)
    current, history = config.labels, []
    for number in range(1, config.rounds + 1):
        folder = config.out / f"round_{number}"
        kept, removed = run_round(config, current, folder)
        history.append({"round": number, "judged": len(kept) + len(removed), "removed": len(removed)})
        log.info("round %d: %d of %d frames dropped", number, len(removed), len(kept) + len(removed))
        if removed:
            current = write_view(LabelSet.open(current), kept, folder / "labels", reason=reason_of(config))
        else:
            break
    final = LabelSet.open(current)
    path = write_view(final, final.names, config.out / "labels", reason=reason_of(config))
    manifest = make_manifest(
        "curation", made_from={"labels": sha256_file(config.labels / "manifest.json")}, config=config,
        content={"rounds": history},
    )  # fmt: skip
    write_json(config.out / "manifest.json", manifest)
    return path


def reason_of(config: CurateConfig) -> str:
    """Why frames are not in a curated set, for its manifest."""
    return f"a student trained on the set is > {config.bad_px:g} px off on > {config.threshold:g} % of trusted pixels"


def check(config: CurateConfig) -> None:
    """Refuse settings that cannot work, before anything is written."""
    require_one_process("curate", config.train.trainer)
    if config.rounds < 1:
        raise UserError(f"{config.rounds} is below 1", where="--rounds")
    for name, value in (("threshold", config.threshold), ("most_dropped", config.most_dropped)):
        if not 0 < value <= 100:
            raise UserError(f"{value} is not a share in percent", where=f"--{name}", fix="above 0, at most 100")
    if config.bad_px <= 0:
        raise UserError(f"{config.bad_px} is not above 0", where="--bad_px")
    if config.device not in ("auto", "cpu", "cuda"):
        raise UserError(f"unknown device '{config.device}'", where="--device", fix="auto, cpu or cuda")
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("there is no CUDA device that PyTorch can use", where="--device", fix="--device cpu")


def run_round(config: CurateConfig, labels: Path, folder: Path) -> tuple[list[str], list[Score]]:
    """Train, judge, write what is dropped. Returns the names that stay and the scores of those that go."""
    data = dataclasses.replace(config.train.data, labels=[labels])
    trained = train(dataclasses.replace(config.train, out=folder / "student", data=data))
    cuda = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    student = load_student(trained).to("cuda" if cuda else "cpu")
    opened = LabelSet.open(labels)
    scores = judge(student, opened, folder / SCORES_NAME, bad_px=config.bad_px, made_with=sha256_file(trained))
    removed = [score for score in scores if score.bad_pct is None or score.bad_pct > config.threshold]
    share = 100 * len(removed) / len(scores)
    if share > config.most_dropped:
        raise UserError(
            f"the student disagrees with {len(removed)} of {len(scores)} frames: it is too weak to judge, or the "
            "labels are worth nothing",
            where=folder, fix="--train.steps more, or look at the set with `stereodistill show`",
        )  # fmt: skip
    removed.sort(key=lambda score: -1.0 if score.bad_pct is None else -score.bad_pct)
    write_removed(student, opened, removed, folder)
    gone = {score.name for score in removed}
    return [score.name for score in scores if score.name not in gone], removed


def judge(student: StudentStereo, labels: LabelSet, path: Path, *, bad_px: float, made_with: str) -> list[Score]:
    """Scores of all frames in order; those that an earlier run wrote are taken from its file.

    Args:
        path: of the scores.
        made_with: sha256 of the student; scores of another one are thrown away.
    """
    head = {"student": made_with, "bad_px": bad_px}
    lines = read_journal(path)
    if lines and lines[0] != head:
        path.unlink()
        lines = []
    done = {line["name"]: Score(**line) for line in lines[1:]}
    with closing(Journal(path)) as journal:
        if not lines:
            journal.append(head)
        names = labels.names
        todo = [place for place, name in enumerate(names) if name not in done]
        with progress("judge", len(todo)) as ticker:
            for place in todo:
                frame = labels.read(place)
                score = score_of(predict_frame(student, frame), frame, labels.keep_threshold, bad_px=bad_px)
                journal.append(dataclasses.asdict(score))
                done[score.name] = score
                ticker.advance()
    return [done[name] for name in names]


def predict_frame(student: StudentStereo, frame: LabelledFrame) -> Disparity:
    """The student's disparity of a frame, float32 H×W px."""
    return predict_pair(student, StereoPair(frame.left, frame.right, frame.name))


def trusted_label(frame: LabelledFrame, threshold: float) -> Disparity:
    """A frame's disparity where its confidence reaches the threshold, NaN elsewhere; float32 H×W px."""
    return np.where(frame.confidence >= threshold, frame.disparity, np.float32(np.nan)).astype(np.float32)


def score_of(prediction: Disparity, frame: LabelledFrame, threshold: float, *, bad_px: float) -> Score:
    """How far a prediction is from a frame's trusted label."""
    label = trusted_label(frame, threshold)
    known = np.isfinite(label)
    if not known.any():
        return Score(frame.name, None, None, 0)
    errors = errors_against_truth(prediction, label)
    # A prediction that is not finite is bad too, so the share is of known pixels, not of compared ones.
    bad = ~(np.abs(prediction - label) <= bad_px) & known
    return Score(frame.name, round(100 * float(bad.sum() / known.sum()), 3), errors.epe_px, int(known.sum()))


def write_removed(student: StudentStereo, labels: LabelSet, removed: Sequence[Score], folder: Path) -> None:
    """List what is dropped, with a picture of each."""
    places = {name: place for place, name in enumerate(labels.names)}
    legend = "Left, label (trusted pixels), student, and their difference (blue small, red large)."
    lines = ["# Dropped frames", "", legend, ""]
    for score in removed:
        frame = labels.read(places[score.name])
        write_png(folder / "pictures" / f"{score.name}.png", removal_picture(student, frame, labels.keep_threshold))
        lines += [f"## {score.name}: {told(score)}", "", f"![{score.name}](pictures/{score.name}.png)", ""]
    write_bytes(folder / "removed.md", "\n".join(lines).encode())
    entries: list[dict[str, Any]] = [{**dataclasses.asdict(score), "reason": told(score)} for score in removed]
    write_json(folder / "removed.json", entries)


def told(score: Score) -> str:
    """Why a frame is dropped, in a few words."""
    if score.bad_pct is None:
        return NO_TRUSTED_PIXEL
    return f"{score.bad_pct:.1f} % of {score.pixels} trusted pixels disagree, {score.epe_px or 0:.2f} px on average"


def removal_picture(student: StudentStereo, frame: LabelledFrame, threshold: float) -> np.ndarray:
    """Left and label over student and error, uint8 RGB."""
    label, prediction = trusted_label(frame, threshold), predict_frame(student, frame)
    finite = frame.disparity[np.isfinite(frame.disparity)]
    top = float(np.percentile(finite, 99)) if finite.size else 1.0
    return stacked(
        side_by_side(frame.left, disparity_picture(label, top)),
        side_by_side(disparity_picture(prediction, top), error_picture(prediction, label)),
    )
