"""Whether the pairs of a source are what stereo matching needs: two views of one scene, rectified, in order, alike.

Asked of the images alone, by points that both views show (`stereo.view_matching`). Every question has three answers:
fine, wrong, and cannot tell, because dark, blank and repetitive images say nothing about their rig; that is a warning,
never a silent pass. Two views with the same wrong channel order look right together, so that is not found.

    report = check_pairs(pairs, CheckOptions())
    report.enforce(where=source, force=False)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stereo.errors import UserError
from stereo.pair import StereoPair
from stereo.pair_questions import (
    Answer,
    FrameCheck,
    ask_channels,
    ask_one_scene,
    ask_order,
    ask_rectified,
    ask_two_views,
    check_frame,
)
from stereo.rectification import Rectifier
from stereo.selection_options import CheckOptions
from stereo.sources import StereoSource
from stereo.vertical_offset import VerticalOffset, measure
from stereo.view_matching import match_views

# A problem that this share of the frames have alone is one of the source, though the sum looks fine: folders may hold
# pairs of several rigs.
WRONG_FRAMES = 0.25

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Problem:
    """Why a source must not be labelled as it is.

    Args:
        what: the problem with its measured numbers.
        fix: what to do about it.
    """

    what: str
    fix: str


Question = Callable[[Sequence[FrameCheck], CheckOptions], Answer]
# The order is that of the messages: what explains the others comes first.
QUESTIONS: dict[str, tuple[Question, str]] = {
    "two_views": (ask_two_views, "record or export both cameras; a mono stream cannot be labelled"),
    "one_scene": (
        ask_one_scene,
        "check that both views belong to the same frames, and that none is turned or mirrored",
    ),
    "rectified": (ask_rectified, "rectify the images; with a calibration, `--calibration FILE` does it"),
    "order": (
        ask_order,
        "exchange the views; if the cameras are turned towards each other, shift the right view so that all "
        "disparities are positive",
    ),
    "channels": (ask_channels, "one view is BGR and the other RGB: convert one of them"),
}

NEEDED = ("two_views", "one_scene")
DESCRIBED = {
    "two_views": "two different views",
    "one_scene": "of one scene",
    "rectified": "rectified",
    "order": "in the right order",
    "channels": "alike in their channel order",
}


@dataclass(frozen=True)
class CheckReport:
    """What the checks found.

    Args:
        answers: question → answer over all frames.
        wrong_frames: question → names of the frames that are wrong when judged alone.
        frames: how many frames were looked at.
        asked: how many were meant to be; those that cannot be read are left out.
        before: with rectification, the vertical offset before it.
    """

    answers: dict[str, Answer]
    wrong_frames: dict[str, list[str]]
    frames: int
    asked: int
    before: VerticalOffset | None = None
    rectified_by: str | None = None

    def problems(self) -> list[Problem]:
        """What forbids labelling, most telling first; empty when nothing does."""
        return [self._problem(name) for name in self._telling() if self.answers[name].outcome == "wrong"]

    def _telling(self) -> list[str]:
        """Questions whose answers mean something: without two views of one scene the others' do not."""
        names = list(self.answers)
        for place, name in enumerate(names):
            if name in NEEDED and self.answers[name].outcome == "wrong":
                return names[: place + 1]
        return names

    def _problem(self, name: str) -> Problem:
        answer, fix = self.answers[name], QUESTIONS[name][1]
        what, wrong = answer.what, self.wrong_frames[name]
        if name == "rectified" and self.rectified_by is not None:
            before = f"{self.before.field_px:.2f} px before" if self.before is not None else "unknown before"
            what = f"the calibration contradicts the images: rectified by {self.rectified_by}, {what}; {before}"
            fix = "is it of this rig, at this image size, focus and zoom, with its cameras in the order of the views?"
        if self.frames > 1 and wrong:
            more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            what = f"{what}; wrong by themselves: {', '.join(wrong[:3])}{more}"
        return Problem(what, fix)

    def warnings(self) -> list[str]:
        """What could not be told, and single frames that are wrong where the source is not."""
        found = []
        for name in self._telling():
            answer = self.answers[name]
            if answer.outcome == "cannot tell":
                found.append(f"cannot tell whether the views are {DESCRIBED[name]}: {answer.what}")
            elif answer.outcome == "fine" and self.wrong_frames[name]:
                found.append(f"of {self.frames} frames these are not {DESCRIBED[name]}: "
                             f"{', '.join(self.wrong_frames[name])}")  # fmt: skip
        return found

    def describe(self) -> dict[str, Any]:
        """As JSON values, for manifests."""
        return {
            "frames": self.frames,
            "answers": {
                name: {"outcome": answer.outcome, **answer.numbers, "wrong_frames": self.wrong_frames[name]}
                for name, answer in self.answers.items()
            },
            "rectified_by": self.rectified_by,
            "before_rectification": self.before.describe() if self.before is not None else None,
        }

    def enforce(self, *, where: object, force: bool) -> None:
        """Log the warnings; stop at problems, or log them too when forced.

        Raises:
            UserError: there are problems, and `force` is False.
        """
        if not self.frames and self.asked:
            log.warning("%s: no frame could be checked, so rectification and order of the views are unknown", where)
        for warning in self.warnings():
            log.warning("%s: %s", where, warning)
        problems = self.problems()
        if not problems:
            return
        if force:
            for problem in problems:
                log.warning("%s: going on although %s", where, problem.what)
            return
        raise UserError(
            "; and ".join(problem.what for problem in problems),
            where=where,
            fix="; ".join([*(problem.fix for problem in problems), "--force labels it as it is"]),
        )


def conclude(frames: Sequence[FrameCheck], ask: Question, options: CheckOptions) -> tuple[Answer, list[str]]:
    """Ask all frames together and each alone; the source is wrong when many frames are."""
    together = ask(frames, options)
    wrong = [frame.name for frame in frames if ask([frame], options).outcome == "wrong"]
    if wrong and len(wrong) >= WRONG_FRAMES * len(frames) and together.outcome != "wrong":
        what = f"{len(wrong)} of {len(frames)} frames are wrong by themselves, though together {together.what}"
        together = Answer("wrong", what, together.numbers)
    return together, wrong


def report(
    frames: Sequence[FrameCheck],
    options: CheckOptions,
    *,
    asked: int | None = None,
    rectified_by: str | None = None,
    before: VerticalOffset | None = None,
) -> CheckReport:
    """Ask all questions of some frames."""
    concluded = {name: conclude(frames, ask, options) for name, (ask, _) in QUESTIONS.items()} if frames else {}
    answers = {name: answer for name, (answer, _) in concluded.items()}
    wrong = {name: names for name, (_, names) in concluded.items()}
    asked = len(frames) if asked is None else asked
    return CheckReport(answers, wrong, len(frames), asked, before, rectified_by)


def check_pairs(pairs: Iterable[StereoPair], options: CheckOptions | None = None) -> CheckReport:
    """Check some pairs; they are read one after the other, and only their points are kept."""
    return report([check_frame(pair) for pair in pairs], options or CheckOptions())


def check_source(
    source: StereoSource,
    indexes: Sequence[int],
    options: CheckOptions,
    *,
    rectifier: Rectifier | None = None,
    rectified_by: str = "the calibration",
) -> CheckReport:
    """Check a sample of a source's frames, rectified as they will be labelled; frames without a pair are left out.

    Args:
        indexes: the frames that will be labelled.
        options: how many of them to look at, and the limits.
        rectifier: what rectifies them; the vertical offset before it is measured, too.
        rectified_by: what messages call the calibration.
    """
    places = np.linspace(0, len(indexes) - 1, min(options.sample, len(indexes)))
    places = np.unique(np.rint(places).astype(int))
    frames, raw = [], []
    for place in places:
        pair = source.read(indexes[place]).pair
        if pair is None:
            continue
        if rectifier is not None:
            raw.append(match_views(pair))
            pair = rectifier.apply(pair)
        frames.append(check_frame(pair))
    return report(
        frames,
        options,
        asked=len(places),
        rectified_by=rectified_by if rectifier is not None else None,
        before=measure(raw) if raw else None,
    )
