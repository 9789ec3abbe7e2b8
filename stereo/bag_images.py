"""Pictures in ROS messages: `sensor_msgs/Image` and `sensor_msgs/CompressedImage` as RGB.

https://docs.ros2.org/latest/api/sensor_msgs/msg/Image.html, encodings: sensor_msgs/image_encodings.hpp
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from stereo.errors import UserError
from stereo.pair import Image, decode_raw, to_rgb8

# Encoding → (channels, bytes per value, order). "bgr" also stands for gray and BGRA, which `to_rgb8` takes.
PLAIN: dict[str, tuple[int, int, str]] = {
    "mono8": (1, 1, "bgr"), "8UC1": (1, 1, "bgr"), "mono16": (1, 2, "bgr"), "16UC1": (1, 2, "bgr"),
    "bgr8": (3, 1, "bgr"), "8UC3": (3, 1, "bgr"), "bgra8": (4, 1, "bgr"), "8UC4": (4, 1, "bgr"),
    "rgb8": (3, 1, "rgb"), "rgba8": (4, 1, "rgb"), "bgr16": (3, 2, "bgr"), "16UC3": (3, 2, "bgr"),
    "bgra16": (4, 2, "bgr"), "rgb16": (3, 2, "rgb"), "rgba16": (4, 2, "rgb"),
}  # fmt: skip
# OpenCV names a Bayer pattern by the second row, ROS by the first.
BAYER = {
    "rggb": cv2.COLOR_BayerBG2BGR,
    "bggr": cv2.COLOR_BayerRG2BGR,
    "gbrg": cv2.COLOR_BayerGR2BGR,
    "grbg": cv2.COLOR_BayerGB2BGR,
}
YUV = {
    "yuv422": cv2.COLOR_YUV2BGR_UYVY,
    "uyvy": cv2.COLOR_YUV2BGR_UYVY,
    "yuv422_yuy2": cv2.COLOR_YUV2BGR_YUY2,
    "yuyv": cv2.COLOR_YUV2BGR_YUY2,
}


def form_of(encoding: str, *, where: object) -> tuple[int, int]:
    """(channels, bytes per value) of an encoding.

    Raises:
        UserError: an encoding that is no picture, or not supported.
    """
    if encoding in PLAIN:
        return PLAIN[encoding][:2]
    if encoding.startswith("bayer_") and encoding[6:10] in BAYER and encoding[10:] in ("8", "16"):
        return 1, int(encoding[10:]) // 8
    if encoding in YUV:
        return 2, 1
    raise UserError(
        f"images are encoded as '{encoding}'",
        where=where,
        fix=f"supported: {', '.join([*PLAIN, *YUV])}, bayer_*8, bayer_*16",
    )


def rows_of(message: Any, channels: int, size_bytes: int, *, where: object) -> npt.NDArray[Any]:
    """The values of an image message as H×W×C, without what pads its rows.

    Raises:
        UserError: it holds less than it says.
    """
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = np.frombuffer(message.data, np.uint8)
    if not height or not width or step < width * channels * size_bytes or data.size < height * step:
        raise UserError(
            f"the image holds {data.size} bytes, not {height} rows of {step} for {width} px of {message.encoding}",
            where=where,
            fix="record it again",
        )
    rows = data[: height * step].reshape(height, step)[:, : width * channels * size_bytes]
    if size_bytes == 2:
        values = np.ascontiguousarray(rows).view(">u2" if message.is_bigendian else "<u2").astype(np.uint16)
    else:
        values = rows
    return values.reshape(height, width, channels)


def demosaiced(plane: npt.NDArray[Any], encoding: str) -> npt.NDArray[Any]:
    """BGR of a Bayer plane H×W, 8 or 16 bits."""
    return cv2.cvtColor(np.ascontiguousarray(plane), BAYER[encoding[6:10]])


def image_from(message: Any, *, where: object) -> Image:
    """The picture of a `sensor_msgs/Image` as uint8 H×W×3 RGB; 16 bits are scaled as in image files.

    Raises:
        UserError: not a picture, or it holds less than it says.
    """
    encoding = message.encoding
    channels, size_bytes = form_of(encoding, where=where)
    values = rows_of(message, channels, size_bytes, where=where)
    if encoding.startswith("bayer_"):
        values = demosaiced(values[:, :, 0], encoding)
    elif encoding in YUV:
        values = cv2.cvtColor(np.ascontiguousarray(values), YUV[encoding])
    elif PLAIN[encoding][2] == "rgb":
        values = values[:, :, 2::-1]
    return to_rgb8(values, where=where)


def compressed_image_from(message: Any, *, where: object) -> Image:
    """The picture of a `sensor_msgs/CompressedImage` (JPEG, PNG) as uint8 H×W×3 RGB.

    Raises:
        UserError: truncated, damaged, or compressed otherwise.
    """
    data = bytes(message.data)
    if not data:
        raise UserError("the image is empty", where=where, fix="record it again")
    try:
        raw = decode_raw(data, where=where)
    except UserError as error:
        raise UserError(f"{error.what}, its format is '{message.format}'", where=where, fix=error.fix) from error
    taken_as = message.format.partition(";")[0].strip()
    if taken_as.startswith("bayer_") and raw.ndim == 2:
        raw = demosaiced(raw, taken_as)
    return to_rgb8(raw, where=where)
