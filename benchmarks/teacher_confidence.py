"""Whether a teacher's confidence finds its errors: sparsification, AUSE, and what is kept at a threshold.

    python benchmarks/teacher_confidence.py [PAIRS] [--teacher sgbm|onnx] [--model FILE.onnx] [--threshold 0.5]
        [--noc] [--perturb] [--picture FILE.png] [--scenes 24 --seed 101 --textures DIR]

PAIRS is a folder of pairs with truth (docs/formats.md); without it procedural scenes are rendered. The first table has
one line per pair: pixels with truth that the teacher answers, those wrong by more than 2 px among them, then the same
for the pixels whose confidence reaches the threshold, by the teacher's own confidence and by the combined one. The
second has one line per confidence, means over the pairs; AUSE is the area between its sparsification curve and the
oracle's (`stereo.sparsification`), over answered pixels: of bad-2 in percentage points, of the error in px. --picture
draws the mean curves of bad-2. --perturb matches the left view three times instead of once.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from confidence_pairs import COMBINED, LEFT_RIGHT, OWN, Answer, add_arguments, answer, pairs_of, teacher_of
from curve_picture import draw_curves

from stereo.metrics import DisparityErrors, errors_against_truth
from stereo.pictures import write_png
from stereo.sparsification import Sparsification, sparsification
from teacher.trust_terms import FloatPlane

BEST_SHARE = 0.75


@dataclass(frozen=True)
class Worth:
    """What one confidence is worth on one pair; see the module's text."""

    ause_bad2: float
    ause_epe: float
    kept: float
    kept_wrong: float
    kept_epe: float
    best_wrong: float


def wrong_of_answered_pct(errors: DisparityErrors) -> float:
    """bad-2 among the pixels that have an answer; bad2_pct counts missing ones too."""
    return 100 * (errors.bad2_pct - (100 - errors.coverage_pct)) / max(errors.coverage_pct, 1e-9)


def kept_errors(given: Answer, confidence: FloatPlane, threshold: float) -> DisparityErrors:
    """Errors of the pixels that reach the threshold."""
    kept = np.where(confidence >= threshold, given.disparity, np.float32(np.nan))
    return errors_against_truth(kept, given.truth)


def worth(given: Answer, confidence: FloatPlane, threshold: float) -> tuple[Worth, Sparsification]:
    """Numbers of one confidence, and the curves of bad-2."""
    error = given.error
    bad2 = np.where(np.isfinite(error), 100.0 * (error > 2), np.nan)
    of_bad2, of_epe = sparsification(bad2, confidence), sparsification(error, confidence)
    sure = kept_errors(given, confidence, threshold)
    best = float(np.interp(BEST_SHARE, of_bad2.kept, of_bad2.by_confidence))
    return (
        Worth(of_bad2.ause, of_epe.ause, sure.coverage_pct, wrong_of_answered_pct(sure), sure.epe_px or 0.0, best),
        of_bad2,
    )


def pair_line(given: Answer, confidences: Iterable[FloatPlane], threshold: float) -> str:
    """One line of the first table."""
    answered = errors_against_truth(given.disparity, given.truth)
    cells = [given.name]
    for errors in (answered, *(kept_errors(given, confidence, threshold) for confidence in confidences)):
        cells += [
            f"{errors.coverage_pct:.1f}", f"{wrong_of_answered_pct(errors):.2f}", f"{errors.epe_px or 0.0:.2f}",
        ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def print_worths(worths: dict[str, list[Worth]], chance: tuple[float, float]) -> None:
    """The second table, means over the pairs, and on how many of them AUSE is below that of the teacher's own."""
    print(f"\nmeans of {len(worths[OWN])} pairs; a confidence without meaning has AUSE {chance[0]:.2f} pp and "
          f"{chance[1]:.3f} px\n")  # fmt: skip
    print("| confidence | AUSE bad-2 pp | AUSE EPE px | kept % | wrong of kept % | EPE of kept px "
          f"| wrong of best {100 * BEST_SHARE:.0f} % | AUSE bad-2, EPE below teacher's own |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    for name, each in worths.items():
        bad2, epe, kept, wrong, kept_epe, best = np.mean([astuple(one) for one in each], axis=0)
        wins = [
            sum(getattr(one, field) < getattr(own, field) for one, own in zip(each, worths[OWN], strict=True))
            for field in ("ause_bad2", "ause_epe")
        ]
        print(f"| {name} | {bad2:.3f} | {epe:.3f} | {kept:.1f} | {wrong:.2f} | {kept_epe:.3f} | {best:.2f} "
              f"| {wins[0]}, {wins[1]} of {len(each)} |")  # fmt: skip


def main() -> None:
    """Print two Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--perturb", action="store_true")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    teacher = teacher_of(options)
    worths: dict[str, list[Worth]] = defaultdict(list)
    curves: dict[str, list[Sparsification]] = defaultdict(list)
    chances: list[tuple[float, float]] = []
    columns = "answered % | wrong % | EPE px | own: kept % | wrong % | EPE px | combined: kept % | wrong % | EPE px"
    print(f"| pair | {columns} |\n|---|---|---|---|---|---|---|---|---|---|")
    for pair in pairs_of(options):
        given = answer(teacher, pair, noc=options.noc, perturb=options.perturb)
        confidences = given.confidences()
        for name, confidence in confidences.items():
            value, curve = worth(given, confidence, options.threshold)
            worths[name].append(value)
            curves[name].append(curve)
        chances.append((curves[OWN][-1].ause_by_chance, sparsification(given.error, given.left_right).ause_by_chance))
        print(pair_line(given, (confidences[OWN], confidences[COMBINED]), options.threshold), flush=True)
    chance = np.mean(chances, axis=0)
    print_worths(worths, (float(chance[0]), float(chance[1])))
    if options.picture:
        drawn = [name for name in (LEFT_RIGHT, OWN, COMBINED, f"{COMBINED} + both passes") if name in curves]
        write_png(options.picture, draw_curves({name: curves[name] for name in drawn}, title=teacher.name))
        print(f"\n{options.picture}")


if __name__ == "__main__":
    main()
