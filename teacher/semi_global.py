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
from teacher.consistency import FloatPlane, consistency_confidence, left_right_difference
from teacher.protocol import TeacherOutput

Gray = npt.NDArray[np.uint8]

STEPS_PER_PX = 16
BLOCK_SIZE = 5
# OpenCV's own advice for the smoothness penalties of a one-channel image.
PENALTY_SMALL = 8 * BLOCK_SIZE**2
PENALTY_LARGE = 32 * BLOCK_SIZE**2
PREFILTER_CAP = 63
UNIQUENESS_PCT = 5
SPECKLE_PIXELS, SPECKLE_RANGE_PX = 100, 2
# Gray levels per pixel at which a patch counts as half textured; sensor noise alone makes about half of it.
HALF_TEXTURE = 1.0
TEXTURE_WINDOW = 9


def texture_weight(gray: Gray) -> FloatPlane:
    """g / (g + 1), with g the mean absolute horizontal gradient (gray levels per px) of a 9×9 window; H×W, 0 to 1."""
    gradient = np.abs(cv2.Sobel(gray, cv2.CV_32F, 1, 0, ksize=3)) / np.float32(8)
    mean = cv2.blur(gradient, (TEXTURE_WINDOW, TEXTURE_WINDOW))
    return (mean / (mean + np.float32(HALF_TEXTURE))).astype(np.float32)


class SemiGlobalTeacher:
    """OpenCV's SGBM with a left-right check.

    Confidence is exp(-(difference / 1 px)²) × texture: the first factor is the left-right consistency
    (`teacher.consistency`, 0 where occluded), the second `texture_weight`. Disparity is NaN where there is no
    match, where the views differ by more than 2 px, and where the match lies outside the right view.

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
        left, right = (cv2.cvtColor(view, cv2.COLOR_RGB2GRAY).astype(np.uint8) for view in (pair.left, pair.right))
        # The two directions run at once: OpenCV releases the GIL, and its own threading of one direction scales worse.
        with ThreadPoolExecutor(1) as pool:
            mirrored = pool.submit(
                self._match, np.ascontiguousarray(right[:, ::-1]), np.ascontiguousarray(left[:, ::-1])
            )
            disparity = self._match(left, right)
            disparity_right = np.ascontiguousarray(mirrored.result()[:, ::-1])
        consistency = consistency_confidence(left_right_difference(disparity, disparity_right))
        disparity[consistency == 0] = np.nan
        return TeacherOutput(disparity, consistency * texture_weight(left))
