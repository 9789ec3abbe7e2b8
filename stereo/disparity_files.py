"""Disparity maps on disk: PFM (Middlebury, SceneFlow), 16-bit PNG (KITTI), NPZ; FoundationStereo's PNG is read.

In memory a map is float32 H×W in pixels, positive, NaN where invalid. In files invalid is inf (PFM, as Middlebury
writes it), 0 (PNG) or NaN (NPZ). PFM and NPZ keep every bit of a valid value.
Formats: https://vision.middlebury.edu/stereo/data/scenes2014/ and the KITTI 2015 devkit's readme.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np

from stereo.artifacts import write_bytes
from stereo.errors import UserError
from stereo.pair import Disparity, decode_raw, read_bytes
from stereo.png import png_flags

PNG_LIMIT = 65535
KITTI_SCALE = 256
# FoundationStereo's data set: three digits of base 255, the most significant in red, in thousandths of a pixel.
FSD_BASE, FSD_SCALE = 255, 1000
# Red, taken for the digit that is noise, makes half of a map larger than about 8,000 px; its images are 1,280 px wide.
FSD_ABSURD_PX = 2000


def check_map(disparity: Disparity, *, where: object) -> Disparity:
    """The map itself when it is float32 H×W.

    Raises:
        UserError: another form.
    """
    if disparity.ndim != 2 or disparity.dtype != np.float32:
        raise UserError(f"a disparity map is float32 HxW, not {disparity.dtype} {disparity.shape}", where=where)
    return disparity


def write_pfm(path: Path | str, disparity: Disparity) -> None:
    """Write little-endian PFM; NaN becomes inf."""
    check_map(disparity, where=path)
    height, width = disparity.shape
    rows = np.where(np.isnan(disparity), np.float32(np.inf), disparity)[::-1]
    write_bytes(path, f"Pf\n{width} {height}\n-1.0\n".encode() + rows.astype("<f4").tobytes())


def read_pfm(path: Path | str) -> Disparity:
    """Read a one-channel PFM, float32 H×W px; inf becomes NaN.

    Raises:
        UserError: not PFM, three channels, or truncated.
    """
    data = read_bytes(path, what="disparity file")
    header = re.match(rb"(P[Ff])\s+(\d+)\s+(\d+)\s+(-?[\d.]+(?:[eE][-+]?\d+)?)[ \t\r]*\n", data)
    if not header:
        raise UserError("not a PFM file", where=path, fix="write it again, or convert it to PFM")
    if header[1] == b"PF":
        raise UserError("PFM with three channels, a disparity map has one", where=path, fix="convert it to 'Pf'")
    width, height, scale = int(header[2]), int(header[3]), float(header[4])
    body = data[header.end() :]
    if len(body) < 4 * width * height:
        raise UserError(
            f"truncated: {len(body)} of {4 * width * height} bytes of pixels", where=path, fix="copy it again"
        )
    values = np.frombuffer(body, "<f4" if scale < 0 else ">f4", count=width * height)
    disparity = values.reshape(height, width)[::-1].astype(np.float32)
    disparity[np.isinf(disparity)] = np.nan
    return disparity


def encode_kitti_png(disparity: Disparity, *, scale: int = KITTI_SCALE, compression: int = 3) -> bytes:
    """PNG bytes of round(disparity × scale) as uint16; NaN becomes 0.

    A valid disparity too small for the scale is written as 1, because 0 means invalid. The error is at most half a step
    (1/512 px at scale 256), one step for such small values.

    Args:
        disparity: float32 H×W px, ≥ 0 or NaN.
        scale: steps per pixel; the largest disparity is 65535 / scale px.
        compression: zlib level, 0 fast to 9 small.

    Raises:
        UserError: a disparity is negative or too large for the scale.
    """
    check_map(disparity, where="disparity PNG")
    valid = ~np.isnan(disparity)
    if valid.any():
        low, high = float(disparity[valid].min()), float(disparity[valid].max())
        if low < 0 or high * scale > PNG_LIMIT + 0.5:
            raise UserError(
                f"disparities from {low:g} to {high:g} px do not fit a PNG of scale {scale}"
                f" (0 to {PNG_LIMIT / scale:g} px)",
                fix="mask them, or use scale 128, or PFM",
            )
    steps = np.rint(np.where(valid, disparity, np.float32(0)) * np.float32(scale))
    steps = np.where(valid, np.maximum(steps, 1), 0).astype(np.uint16)
    done, data = cv2.imencode(".png", steps, png_flags(compression))
    if not done:
        raise UserError(f"OpenCV could not encode a {disparity.shape} disparity map as PNG")
    return data.tobytes()


def decode_kitti_png(data: bytes, *, scale: int = KITTI_SCALE, where: object = None) -> Disparity:
    """Disparity, float32 H×W px, NaN where the PNG has 0.

    Raises:
        UserError: truncated, damaged, or not a 16-bit gray PNG.
    """
    steps = decode_raw(data, where=where)
    if steps.dtype != np.uint16 or steps.ndim != 2:
        raise UserError(
            f"a disparity PNG is 16-bit gray, this is {steps.dtype} {steps.shape}",
            where=where,
            fix="export the raw disparity, not a picture of it",
        )
    disparity: Disparity = (steps / np.float32(scale)).astype(np.float32)
    disparity[steps == 0] = np.nan
    return disparity


def write_kitti_png(path: Path | str, disparity: Disparity, *, scale: int = KITTI_SCALE) -> None:
    """Write the KITTI form; see `encode_kitti_png`."""
    write_bytes(path, encode_kitti_png(disparity, scale=scale))


def read_kitti_png(path: Path | str, *, scale: int = KITTI_SCALE) -> Disparity:
    """Read the KITTI form; see `decode_kitti_png`."""
    return decode_kitti_png(read_bytes(path, what="disparity file"), scale=scale, where=path)


def read_fsd_png(path: Path | str) -> Disparity:
    """Read FoundationStereo's three-channel PNG, (R · 255² + G · 255 + B) / 1000 px; float32 H×W, 0 becomes NaN.

    Raises:
        UserError: not an 8-bit RGB PNG, or one whose channels are in another order.
    """
    digits = decode_raw(read_bytes(path, what="disparity file"), where=path)
    if digits.dtype != np.uint8 or digits.ndim != 3 or digits.shape[2] != 3:
        raise UserError(f"this disparity PNG is 8-bit RGB, not {digits.dtype} {digits.shape}", where=path)
    blue, green, red = (digits[:, :, channel].astype(np.float64) for channel in range(3))
    disparity = ((red * FSD_BASE**2 + green * FSD_BASE + blue) / FSD_SCALE).astype(np.float32)
    disparity[disparity == 0] = np.nan
    known = disparity[np.isfinite(disparity)]
    if known.size and np.median(known) > FSD_ABSURD_PX:
        raise UserError(
            f"half of the disparities are above {np.median(known):.0f} px",
            where=path,
            fix="its channels are probably in the order BGR: write it as RGB, red the most significant",
        )
    return disparity


def write_npz(path: Path | str, disparity: Disparity) -> None:
    """Write compressed NPZ with the one array `disparity`."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, disparity=check_map(disparity, where=path))
    write_bytes(path, buffer.getvalue())


def read_npz(path: Path | str) -> Disparity:
    """Read the array `disparity` of an NPZ; inf becomes NaN.

    Raises:
        UserError: not NPZ, damaged, or without such an array.
    """
    data = read_bytes(path, what="disparity file")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            if "disparity" not in archive:
                raise UserError(f"no array 'disparity' among {sorted(archive)}", where=path)
            disparity = archive["disparity"]
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"not a readable NPZ file: {error}", where=path, fix="write it again") from error
    if isinstance(disparity, np.ndarray) and np.isinf(disparity).any():
        disparity = np.where(np.isinf(disparity), np.float32(np.nan), disparity)
    return check_map(disparity, where=path)


def read_disparity(path: Path | str, scale: int | None = None) -> Disparity:
    """Read any of the forms, chosen by suffix.

    Args:
        path: .pfm, .png or .npz.
        scale: steps per pixel of a PNG; None is 256.

    Returns:
        float32 H×W px, NaN invalid.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".pfm":
        return read_pfm(path)
    if suffix == ".npz":
        return read_npz(path)
    if suffix == ".png":
        return read_kitti_png(path, scale=scale or KITTI_SCALE)
    raise UserError(f"unknown kind of disparity file '{suffix}'", where=path, fix="use .pfm, .png (16-bit) or .npz")
