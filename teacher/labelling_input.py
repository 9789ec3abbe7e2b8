"""What stands between a source and its labels: rectification, and the check that it can be labelled at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stereo.calibration_files import read_calibration
from stereo.errors import UserError
from stereo.pair_check import check_source
from stereo.rectification import Rectifier
from stereo.sources import StereoSource
from teacher.config import LabelConfig

# Frames that are tried for the images' size before a source counts as unreadable.
TRIED_FOR_SIZE = 16


def open_rectifier(config: LabelConfig, source: StereoSource, indexes: Sequence[int]) -> Rectifier | None:
    """What makes rectified pairs of a source's images; None when they are taken as they are.

    A calibration that is given is used; one that the source brings along is used when the source is known to be raw.

    Raises:
        UserError: a calibration that cannot be read or does not fit, or rectified images that are to be rectified.
    """
    if config.calibration is None and source.rectified is not False:
        return None
    if config.calibration is not None and source.rectified and not config.force:
        raise UserError(f"{source.kind} holds rectified images", where="--calibration",
                        fix="leave it out; --force rectifies them once more")  # fmt: skip
    colour = config.reading.camera == "colour"
    calibration = (
        source.calibration if config.calibration is None else read_calibration(config.calibration, colour=colour)
    )
    if calibration is None:
        raise UserError("these images are not rectified, and no calibration came with them",
                        where=source.paths()[0], fix="give it with --calibration FILE")  # fmt: skip
    return Rectifier(calibration, size_of(source, indexes))


def size_of(source: StereoSource, indexes: Sequence[int]) -> tuple[int, int]:
    """(H, W) px of the images.

    Raises:
        UserError: none of the first frames can be read.
    """
    problem = "it is empty"
    for index in indexes[:TRIED_FOR_SIZE]:
        frame = source.read(index)
        if frame.pair is not None:
            return frame.pair.height, frame.pair.width
        problem = frame.problem or problem
    raise UserError(f"not one of the first frames can be read: {problem}", where=source.paths()[0])


def check_input(
    config: LabelConfig, source: StereoSource, indexes: Sequence[int], rectifier: Rectifier | None
) -> dict[str, Any] | None:
    """Look at a sample of a source and refuse one that cannot be labelled. Returns what was found, for the manifest.

    Raises:
        UserError: unrectified, swapped or otherwise wrong images, without --force.
    """
    if config.check.sample < 0:
        raise UserError(f"{config.check.sample} is below 0", where="--check.sample", fix="0 checks nothing")
    if not config.check.sample or not indexes:
        return None
    named = Path(config.calibration).name if config.calibration else "the source's own calibration"
    report = check_source(source, indexes, config.check, rectifier=rectifier, rectified_by=named)
    report.enforce(where=source.paths()[0], force=config.force)
    problems = [problem.what for problem in report.problems()]
    return {**report.describe(), "problems": problems, "forced": config.force and bool(problems)}
