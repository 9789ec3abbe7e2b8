"""Pictures of disparity and of its errors, for people: reports, previews, logs.

# H height, W width
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from stereo.artifacts import write_bytes
from stereo.errors import UserError
from stereo.pair import Disparity, Image
from stereo.png import png_flags

# Error classes of `error_picture`: upper bound in px and RGB, blue good to red bad (steps double, as KITTI's do).
ERROR_STEPS_PX = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
ERROR_COLOURS = (
    (49, 54, 149), (69, 117, 180), (116, 173, 209), (254, 224, 144), (253, 174, 97), (244, 109, 67), (165, 0, 38),
)  # fmt: skip
MISSING_COLOUR = (255, 0, 255)
GAP_PX = 4


def disparity_picture(disparity: Disparity, max_disp: float | None = None) -> Image:
    """Colour a disparity map with turbo, near is red, invalid is black.

    Args:
        disparity: float32 H×W px, NaN invalid.
        max_disp: the disparity of the last colour; None takes the 99th percentile of the map. Maps that are compared
            need one common value.

    Returns:
        uint8 H×W×3 RGB.
    """
    valid = np.isfinite(disparity)
    if max_disp is None:
        max_disp = float(np.percentile(disparity[valid], 99)) if valid.any() else 1.0
    level = np.clip(np.where(valid, disparity, 0) / max(max_disp, 1e-6), 0, 1)
    picture = cv2.applyColorMap(np.rint(level * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[:, :, ::-1].copy()
    picture[~valid] = 0
    return picture.astype(np.uint8)


def error_picture(prediction: Disparity, truth: Disparity) -> Image:
    """Colour the absolute error in steps of `ERROR_STEPS_PX`, from blue to red.

    Pixels without truth are black; pixels with truth but without a prediction are magenta.

    Args:
        prediction, truth: float32 H×W px, NaN invalid.

    Returns:
        uint8 H×W×3 RGB.
    """
    error = np.abs(prediction - truth)
    classes = np.searchsorted(np.array(ERROR_STEPS_PX), np.where(np.isfinite(error), error, 0), side="right")
    picture = np.array(ERROR_COLOURS, np.uint8)[classes]
    picture[~np.isfinite(prediction)] = MISSING_COLOUR
    picture[~np.isfinite(truth)] = 0
    return picture


def gray_picture(plane: np.ndarray) -> Image:
    """A float plane of 0 to 1 (confidence) as uint8 H×W×3; black is 0 or NaN."""
    level = np.rint(np.clip(np.nan_to_num(plane), 0, 1) * 255).astype(np.uint8)
    return np.repeat(level[:, :, None], 3, axis=2)


def side_by_side(*images: Image) -> Image:
    """Put pictures of any heights in one row, top-aligned, with white gaps.

    Args:
        images: uint8 H×W×3.
    """
    if not images:
        raise UserError("no pictures to put side by side")
    height = max(image.shape[0] for image in images)
    gap = np.full((height, GAP_PX, 3), 255, np.uint8)
    row: list[Image] = []
    for image in images:
        below = np.full((height - image.shape[0], image.shape[1], 3), 255, np.uint8)
        row += [np.concatenate([image, below]), gap]
    return np.concatenate(row[:-1], axis=1)


def stacked(*images: Image) -> Image:
    """Put pictures of any widths in one column, left-aligned, with white gaps.

    Args:
        images: uint8 H×W×3.
    """
    turned = side_by_side(*(image.transpose(1, 0, 2) for image in images))
    return np.ascontiguousarray(turned.transpose(1, 0, 2))


def encode_png(image: Image, *, compression: int = 3) -> bytes:
    """PNG bytes of uint8 H×W×3 RGB, or of one plane uint8 H×W."""
    ordered = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    done, data = cv2.imencode(".png", ordered, png_flags(compression))
    if not done:
        raise UserError(f"OpenCV could not encode a {image.dtype} {image.shape} picture as PNG")
    return data.tobytes()


def write_png(path: Path | str, image: Image) -> None:
    """Write uint8 H×W×3 RGB (or H×W gray) as PNG, atomically."""
    write_bytes(path, encode_png(image))
