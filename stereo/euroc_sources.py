"""EuRoC MAV and recordings of its form (ASL): `mav0/cam0 mav0/cam1`, each with `data.csv`, `data/`, `sensor.yaml`.

Frames belong together by the stamps in `data.csv`, which are in nanoseconds. The images are not rectified.
https://projects.asl.ethz.ch/datasets/doku.php?id=kmavvisualinertialdatasets
"""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import numpy as np

from stereo.calibration_files import EUROC_SENSOR, read_euroc
from stereo.errors import UserError
from stereo.image_sources import Files, ImagePairs
from stereo.pair import read_bytes
from stereo.source_options import SourceOptions
from stereo.sources import StereoSource
from stereo.stamps import Stamps, distance_summary, match_stamps

NS_PER_MS = 1e6

log = logging.getLogger(__name__)


def read_stamps(camera: Path) -> tuple[Stamps, list[Path]]:
    """Stamps in ns, rising, and image files of a camera.

    Args:
        camera: `cam0` or `cam1`.

    Raises:
        UserError: no `data.csv`, or one of another form.
    """
    path = camera / "data.csv"
    text = read_bytes(path, what="list of images").decode("utf-8", errors="replace")
    stamps, files = [], []
    for number, row in enumerate(csv.reader(text.splitlines()), start=1):
        if not row or row[0].lstrip().startswith("#"):
            continue
        if len(row) < 2 or not row[0].strip().isdigit():
            raise UserError(
                f"line {number} is '{','.join(row)[:60]}'", where=path, fix="expected: stamp in nanoseconds, file name"
            )
        stamps.append(int(row[0]))
        files.append(camera / "data" / row[1].strip())
    if not stamps:
        raise UserError("lists no images", where=path, fix="copy the recording again")
    order = np.argsort(np.array(stamps, np.int64), kind="stable")
    return np.array(stamps, np.int64)[order], [files[place] for place in order]


def open_euroc(path: Path, right: Path | None, options: SourceOptions) -> StereoSource:
    """A sequence of EuRoC; frames are named after the left view's stamp.

    A left image whose right one is missing is a frame with a problem, and so is the other way round.

    Raises:
        UserError: no stamps, or not one pair within the tolerance.
    """
    folder = path / "mav0" if (path / "mav0").is_dir() else path
    views = [read_stamps(folder / camera) for camera in ("cam0", "cam1")]
    (left_stamps, left_files), (right_stamps, right_files) = views
    partner = match_stamps(left_stamps, right_stamps, options.tolerance_ms * NS_PER_MS)
    if not (partner >= 0).any():
        raise UserError(
            f"no image of cam0 has one of cam1 within {options.tolerance_ms:g} ms: "
            + distance_summary(left_stamps, right_stamps, per_ms=NS_PER_MS),
            where=folder,
            fix="are these two cameras of one recording? if they are not synchronised, raise --source.tolerance_ms",
        )
    left: Files = {str(stamp): file for stamp, file in zip(left_stamps, left_files, strict=True)}
    matched: Files = {
        str(stamp): right_files[place] for stamp, place in zip(left_stamps, partner, strict=True) if place >= 0
    }
    alone = np.setdiff1d(np.arange(len(right_stamps)), partner)
    if len(matched) < len(left) or len(alone):
        log.warning("%s: %d of %d left and %d of %d right images have no partner within %g ms", folder,
                    len(left) - len(matched), len(left), len(alone), len(right_stamps),
                    options.tolerance_ms)  # fmt: skip
    matched |= {str(right_stamps[place]): right_files[place] for place in alone if str(right_stamps[place]) not in left}
    source = ImagePairs("euroc", [folder / "cam0", folder / "cam1"], left, matched)
    if all((folder / camera / EUROC_SENSOR).exists() for camera in ("cam0", "cam1")):
        source.calibration, source.rectified = read_euroc(folder), False
    return source
