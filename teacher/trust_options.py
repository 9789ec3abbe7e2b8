"""Options of how far labels are trusted; imports nothing heavy, so that `--help` works anywhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from stereo.errors import UserError

# Extra passes of the teacher over changed images: both views upside down, or both at nine tenths of their size.
Perturbation = Literal["vertical_flip", "scale"]
Term = Literal["teacher", "agreement", "visible", "photometric", "certainty", "stability"]


@dataclass(frozen=True)
class TrustOptions:
    """How the confidence of a label is made, and when a whole frame is not trusted.

    Args:
        combined: make the confidence of all that can be seen of the disparity; without it the teacher's own confidence
            is the label's.
        perturbations: match again with changed images, vertical_flip or scale or both, and trust what stays the same;
            each costs a pass of the teacher.
        terms: store each term beside the confidence.
        min_trusted: a frame of which a smaller share of pixels reaches the keep threshold is not trusted, 0 to 1.
        weights: other exponents than the measured ones, by the term's name; 0 leaves a term out.
    """

    combined: bool = True
    perturbations: tuple[Perturbation, ...] = ()
    terms: bool = False
    min_trusted: float = 0.1
    weights: dict[Term, float] | None = None


def check_trust(options: TrustOptions) -> None:
    """Refuse options that cannot work.

    Raises:
        UserError: a share outside 0 to 1, an unknown term or perturbation, or a weight below 0.
    """
    if not 0 <= options.min_trusted <= 1:
        raise UserError(f"{options.min_trusted} is not a share", where="--trust.min_trusted", fix="from 0 to 1")
    for name in options.perturbations:
        if name not in get_args(Perturbation):
            raise UserError(f"unknown perturbation '{name}'", where="--trust.perturbations",
                            fix=f"known: {', '.join(get_args(Perturbation))}")  # fmt: skip
    if options.perturbations and not (options.combined or options.terms):
        raise UserError("nothing would use the extra passes", where="--trust.perturbations",
                        fix="leave them out, or --trust.combined true")  # fmt: skip
    for name, weight in (options.weights or {}).items():
        if name not in get_args(Term):
            raise UserError(
                f"unknown term '{name}'", where="--trust.weights", fix=f"known: {', '.join(get_args(Term))}"
            )
        if not 0 <= weight < math.inf:
            raise UserError(f"{name}: {weight} is not a weight", where="--trust.weights", fix="0 or more")
