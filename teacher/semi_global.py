"""Semi-global matching by OpenCV: the teacher that needs no weights and no GPU.

Hirschmüller 2008, https://core.ac.uk/download/pdf/11134866.pdf, in OpenCV's three-direction form with a sub-pixel fit,
checked left against right.

    # H height, W width
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from stereo.errors import UserError
from stereo.pair import Disparity, StereoPair
from teacher.consistency import (
    FloatPlane,
    consistency_confidence,
    left_right_difference,
    neighbourhood_agreement,
)
from teacher.protocol import TeacherOutput

Gray = npt.NDArray[np.uint8]

STEPS_PER_PX = 16
BLOCK_SIZE = 3
# OpenCV's own advice for the smoothness penalties of a one-channel image.
PENALTY_SMALL = 8 * BLOCK_SIZE**2
PENALTY_LARGE = 32 * BLOCK_SIZE**2
PREFILTER_CAP = 15
UNIQUENESS_PCT = 10
SPECKLE_PIXELS, SPECKLE_RANGE_PX = 100, 2
# Gray levels per pixel below which a patch cannot be told from its neighbour.
FULL_TEXTURE = 0.25
TEXTURE_WINDOW = 9
# Measured on the development pairs: of the pixels that agree left-right, 1 % are wrong by 2 px where their whole window
# agrees too, 13 % where a tenth to a fifth of it does not. The power turns that into a confidence.
AGREEMENT_WINDOW = 15
AGREEMENT_POWER = 4


def texture_weight(gray: Gray) -> FloatPlane:
    """min(1, g / 0.25), with g the mean absolute horizontal gradient (gray levels per px) of a 9×9 window; H×W."""
    gradient = np.abs(cv2.Sobel(gray, cv2.CV_32F, 1, 0, ksize=3)) / np.float32(8)
    mean = cv2.blur(gradient, (TEXTURE_WINDOW, TEXTURE_WINDOW))
    return np.minimum(mean / np.float32(FULL_TEXTURE), 1).astype(np.float32)


def agreement_weight(difference: FloatPlane) -> FloatPlane:
    """a⁴, with a the share of pixels of a 15×15 window whose left-right difference is at most 1 px; H×W."""
    return np.power(neighbourhood_agreement(difference, AGREEMENT_WINDOW), AGREEMENT_POWER).astype(np.float32)


def gray_views(pair: StereoPair) -> tuple[Gray, Gray]:
    """Left and right, uint8 H×W."""
    left, right = (cv2.cvtColor(view, cv2.COLOR_RGB2GRAY).astype(np.uint8) for view in (pair.left, pair.right))
    return left, right


class SemiGlobalTeacher:
    """OpenCV's SGBM with a left-right check.

    Confidence is exp(-(difference / 1 px)²) × agreement × texture: the pixel's own left-right consistency
    (`teacher.consistency`, 0 where occluded), that of its neighbourhood (`agreement_weight`), and `texture_weight`.
    Disparity is NaN where there is no match, where the views differ by more than 2 px, and where the match lies outside
    the right view.

    Args:
        max_disp: disparities from 0 up to this are searched, in px; a multiple of 16.

    Raises:
        UserError: max_disp is not a positive multiple of 16.
    """

    name = "sgbm"

    def __init__(self, max_disp: int = 128) -> None:
        if max_disp < 16 or max_disp % 16:
            raise UserError(
                f"{max_disp} is not a positive multiple of 16",
                where="--teacher.max_disp",
                fix=f"nearest: {max(16, round(max_disp / 16) * 16)}",
            )
        self.max_disp = max_disp

    def describe(self) -> dict[str, Any]:
        """Settings; there are no weights."""
        return {
            "name": self.name,
            "max_disp": self.max_disp,
            "mode": "3WAY",
            "block_size": BLOCK_SIZE,
            "penalties": [PENALTY_SMALL, PENALTY_LARGE],
            "uniqueness_pct": UNIQUENESS_PCT,
            "opencv": cv2.__version__,
            "weights_sha256": None,
        }

    def _match(self, left: Gray, right: Gray) -> Disparity:
        """Disparity of the left view, float32 H×W px, NaN where SGBM has none.

        SGBM gives nothing for the first max_disp columns, so both views grow by that much on the left.
        """
        matcher = cv2.StereoSGBM.create(
            minDisparity=0,
            numDisparities=self.max_disp,
            blockSize=BLOCK_SIZE,
            P1=PENALTY_SMALL,
            P2=PENALTY_LARGE,
            disp12MaxDiff=-1,
            preFilterCap=PREFILTER_CAP,
            uniquenessRatio=UNIQUENESS_PCT,
            speckleWindowSize=SPECKLE_PIXELS,
            speckleRange=SPECKLE_RANGE_PX,
            mode=cv2.STEREO_SGBM_MODE_SGBM_3WAY,
        )
        padded = [cv2.copyMakeBorder(view, 0, 0, self.max_disp, 0, cv2.BORDER_REPLICATE) for view in (left, right)]
        steps = matcher.compute(padded[0], padded[1])[:, self.max_disp :]
        return np.where(steps >= 0, steps.astype(np.float32) / STEPS_PER_PX, np.float32(np.nan)).astype(np.float32)

    def predict(self, pair: StereoPair) -> TeacherOutput:
        """Disparity and confidence of one pair; see the class."""
        left, right = gray_views(pair)
        # The two directions run at once: OpenCV releases the GIL, and its own threading of one direction scales worse.
        with ThreadPoolExecutor(1) as pool:
            mirrored = pool.submit(
                self._match, np.ascontiguousarray(right[:, ::-1]), np.ascontiguousarray(left[:, ::-1])
            )
            disparity = self._match(left, right)
            disparity_right = np.ascontiguousarray(mirrored.result()[:, ::-1])
        difference = left_right_difference(disparity, disparity_right)
        consistency = consistency_confidence(difference)
        disparity[consistency == 0] = np.nan
        confidence = consistency * agreement_weight(difference) * texture_weight(left)
        return TeacherOutput(disparity, confidence, right=disparity_right)

    def left_disparity(self, pair: StereoPair) -> Disparity:
        """Disparity of the left view alone, unchecked."""
        return self._match(*gray_views(pair))
