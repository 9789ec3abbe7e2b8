"""Pairs with truth for the confidence benchmarks, and what a teacher says of each."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from distill.scene_clip import as_pair
from distill.scenes import render_scenes
from distill.scenes_config import SceneOptions
from stereo.benchmarks import load_pairs
from stereo.pair import Disparity, StereoPair
from teacher.config import TeacherOptions
from teacher.consistency import consistency_confidence, left_right_difference
from teacher.perturbations import perturbed_disparity, stability
from teacher.protocol import Teacher
from teacher.registry import open_teacher
from teacher.trust import WEIGHTS, available_terms, combined_confidence
from teacher.trust_options import Perturbation
from teacher.trust_terms import FloatPlane

SCENE_SIZE = (384, 512)
SCENE_MAX_DISP = 96.0
PERTURBATIONS: tuple[Perturbation, ...] = ("vertical_flip", "scale")
LEFT_RIGHT, OWN, COMBINED = "left-right check alone", "teacher's own", "combined"


@dataclass(frozen=True)
class Answer:
    """What a teacher says of one pair.

    Args:
        name: of the pair.
        disparity: float32 H×W px, NaN unknown.
        truth: float32 H×W px, NaN unknown or masked out.
        terms: float32 H×W planes of trust, by name, those without extra passes.
        left_right: the left-right check alone.
        stabilities: the stability term, by the perturbations it was made of.
    """

    name: str
    disparity: Disparity
    truth: Disparity
    terms: dict[str, FloatPlane]
    left_right: FloatPlane
    stabilities: dict[str, FloatPlane]

    @property
    def error(self) -> FloatPlane:
        """px, NaN where there is no truth or no answer."""
        return np.abs(self.disparity - self.truth).astype(np.float32)

    def confidences(self) -> dict[str, FloatPlane]:
        """Every confidence that is compared: the terms alone, combined, and combined without one of them."""
        found = {LEFT_RIGHT: self.left_right, OWN: self.terms["teacher"]}
        found |= {f"{name} alone": term for name, term in self.terms.items() if name != "teacher"}
        found |= {f"stability alone ({name})": term for name, term in self.stabilities.items()}
        for left_out in (name for name in self.terms if WEIGHTS[name] > 0):
            rest = {name: term for name, term in self.terms.items() if name != left_out}
            found[f"combined without {left_out}"] = combined_confidence(rest, WEIGHTS)
        found[COMBINED] = combined_confidence(self.terms, WEIGHTS)
        for name, term in self.stabilities.items():
            found[f"{COMBINED} + {name}"] = combined_confidence({**self.terms, "stability": term}, WEIGHTS)
        return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that say which pairs and which teacher."""
    parser.add_argument("pairs", nargs="?", help="folder of pairs with truth; procedural scenes when left out")
    parser.add_argument("--scenes", type=int, default=24, help="how many procedural scenes")
    parser.add_argument("--seed", type=int, default=101, help="of the procedural scenes")
    parser.add_argument("--textures", help="folder of photographs for the procedural scenes")
    parser.add_argument("--noc", action="store_true", help="leave occluded pixels out where they are known")
    parser.add_argument("--teacher", choices=("sgbm", "onnx"), default="sgbm")
    parser.add_argument("--model")
    parser.add_argument("--max_disp", type=int)
    parser.add_argument("--threads", type=int)


def teacher_of(options: argparse.Namespace) -> Teacher:
    """The teacher that the options name."""
    return open_teacher(
        TeacherOptions(
            name=options.teacher, model=options.model, max_disp=options.max_disp, threads=options.threads
        )
    )  # fmt: skip


def pairs_of(options: argparse.Namespace) -> Iterator[StereoPair]:
    """The pairs of the folder, or procedural scenes."""
    if options.pairs:
        yield from load_pairs(options.pairs)
        return
    look = SceneOptions(
        max_disp=SCENE_MAX_DISP, supersample=2, textures=(options.textures,) if options.textures else ()
    )
    generator = torch.Generator().manual_seed(options.seed)
    for number in range(options.scenes):
        batch = render_scenes(1, SCENE_SIZE, generator=generator, options=look)
        yield as_pair(batch, 0, f"scene_{options.seed}_{number:03d}")


def answer(teacher: Teacher, pair: StereoPair, *, noc: bool, perturb: bool) -> Answer:
    """Match one pair, and once more for each perturbation."""
    assert pair.disparity is not None
    output = teacher.predict(pair)
    assert output.right is not None
    terms = {name: term() for name, term in available_terms(pair, output).items()}
    stabilities: dict[str, FloatPlane] = {}
    if perturb:
        others = {name: perturbed_disparity(teacher, pair, name) for name in PERTURBATIONS}
        stabilities = {name: stability(output.disparity, [other]) for name, other in others.items()}
        stabilities["both passes"] = stability(output.disparity, list(others.values()))
    truth = pair.disparity
    if noc and pair.noc is not None:
        truth = np.where(pair.noc, truth, np.float32(np.nan))
    check = consistency_confidence(left_right_difference(output.disparity, output.right))
    return Answer(pair.name, output.disparity, truth, terms, check, stabilities)
