"""Whether a teacher's confidence finds its errors: what is kept at a threshold, and how wrong that is.

    python benchmarks/teacher_confidence.py PAIRS [--teacher sgbm|onnx] [--model FILE.onnx] [--threshold 0.5]

PAIRS is a folder of pairs with truth (docs/formats.md). For each pair: the share of pixels with truth that the teacher
answers and the share of those that are wrong by more than 2 px; then the same for the pixels whose confidence reaches
the threshold. Occluded pixels are left out where the pair has a mask.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from stereo.benchmarks import load_pairs
from stereo.metrics import DisparityErrors, errors_against_truth
from stereo.pair import StereoPair
from teacher.config import TeacherOptions
from teacher.protocol import Teacher
from teacher.registry import open_teacher


@dataclass(frozen=True)
class Row:
    """One pair's numbers, in %, and EPE in px."""

    name: str
    answered: float
    wrong: float
    epe_px: float
    kept: float
    kept_wrong: float
    kept_epe_px: float


def wrong_of_answered_pct(errors: DisparityErrors) -> float:
    """bad-2 among the pixels that have an answer; bad2_pct counts missing ones too."""
    return 100 * (errors.bad2_pct - (100 - errors.coverage_pct)) / max(errors.coverage_pct, 1e-9)


def measure(teacher: Teacher, pair: StereoPair, threshold: float) -> Row:
    """Compare one pair's answer with the truth, all of it and the confident part."""
    assert pair.disparity is not None
    output = teacher.predict(pair)
    kept = np.where(output.confidence >= threshold, output.disparity, np.float32(np.nan))
    every, sure = (
        errors_against_truth(disparity, pair.disparity, mask=pair.noc) for disparity in (output.disparity, kept)
    )
    return Row(
        pair.name,
        every.coverage_pct, wrong_of_answered_pct(every), every.epe_px or 0.0,
        sure.coverage_pct, wrong_of_answered_pct(sure), sure.epe_px or 0.0,
    )  # fmt: skip


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs")
    parser.add_argument("--teacher", choices=("sgbm", "onnx"), default="sgbm")
    parser.add_argument("--model")
    parser.add_argument("--max_disp", type=int)
    parser.add_argument("--threshold", type=float, default=0.5)
    options = parser.parse_args()
    teacher = open_teacher(TeacherOptions(name=options.teacher, model=options.model, max_disp=options.max_disp))
    print("| pair | answered % | wrong % | EPE px | kept % | wrong of kept % | EPE of kept px |")
    print("|---|---|---|---|---|---|---|")
    for pair in load_pairs(options.pairs):
        row = measure(teacher, pair, options.threshold)
        print(f"| {row.name} | {row.answered:.1f} | {row.wrong:.2f} | {row.epe_px:.2f} "
              f"| {row.kept:.1f} | {row.kept_wrong:.2f} | {row.kept_epe_px:.2f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
