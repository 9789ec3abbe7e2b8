"""What a calibration tells about two cameras: lenses, and where the second one stands.

Read by `stereo.calibration_files`, used by `stereo.rectification`. Conventions are OpenCV's: pixel centres at whole
numbers, x to the right, y down, z forward; `x_right = rotation @ x_left + translation`, in metres.
https://docs.opencv.org/4.x/d9/d0c/group__calib3d.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from stereo.errors import UserError

Matrix = npt.NDArray[np.float64]
LensModel = Literal["pinhole", "fisheye"]

# How many numbers OpenCV's models take: k1 k2 p1 p2 [k3 [k4 k5 k6 [s1 s2 s3 s4 [τx τy]]]], and θ-polynomial k1 to k4.
DISTORTION_COUNTS: dict[LensModel, tuple[int, ...]] = {"pinhole": (0, 4, 5, 8, 12, 14), "fisheye": (4,)}
# Rotations are written with six digits or more; a matrix that is further off was not meant as one.
ROTATION_TOLERANCE = 1e-3
# No stereo rig is wider. OpenCV counts in units of the calibration board, which are mostly millimetres.
LARGEST_BASELINE_M = 5.0


@dataclass(frozen=True, eq=False)
class CameraModel:
    """One camera as it is, before rectification.

    Args:
        matrix: 3×3, focal lengths and principal point in px.
        distortion: coefficients in OpenCV's order; none for an ideal lens.
        model: "pinhole" (radial and tangential, OpenCV's standard model) or "fisheye" (equidistant, Kannala–Brandt).

    Raises:
        UserError: not a camera matrix, or a number of coefficients that the model does not have.
    """

    matrix: Matrix
    distortion: tuple[float, ...] = ()
    model: LensModel = "pinhole"

    def __post_init__(self) -> None:
        matrix = np.asarray(self.matrix, np.float64)
        distortion = tuple(float(value) for value in self.distortion)
        if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
            raise UserError(f"a camera matrix must be 3x3 finite numbers, this one is {matrix.tolist()}")
        if not (matrix[0, 0] > 0 and matrix[1, 1] > 0 and np.allclose(matrix[2], (0, 0, 1))):
            raise UserError(
                f"not a camera matrix: {matrix.tolist()}",
                fix="expected fx, 0, cx, 0, fy, cy, 0, 0, 1",
            )
        counts = DISTORTION_COUNTS[self.model]
        if len(distortion) not in counts or not np.isfinite(distortion).all():
            raise UserError(
                f"{len(distortion)} distortion coefficients {distortion} for a {self.model} lens",
                fix=f"it takes {' or '.join(map(str, counts))} finite numbers",
            )
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "distortion", distortion)

    def describe(self) -> dict[str, Any]:
        """As JSON values, for manifests."""
        return {"model": self.model, "matrix": self.matrix.tolist(), "distortion": list(self.distortion)}


@dataclass(frozen=True, eq=False)
class StereoCalibration:
    """Two cameras of one rig.

    Args:
        left, right: the cameras whose images a source gives as left and right view.
        rotation: 3×3, from the left camera's frame into the right one's.
        translation: 3 metres; `x_right = rotation @ x_left + translation`.
        size: (H, W) px of the calibrated images; None when the file does not tell.

    Raises:
        UserError: the rotation is none, or the baseline is zero or not in metres.
    """

    left: CameraModel
    right: CameraModel
    rotation: Matrix
    translation: Matrix
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        rotation = np.asarray(self.rotation, np.float64)
        translation = np.asarray(self.translation, np.float64).reshape(-1)
        if rotation.shape != (3, 3) or not np.isfinite(rotation).all():
            raise UserError(f"the rotation must be 3x3 finite numbers, this one is {rotation.tolist()}")
        off = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
        if off > ROTATION_TOLERANCE or np.linalg.det(rotation) < 0:
            raise UserError(
                f"not a rotation: R Rᵀ differs from the identity by {off:.2g}, det R = {np.linalg.det(rotation):.3f}",
                fix="expected the 3x3 rotation from the left camera's frame to the right one's",
            )
        if translation.shape != (3,) or not np.isfinite(translation).all():
            raise UserError(f"the translation must be 3 finite numbers, this one is {translation.tolist()}")
        baseline_m = float(np.linalg.norm(translation))
        if not 0 < baseline_m <= LARGEST_BASELINE_M:
            raise UserError(
                f"the cameras are {baseline_m:g} m apart, not between 0 and {LARGEST_BASELINE_M:g} m",
                fix="write the translation in metres; OpenCV's calibration gives it in units of the board",
            )
        if self.size is not None and min(self.size) < 1:
            raise UserError(f"the image size {self.size[0]}x{self.size[1]} (height x width) is not positive")
        # The nearest true rotation, so that rounding in the file does not shear the images.
        u, _, vt = np.linalg.svd(rotation)
        object.__setattr__(self, "rotation", u @ vt)
        object.__setattr__(self, "translation", translation)

    @property
    def baseline_m(self) -> float:
        """Distance of the two cameras, metres, always positive."""
        return float(np.linalg.norm(self.translation))

    @property
    def right_stands_at(self) -> Matrix:
        """Centre of the right camera in the left camera's frame, metres: 3."""
        return -self.rotation.T @ self.translation

    @property
    def right_first(self) -> bool:
        """Whether the camera called left stands to the right of the other one."""
        return bool(self.right_stands_at[0] < 0)

    def swapped(self) -> StereoCalibration:
        """The same rig with left and right exchanged."""
        rotation = self.rotation.T
        return StereoCalibration(self.right, self.left, rotation, -rotation @ self.translation, self.size)

    def describe(self) -> dict[str, Any]:
        """As JSON values, for manifests."""
        return {
            "left": self.left.describe(),
            "right": self.right.describe(),
            "rotation": self.rotation.tolist(),
            "translation_m": self.translation.tolist(),
            "size": list(self.size) if self.size else None,
        }
