"""Search the weights of the combined confidence on procedural scenes.

    python benchmarks/trust_weights.py [--model HITNET.onnx] [--scenes 24 --seed 101 --textures DIR]

The score of a choice is its mean AUSE by that of chance, of bad-2 and of the error alike, over all scenes and teachers
(sgbm, and the network of --model), on 8000 random answered pixels of each. Only the ratios of the weights matter to it;
coordinates are searched one after another until none improves. The exponents' common factor is then a matter of what
the threshold 0.5 keeps: the last table shows that for several factors, beside the teacher's own confidence.
"""

from __future__ import annotations

import argparse
import dataclasses

import numpy as np
import numpy.typing as npt
from confidence_pairs import Answer, add_arguments, answer, pairs_of, teacher_of

from stereo.sparsification import sparsification
from teacher.trust import WEIGHTS

Floats = npt.NDArray[np.float64]
PIXELS = 8000
GRID = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
WORTH_IT = 5e-4
FACTORS = (0.25, 0.5, 1.0, 2.0)
# Every term but the teacher's own, whose weight fixes the scale during the search.
SEARCHED = ("agreement", "visible", "photometric", "stability")


@dataclasses.dataclass(frozen=True)
class Sample:
    """Random answered pixels of one scene.

    Args:
        teacher: who answered.
        error: px.
        costs: -log of each term, by name.
    """

    teacher: str
    error: Floats
    costs: dict[str, Floats]

    def confidence(self, weights: dict[str, float]) -> Floats:
        """Product of powers."""
        total = np.zeros_like(self.error)
        for name, weight in weights.items():
            if weight > 0 and name in self.costs:
                total += weight * self.costs[name]
        return np.exp(-total)


def sample(teacher: str, given: Answer, rng: np.random.Generator) -> Sample:
    """Pixels of one answer."""
    error = given.error.ravel()
    known = np.flatnonzero(np.isfinite(error))
    chosen = rng.choice(known, min(PIXELS, len(known)), replace=False)
    terms = {**given.terms, "stability": given.stabilities["both passes"]}
    # The floor keeps ranks among vetoed pixels where another term differs.
    costs = {name: -np.log(np.maximum(term.ravel()[chosen], 1e-4).astype(np.float64)) for name, term in terms.items()}
    return Sample(teacher, error[chosen].astype(np.float64), costs)


def score(samples: list[Sample], weights: dict[str, float]) -> float:
    """Mean AUSE by chance's, of bad-2 and of the error; 0 is perfect, 1 is chance."""
    found = []
    for one in samples:
        confidence = one.confidence(weights)
        for error in ((one.error > 2).astype(np.float64), one.error):
            curves = sparsification(error, confidence, steps=50)
            found.append(curves.ause / max(curves.ause_by_chance, 1e-9))
    return float(np.mean(found))


def search(samples: list[Sample], weights: dict[str, float], names: tuple[str, ...]) -> dict[str, float]:
    """Coordinate descent over the grid."""
    best, best_score = dict(weights), score(samples, weights)
    improved = True
    while improved:
        improved = False
        for name in names:
            for weight in GRID:
                tried = {**best, name: weight}
                if (value := score(samples, tried)) < best_score - WORTH_IT:
                    best, best_score, improved = tried, value, True
    return best


def line(name: str, samples: list[Sample], weights: dict[str, float]) -> str:
    """Scores of one choice: over all, and by teacher."""
    teachers = sorted({one.teacher for one in samples})
    parts = [score(samples, weights)] + [score([s for s in samples if s.teacher == t], weights) for t in teachers]
    shown = ", ".join(f"{term} {weight:g}" for term, weight in weights.items() if weight > 0)
    return f"| {name} | {shown} | {' | '.join(f'{part:.3f}' for part in parts)} |"


def kept_lines(samples: list[Sample]) -> None:
    """What the threshold 0.5 keeps and how wrong that is, for several common factors of the weights."""
    plain = {name: weight for name, weight in WEIGHTS.items() if name != "stability"}
    choices = {"teacher's own": {"teacher": 1.0}}
    choices |= {f"weights × {factor:g}": {k: v * factor for k, v in plain.items()} for factor in FACTORS}
    print("\n| teacher | confidence | kept of answered % | wrong of kept % |\n|---|---|---|---|")
    for teacher in sorted({one.teacher for one in samples}):
        of_teacher = [one for one in samples if one.teacher == teacher]
        for name, weights in choices.items():
            kept = [one.error[one.confidence(weights) >= 0.5] for one in of_teacher]
            share = np.mean([len(k) / len(one.error) for k, one in zip(kept, of_teacher, strict=True)])
            wrong = np.mean([(k > 2).mean() for k in kept if len(k)])
            print(f"| {teacher} | {name} | {100 * share:.1f} | {100 * wrong:.2f} |")


def main() -> None:
    """Print two Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    samples = []
    for name in ("sgbm", "onnx") if options.model else ("sgbm",):
        network = {} if name == "onnx" else {"model": None, "threads": None}
        teacher = teacher_of(argparse.Namespace(**{**vars(options), "teacher": name, **network}))
        for pair in pairs_of(options):
            samples.append(sample(name, answer(teacher, pair, noc=False, perturb=True), rng))
    teachers = sorted({one.teacher for one in samples})
    print(f"| choice | weights | all | {' | '.join(teachers)} |\n|---|---|---|{'---|' * len(teachers)}")
    start = {"teacher": 1.0}
    found = search(samples, start, SEARCHED[:3])
    perturbed = search(samples, found, SEARCHED)
    plain = {name: weight for name, weight in WEIGHTS.items() if name != "stability"}
    choices = {"teacher's own": start, "searched": found, "searched, perturbed": perturbed,
               "ours": plain, "ours, perturbed": dict(WEIGHTS)}  # fmt: skip
    for name, weights in choices.items():
        print(line(name, samples, weights), flush=True)
    kept_lines(samples)


if __name__ == "__main__":
    main()
