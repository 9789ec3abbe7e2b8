"""How an image of any size meets a network of one size: the single definition of pre- and post-processing.

An image that fits is padded by repeating its edge; a larger one is scaled down first, keeping its proportions. The
disparity goes the way back: cropped, resized, and its values divided by the horizontal factor.

    # H height, W width
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from stereo.errors import UserError
from stereo.pair import Disparity, Image

Horizontal = Literal["left", "right", "both"]
Vertical = Literal["top", "bottom", "both"]


def before(amount: int, side: str) -> int:
    """How much of a padding of `amount` comes before the image."""
    return {"left": amount, "top": amount, "both": amount // 2}.get(side, 0)


@dataclass(frozen=True)
class Fit:
    """The plan for one image size.

    Args:
        height, width: of the image, px.
        network: (H, W) of the network's input, px.
        resized: (height, width) that the image is scaled to; its own size when it fits.
        top, left: padding before the image, px.
    """

    height: int
    width: int
    network: tuple[int, int]
    resized: tuple[int, int]
    top: int
    left: int

    @staticmethod
    def plan(
        height: int,
        width: int,
        network: tuple[int, int],
        *,
        vertical: Vertical = "bottom",
        horizontal: Horizontal = "right",
    ) -> Fit:
        """Plan for an image of height × width px.

        Args:
            network: (H, W) of the network's input.
            vertical, horizontal: where the padding goes.

        Raises:
            UserError: a size that is not positive.
        """
        if min(height, width, *network) < 1:
            raise UserError(f"cannot fit {height}x{width} into {network[0]}x{network[1]}", fix="sizes must be positive")
        factor = min(network[0] / height, network[1] / width, 1.0)
        resized = (max(1, round(height * factor)), max(1, round(width * factor)))
        pad_height, pad_width = network[0] - resized[0], network[1] - resized[1]
        return Fit(height, width, network, resized, before(pad_height, vertical), before(pad_width, horizontal))

    @staticmethod
    def to_multiple(
        height: int,
        width: int,
        multiple: int,
        *,
        vertical: Vertical = "bottom",
        horizontal: Horizontal = "right",
    ) -> Fit:
        """Plan for a network that takes any size divisible by `multiple`: padded up, never scaled."""
        network = (-(-height // multiple) * multiple, -(-width // multiple) * multiple)
        return Fit.plan(height, width, network, vertical=vertical, horizontal=horizontal)

    @property
    def factor(self) -> float:
        """Network pixels per image pixel, horizontally: what disparities are multiplied with on the way in."""
        return self.resized[1] / self.width

    def image(self, image: Image) -> Image:
        """Fit an image: uint8 h×w×3 → uint8 H×W×3.

        Raises:
            UserError: the image is not of the planned size.
        """
        if image.shape[:2] != (self.height, self.width):
            raise UserError(
                f"planned for {self.height}x{self.width}, got an image of {image.shape[0]}x{image.shape[1]}"
            )
        if self.resized != image.shape[:2]:
            image = cv2.resize(image, self.resized[::-1], interpolation=cv2.INTER_AREA).astype(np.uint8)
        below = self.network[0] - self.resized[0] - self.top
        right = self.network[1] - self.resized[1] - self.left
        if not any((self.top, below, self.left, right)):
            return image
        return np.pad(image, ((self.top, below), (self.left, right), (0, 0)), mode="edge")

    def apply(self, image: Image) -> npt.NDArray[np.float32]:
        """Fit an image: uint8 h×w×3 → float32 3×H×W, raw RGB 0–255."""
        return np.ascontiguousarray(self.image(image).transpose(2, 0, 1), dtype=np.float32)

    def undo(self, disparity: Disparity) -> Disparity:
        """Bring a network's disparity back: float32 H×W in network pixels → float32 h×w in image pixels.

        NaN spreads to its neighbours where the map is resized.

        Raises:
            UserError: the map is not of the network's size.
        """
        if disparity.shape != self.network:
            raise UserError(f"expected a disparity of {self.network}, got {disparity.shape}")
        height, width = self.resized
        disparity = disparity[self.top : self.top + height, self.left : self.left + width]
        if self.resized == (self.height, self.width):
            return np.array(disparity, dtype=np.float32)
        grown = cv2.resize(disparity, (self.width, self.height), interpolation=cv2.INTER_LINEAR)
        return (grown / np.float32(self.factor)).astype(np.float32)
