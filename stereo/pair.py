"""A rectified stereo pair, the rig that took it, and how an image file becomes pixels.

The vocabulary of every stage. Disparity is positive, in pixels of the left view: `x_right = x_left - d`.

    # H height, W width
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from stereo.errors import UserError

Image = npt.NDArray[np.uint8]
Disparity = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_START, JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
# Cameras that deliver 10 or 12 bits in 16-bit files would come out nearly black; see `to_rgb8`.
SIXTEEN_BIT_FLOOR = 4096


@dataclass(frozen=True)
class Rig:
    """A rectified pair of cameras.

    Args:
        focal_px: focal length of the rectified left view, in pixels.
        baseline_m: distance of the two cameras, in metres.
        doffs_px: difference of the principal points, cx_right - cx_left, in pixels (Middlebury 2014's `doffs`).
        cx, cy: principal point of the left view, in pixels; None when unknown.
    """

    focal_px: float
    baseline_m: float
    doffs_px: float = 0.0
    cx: float | None = None
    cy: float | None = None

    def __post_init__(self) -> None:
        if not (self.focal_px > 0 and self.baseline_m > 0):
            raise UserError(
                f"focal_px={self.focal_px} and baseline_m={self.baseline_m} must be positive",
                fix="check the calibration; a negative baseline often means that left and right are swapped",
            )

    def depth_m(self, disparity: Disparity) -> npt.NDArray[np.float32]:
        """Depth in metres, float32 H×W: focal_px * baseline_m / (disparity + doffs_px).

        NaN stays NaN; infinitely far is inf; points behind infinity (disparity + doffs_px < 0) are NaN.
        """
        shifted = np.asarray(disparity, np.float32) + np.float32(self.doffs_px)
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = np.float32(self.focal_px * self.baseline_m) / np.where(shifted < 0, np.float32(np.nan), shifted)
        return np.abs(depth).astype(np.float32)

    def scaled(self, factor: float) -> Rig:
        """The rig of the same pair resized by `factor`; pixel centres sit at half-integers of the image plane."""

        def centre(value: float | None) -> float | None:
            return None if value is None else (value + 0.5) * factor - 0.5

        return Rig(
            self.focal_px * factor, self.baseline_m, self.doffs_px * factor, cx=centre(self.cx), cy=centre(self.cy)
        )


@dataclass
class StereoPair:
    """A rectified pair with what is known about it; checked when made.

    Args:
        left, right: uint8 H×W×3, RGB, of one size.
        name: how messages and files call it.
        rig: the cameras, None when unknown.
        disparity: true disparity of the left view, float32 H×W px, NaN where unknown.
        noc: bool H×W, True where the left pixel is visible in the right view too.

    Raises:
        UserError: sizes differ, or an array has the wrong form.
    """

    left: Image
    right: Image
    name: str
    rig: Rig | None = None
    disparity: Disparity | None = None
    noc: Mask | None = None

    def __post_init__(self) -> None:
        for side, image in (("left", self.left), ("right", self.right)):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise UserError(f"the {side} image is {image.dtype} {image.shape}, not uint8 HxWx3", where=self.name)
        if self.left.shape != self.right.shape:
            raise UserError(
                f"left is {self.left.shape[1]}x{self.left.shape[0]} but right is "
                f"{self.right.shape[1]}x{self.right.shape[0]} (width x height)",
                where=self.name,
                fix="give rectified images of one size",
            )
        for what, plane, dtype in (("disparity", self.disparity, np.float32), ("noc mask", self.noc, np.bool_)):
            if plane is not None and (plane.shape != self.left.shape[:2] or plane.dtype != dtype):
                raise UserError(
                    f"the {what} is {plane.dtype} {plane.shape}, not {np.dtype(dtype)} {self.left.shape[:2]}",
                    where=self.name,
                )

    @property
    def height(self) -> int:
        """Pixels."""
        return self.left.shape[0]

    @property
    def width(self) -> int:
        """Pixels."""
        return self.left.shape[1]


def read_bytes(path: Path | str, *, what: str = "image") -> bytes:
    """The whole file.

    Raises:
        UserError: missing, a folder, empty, or unreadable.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"no such {what}", where=path, fix="check the path") from error
    except OSError as error:
        raise UserError(f"cannot read the {what}: {error.strerror}", where=path) from error
    if not data:
        raise UserError(f"the {what} is empty", where=path, fix="copy it again")
    return data


def encoded_image_problem(data: bytes) -> str | None:
    """What is wrong with the bytes of a PNG or JPEG file, or None.

    OpenCV decodes the upper part of a truncated file and fills the rest with gray, so truncation and damage are found
    here: every PNG chunk is checked against its CRC, a JPEG must carry its end marker. Other formats pass.
    """
    if data.startswith(PNG_SIGNATURE):
        position = len(PNG_SIGNATURE)
        while True:
            if position + 12 > len(data):
                return "truncated"
            (length,) = struct.unpack_from(">I", data, position)
            end = position + 12 + length
            if end > len(data):
                return "truncated"
            (stored,) = struct.unpack_from(">I", data, end - 4)
            if zlib.crc32(memoryview(data)[position + 4 : end - 4]) != stored:
                return "damaged"
            if data[position + 4 : position + 8] == b"IEND":
                return None
            position = end
    if data.startswith(JPEG_START) and JPEG_END not in data[-4096:]:
        return "truncated"
    return None


def decode_raw(data: bytes, *, where: object) -> npt.NDArray[Any]:
    """Decode an image file as it is: H×W or H×W×C (BGR order), 8 or 16 bit.

    Raises:
        UserError: truncated, damaged, or not an image.
    """
    problem = encoded_image_problem(data)
    if problem:
        raise UserError(f"the image is {problem}", where=where, fix="copy or record it again")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise UserError(f"the image cannot be decoded: {error.err}", where=where) from error
    if image is None:
        raise UserError("not an image that OpenCV can decode", where=where, fix="PNG, JPEG, TIFF, BMP and PPM work")
    return image


def to_rgb8(image: npt.NDArray[Any], *, where: object) -> Image:
    """Make uint8 H×W×3 RGB of what `decode_raw` returned.

    Gray becomes three equal channels; alpha is dropped. 16-bit is scaled by a fixed rule, round(value / 257), so that
    65535 → 255 and both views are treated alike; a 16-bit image that only reaches 4095 is refused, because it holds
    10 or 12 bits and would come out black.

    Raises:
        UserError: neither 8 nor 16 bit, or 16 bit of which only 12 are used.
    """
    if image.dtype == np.uint16:
        peak = int(image.max())
        if 0 < peak < SIXTEEN_BIT_FLOOR:
            raise UserError(
                f"16-bit image whose values only reach {peak} of 65535",
                where=where,
                fix="scale 10- and 12-bit recordings to the full 16 bits, or to 8 bits",
            )
        image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if image.dtype != np.uint8:
        raise UserError(f"the image has {image.dtype} values", where=where, fix="use 8-bit or 16-bit images")
    if image.ndim == 2 or image.shape[2] == 1:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB).astype(np.uint8, copy=False)
    if image.shape[2] not in (3, 4):
        raise UserError(f"the image has {image.shape[2]} channels", where=where, fix="use gray, RGB or RGBA images")
    order = cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGB
    return cv2.cvtColor(image, order).astype(np.uint8, copy=False)


def read_image(path: Path | str) -> Image:
    """Read an image file as uint8 H×W×3 RGB; see `to_rgb8` for gray, 16-bit and alpha.

    Raises:
        UserError: missing, truncated, damaged or undecodable.
    """
    return to_rgb8(decode_raw(read_bytes(path), where=path), where=path)
