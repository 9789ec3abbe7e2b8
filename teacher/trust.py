"""How far a teacher's answer is trusted: terms seen in one frame, combined into a confidence, and a verdict.

    images, disparity ─ terms of 0 to 1 ─ product of their powers ─ confidence ─ share above the threshold ─ verdict

The confidence is the product of the terms, each to the power of its weight: every term can veto a pixel, and one that a
teacher cannot give is left out. How the weights were found, and what the result is worth, is in
`docs/decisions/trust.md`.

    # H height, W width
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from stereo.errors import UserError
from stereo.pair import Disparity, StereoPair
from teacher.consistency import left_right_difference, neighbourhood_agreement
from teacher.perturbations import perturbed_disparity, stability
from teacher.protocol import Teacher, TeacherOutput
from teacher.trust_options import TrustOptions
from teacher.trust_terms import FloatPlane, photometric_agreement, visible_in_right

# Exponents, chosen on procedural scenes. The certainty's has not been measured: that needs trained weights.
WEIGHTS: Mapping[str, float] = {
    "teacher": 0.5,
    "agreement": 1.0,
    "visible": 2.0,
    "photometric": 0.5,
    "certainty": 0.0,
    "stability": 0.25,
}
NEAR_WINDOW, WIDE_WINDOW = 9, 31
VISIBLE_WINDOW = 5
KEEP_THRESHOLD = 0.5
FEW_TRUSTED = "too few trusted pixels"


@dataclass(frozen=True)
class TrustedLabel:
    """A label with the reasons to trust it.

    Args:
        disparity: float32 H×W px of the left view, NaN where there is none.
        confidence: float32 H×W, 0 to 1, 0 where disparity is NaN.
        terms: the terms that were computed, by name, float32 H×W each, 0 to 1.
        verdict: why the whole frame is not trusted, or None.
    """

    disparity: Disparity
    confidence: FloatPlane
    terms: dict[str, FloatPlane]
    verdict: str | None


def agreement(disparity: Disparity, right: Disparity) -> FloatPlane:
    """Share of pixels with a left-right difference of at most 1 px in 9×9, times that in 31×31; float32 H×W."""
    difference = left_right_difference(disparity, right)
    return neighbourhood_agreement(difference, NEAR_WINDOW) * neighbourhood_agreement(difference, WIDE_WINDOW)


def visible_share(disparity: Disparity) -> FloatPlane:
    """Share of the pixels of 5×5 that the disparity says the right view shows; 0 where the pixel itself is none."""
    visible = visible_in_right(disparity).astype(np.float32)
    return visible * cv2.blur(visible, (VISIBLE_WINDOW, VISIBLE_WINDOW))


def available_terms(
    pair: StereoPair, output: TeacherOutput, perturbed: Sequence[Disparity] = ()
) -> dict[str, Callable[[], FloatPlane]]:
    """How each term is computed that this answer can give.

    teacher      the teacher's own confidence: its left-right check
    agreement    whether the neighbourhood passes the left-right check too
    visible      whether the right view shows the point, by the left view's disparity
    photometric  whether the right view, carried over by the disparity, looks like the left one
    certainty    1 - entropy of the teacher's distribution
    stability    whether the answer stays under perturbations
    """
    disparity, right, entropy = output.disparity, output.right, output.entropy
    terms: dict[str, Callable[[], FloatPlane]] = {
        "teacher": lambda: output.confidence,
        "visible": lambda: visible_share(disparity),
        "photometric": lambda: photometric_agreement(pair.left, pair.right, disparity),
    }
    if right is not None:
        terms["agreement"] = lambda: agreement(disparity, right)
    if entropy is not None:
        terms["certainty"] = lambda: (1 - entropy).astype(np.float32)
    if perturbed:
        terms["stability"] = lambda: stability(disparity, perturbed)
    return terms


def combined_confidence(terms: Mapping[str, FloatPlane], weights: Mapping[str, float]) -> FloatPlane:
    """Product of the terms, each to the power of its weight; float32 H×W, 0 to 1.

    Args:
        terms: float32 H×W each, 0 to 1; at least one.
        weights: by term, 0 or more; 0 leaves the term out.
    """
    total = np.zeros_like(next(iter(terms.values())))
    with np.errstate(divide="ignore"):  # log 0 is -inf, whose exponential is the veto that is meant
        for name, term in terms.items():
            if weights[name] > 0:
                total += np.float32(weights[name]) * np.log(term)
    return np.exp(total)


def weigh(
    pair: StereoPair,
    output: TeacherOutput,
    options: TrustOptions,
    *,
    perturbed: Sequence[Disparity] = (),
    keep_threshold: float = KEEP_THRESHOLD,
) -> TrustedLabel:
    """Confidence and verdict of an answer; needs no teacher, so it can run while that matches the next pair.

    Args:
        pair: that was matched.
        output: the teacher's answer.
        options: see `teacher.trust_options`; checked by `check_trust` before.
        perturbed: left disparities found under `options.perturbations`.
        keep_threshold: confidence from which on a pixel counts as trusted.

    Raises:
        UserError: every term that this teacher gives has the weight 0.
    """
    weights = weights_of(options)
    available = available_terms(pair, output, perturbed)
    terms = {
        name: compute()
        for name, compute in available.items()
        if options.terms or (options.combined and weights[name] > 0)
    }
    confidence = output.confidence
    if options.combined:
        if not any(weights[name] > 0 for name in terms):
            raise UserError(
                f"no term with a weight is left; this teacher gives {', '.join(available)}",
                where="--trust.weights",
                fix="give one of them a weight, or --trust.combined false",
            )
        confidence = np.where(np.isnan(output.disparity), np.float32(0), combined_confidence(terms, weights))
    share = np.count_nonzero(confidence >= keep_threshold) / confidence.size
    verdict = FEW_TRUSTED if share < options.min_trusted else None
    return TrustedLabel(output.disparity, confidence, terms, verdict)


def weights_of(options: TrustOptions) -> dict[str, float]:
    """The exponent of every term."""
    weights: dict[str, float] = dict(WEIGHTS)
    weights.update((options.weights or {}).items())
    return weights


def asked(teacher: Teacher, pair: StereoPair, options: TrustOptions) -> tuple[TeacherOutput, list[Disparity]]:
    """All passes of the teacher over one pair: its answer, and the left disparity under each perturbation."""
    return teacher.predict(pair), [perturbed_disparity(teacher, pair, name) for name in options.perturbations]


def trusted(
    teacher: Teacher, pair: StereoPair, options: TrustOptions, *, keep_threshold: float = KEEP_THRESHOLD
) -> TrustedLabel:
    """Label one pair, once more for each perturbation, and say how far the label is to be trusted; see `weigh`."""
    output, perturbed = asked(teacher, pair, options)
    return weigh(pair, output, options, perturbed=perturbed, keep_threshold=keep_threshold)
