"""Rectified pairs with known disparity, for evaluation only.

A folder of pairs holds one folder per pair: `left.png`, `right.png`, `disp_left_x256.png` (uint16, px × 256,
0 = unknown) and, where it is known, `noc.png` (non-zero where the left pixel is visible in the right view too).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stereo.disparity_files import read_kitti_png, write_kitti_png
from stereo.errors import UserError, require
from stereo.pair import Rig, StereoPair, decode_raw, read_bytes, read_image
from stereo.pictures import gray_picture, write_png

TRUTH_NAME = "disp_left_x256.png"
# As the docstring of skimage.data.stereo_motorcycle tells them.
MOTORCYCLE_RIG = Rig(focal_px=994.978, baseline_m=0.193001, doffs_px=31.086, cx=311.193, cy=254.877)


def load_pair(folder: Path | str) -> StereoPair:
    """Read one pair.

    Raises:
        UserError: a file is missing or unreadable, or sizes differ.
    """
    folder = Path(folder)
    mask_path = folder / "noc.png"
    noc = None
    if mask_path.exists():
        raw = decode_raw(read_bytes(mask_path), where=mask_path)
        noc = (raw if raw.ndim == 2 else raw[:, :, 0]) > 0
    return StereoPair(
        read_image(folder / "left.png"),
        read_image(folder / "right.png"),
        name=folder.name,
        disparity=read_kitti_png(folder / TRUTH_NAME),
        noc=noc,
    )


def load_pairs(folder: Path | str) -> list[StereoPair]:
    """Read all pairs of a folder, sorted by name; the folder of a single pair works too.

    Raises:
        UserError: no pair there, or one of them is unreadable.
    """
    folder = Path(folder)
    if (folder / TRUTH_NAME).exists():
        return [load_pair(folder)]
    names = sorted(path.parent for path in folder.glob(f"*/{TRUTH_NAME}"))
    if not names:
        raise UserError(
            f"no pairs with {TRUTH_NAME} in there", where=folder, fix="expected NAME/left.png, right.png, " + TRUTH_NAME
        )
    return [load_pair(name) for name in names]


def write_pair(folder: Path | str, pair: StereoPair) -> Path:
    """Write one pair with truth in the form that `load_pair` reads, whole or not at all. Returns the folder.

    Raises:
        UserError: the pair has no truth, or the disk is full.
    """
    folder = Path(folder)
    if pair.disparity is None:
        raise UserError("has no true disparity", where=pair.name, fix="only pairs with truth are evaluated")
    write_png(folder / "left.png", pair.left)
    write_png(folder / "right.png", pair.right)
    if pair.noc is not None:
        write_png(folder / "noc.png", gray_picture(pair.noc))
    # The truth comes last: it is what makes the folder a pair.
    write_kitti_png(folder / TRUTH_NAME, pair.disparity)
    return folder


def motorcycle_pair() -> StereoPair:
    """Middlebury 2014 Motorcycle at quarter size (741×500), as scikit-image's wheel carries it; no occlusion mask.

    Raises:
        UserError: scikit-image is not installed.
    """
    data = require("skimage.data", hint="pip install scikit-image")
    left, right, disparity = data.stereo_motorcycle()
    truth = np.where(np.isfinite(disparity), disparity, np.nan).astype(np.float32)
    return StereoPair(left[:, :, :3], right[:, :, :3], "motorcycle", rig=MOTORCYCLE_RIG, disparity=truth)
