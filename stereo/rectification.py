"""Rectification: images of two calibrated cameras become a pair whose matching points share their row.

Both cameras are turned half of their relative rotation (Bouguet), then together until the baseline lies along the
rows; after that they share one ideal pinhole camera. Its focal length is the shortest at which no pixel of either
view looks past the edge of its image, so that rectified views have no black borders.

    # H height, W width
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from stereo.calibration_model import CameraModel, Matrix, StereoCalibration
from stereo.errors import UserError
from stereo.pair import Image, Rig, StereoPair

# A pinhole image of a wider view would spend most of its pixels on smeared edges.
WIDEST_VIEW_DEG = 120.0
# How finely the edge of a view, and the way to it from the centre, are sampled when its visibility is checked.
EDGE_POINTS, STEPS_INWARD = 33, 16
# Positions are rounded to this in cv2.remap's maps; a view that ends exactly at the edge would be rounded beyond it.
MAP_STEP_PX = 1 / 32
# More magnification than this means that the views hardly overlap.
LARGEST_MAGNIFICATION = 3.0

Maps = tuple[npt.NDArray[np.int16], npt.NDArray[np.uint16]]


def rotation_vector(rotation: Matrix) -> Matrix:
    """Axis times angle in radians (3) of a rotation (3×3)."""
    return np.asarray(cv2.Rodrigues(rotation)[0], np.float64).reshape(3)


def rotation_by(vector: Matrix) -> Matrix:
    """The rotation (3×3) about a vector by its length in radians."""
    return np.asarray(cv2.Rodrigues(vector)[0], np.float64)


def half_rotations(calibration: StereoCalibration) -> tuple[Matrix, Matrix]:
    """Rotations (3×3) from each camera's frame into its rectified frame.

    Raises:
        UserError: the cameras stand above each other.
    """
    half = rotation_by(rotation_vector(calibration.rotation) / 2)
    # In this frame in the middle, the way from the left to the right camera.
    baseline = -half.T @ calibration.translation
    x, y, z = baseline / np.linalg.norm(baseline)
    if abs(y) > abs(x):
        raise UserError(
            f"the right camera stands {math.degrees(math.atan2(abs(y), abs(x))):.0f}° off the rows of the left one",
            fix="turn the images of a vertical rig by 90° and calibrate with those",
        )
    axis = np.cross((x, y, z), (1.0, 0.0, 0.0))
    sine = float(np.linalg.norm(axis))
    turn = np.eye(3) if sine == 0 else rotation_by(axis / sine * math.atan2(sine, x))
    return turn @ half, turn @ half.T


def project(camera: CameraModel, rays: Matrix) -> Matrix:
    """Where rays in the camera's frame (N×3) meet its image: N×2 px. Rays from behind meet it nowhere: NaN."""
    points = np.ascontiguousarray(rays).reshape(-1, 1, 3)
    origin, distortion = np.zeros(3), np.asarray(camera.distortion, np.float64)
    if camera.model == "fisheye":
        pixels, _ = cv2.fisheye.projectPoints(points, origin, origin, camera.matrix, distortion)
    else:
        pixels, _ = cv2.projectPoints(points, origin, origin, camera.matrix, distortion)
    pixels = np.asarray(pixels, np.float64).reshape(-1, 2)
    return np.where(rays[:, 2:] > 0, pixels, np.nan)


def centre_direction(camera: CameraModel, rotation: Matrix, size: tuple[int, int]) -> Matrix:
    """(x, y) at depth 1, in the rectified frame, of what the centre of a camera's image (H, W) shows."""
    centre = np.array([[[(size[1] - 1) / 2, (size[0] - 1) / 2]]])
    undistort = cv2.fisheye.undistortPoints if camera.model == "fisheye" else cv2.undistortPoints
    x, y = np.asarray(undistort(centre, camera.matrix, np.asarray(camera.distortion, np.float64))).reshape(2)
    ray = rotation @ np.array([x, y, 1.0])
    return ray[:2] / ray[2]


def rays_inward(size: tuple[int, int]) -> Matrix:
    """Points of a view (H, W) on the lines from its centre to its edge: STEPS_INWARD × N × 2, px from the centre."""
    half_height, half_width = (size[0] - 1) / 2, (size[1] - 1) / 2
    along = np.linspace(-1, 1, EDGE_POINTS)
    ones = np.ones_like(along)
    edge = np.concatenate(
        [np.stack(side, 1) for side in ((along, -ones), (along, ones), (-ones, along), (ones, along))]
    )
    return np.linspace(0, 1, STEPS_INWARD + 1)[1:, None, None] * edge * (half_width, half_height)


def looks_inside(camera: CameraModel, rotation: Matrix, size: tuple[int, int], focal_px: float, centre: Matrix) -> bool:
    """Whether a camera's image (H, W) holds everything that a rectified view of this focal length shows.

    Beyond some radius a distortion polynomial turns back into the image; that is found by following lines outwards.
    """
    offsets = rays_inward(size)
    rays = np.concatenate([offsets / focal_px + centre, np.ones((*offsets.shape[:2], 1))], axis=2)
    pixels = project(camera, rays.reshape(-1, 3) @ rotation).reshape(offsets.shape)
    inside = (pixels >= MAP_STEP_PX) & (pixels <= (size[1] - 1 - MAP_STEP_PX, size[0] - 1 - MAP_STEP_PX))
    from_centre = np.linalg.norm(pixels - pixels[0].mean(axis=0), axis=2)
    return bool(inside.all() and (np.diff(from_centre[1:], axis=0) > 0).all())


def shortest_focal(
    cameras: tuple[CameraModel, CameraModel], rotations: tuple[Matrix, Matrix], size: tuple[int, int], centre: Matrix
) -> float:
    """The shortest focal length, px, at which both rectified views see only what their cameras see.

    Raises:
        UserError: there is none, because the cameras look in different directions.
    """

    def visible(focal_px: float) -> bool:
        return all(
            looks_inside(camera, rotation, size, focal_px, centre)
            for camera, rotation in zip(cameras, rotations, strict=True)
        )

    low = (size[1] - 1) / 2 / math.tan(math.radians(WIDEST_VIEW_DEG / 2))
    high = LARGEST_MAGNIFICATION * max(float(camera.matrix[0, 0]) for camera in cameras)
    if not visible(high):
        apart = math.degrees(math.acos(np.clip((rotations[0].T @ rotations[1])[2, 2], -1, 1)))
        raise UserError(
            f"the views hardly overlap after rectification: by the calibration the cameras look {apart:.1f}° apart",
            fix="check rotation and distortion, and that the calibration is of these cameras at this image size",
        )
    if visible(low):
        return low
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (low, middle) if visible(middle) else (middle, high)
    return high


class Rectifier:
    """Rectifies the pairs of one rig; its maps are computed once.

    When the calibration's first camera stands to the right of its second, the views are exchanged, so that the left
    view of the result is always the left one.

    Args:
        calibration: of the rig; its left camera took the pairs' left images.
        size: (H, W) px of the images.

    Raises:
        UserError: another size than the calibration's, or a rig that cannot be rectified.
    """

    def __init__(self, calibration: StereoCalibration, size: tuple[int, int]) -> None:
        if calibration.size is not None and calibration.size != size:
            raise UserError(
                f"the images have {size[1]}x{size[0]} px, the calibration is for "
                f"{calibration.size[1]}x{calibration.size[0]} (width x height)",
                fix="calibrate at the size of the images, or give the images at full size",
            )
        self.exchanges_views = calibration.right_first
        self.calibration = calibration.swapped() if self.exchanges_views else calibration
        self.size = size
        cameras = self.calibration.left, self.calibration.right
        rotations = half_rotations(self.calibration)
        directions = [centre_direction(camera, turn, size) for camera, turn in zip(cameras, rotations, strict=True)]
        centre = np.mean(directions, axis=0)
        focal_px = shortest_focal(cameras, rotations, size, centre)
        cx, cy = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2]) - focal_px * centre
        self.rig = Rig(focal_px, self.calibration.baseline_m, cx=float(cx), cy=float(cy))
        ideal = np.array([[focal_px, 0, cx], [0, focal_px, cy], [0, 0, 1]])
        self._maps = [pixel_maps(camera, turn, ideal, size) for camera, turn in zip(cameras, rotations, strict=True)]

    def apply(self, pair: StereoPair) -> StereoPair:
        """The rectified pair, with its rig. What the unrectified pair knew about disparity is dropped.

        Raises:
            UserError: the pair has another size.
        """
        if (pair.height, pair.width) != self.size:
            raise UserError(
                f"the images have {pair.width}x{pair.height} px, the first ones had {self.size[1]}x{self.size[0]}",
                where=pair.name,
                fix="one calibration serves images of one size",
            )
        views = (pair.right, pair.left) if self.exchanges_views else (pair.left, pair.right)
        left, right = (resample(view, maps) for view, maps in zip(views, self._maps, strict=True))
        return StereoPair(left, right, pair.name, rig=self.rig)

    def describe(self) -> dict[str, Any]:
        """What was done, as JSON values, for manifests."""
        turn = rotation_vector(self.calibration.rotation)
        return {
            "calibration": self.calibration.describe(),
            "views_exchanged": self.exchanges_views,
            "size": list(self.size),
            "focal_px": self.rig.focal_px,
            "principal_point_px": [self.rig.cx, self.rig.cy],
            "baseline_m": self.rig.baseline_m,
            "horizontal_view_deg": 2 * math.degrees(math.atan(self.size[1] / 2 / self.rig.focal_px)),
            "rotation_between_deg": math.degrees(float(np.linalg.norm(turn))),
        }


def pixel_maps(camera: CameraModel, rotation: Matrix, ideal: Matrix, size: tuple[int, int]) -> Maps:
    """Where each pixel of a rectified view (H, W) is taken from, in cv2.remap's fixed-point form (1/32 px)."""
    distortion = np.asarray(camera.distortion, np.float64)
    build = cv2.fisheye.initUndistortRectifyMap if camera.model == "fisheye" else cv2.initUndistortRectifyMap
    first, second = build(camera.matrix, distortion, rotation, ideal, size[::-1], cv2.CV_16SC2)
    return np.asarray(first, np.int16), np.asarray(second, np.uint16)


def resample(image: Image, maps: Maps) -> Image:
    """Take an image's pixels by `pixel_maps`, linearly interpolated: uint8 H×W×3."""
    return cv2.remap(image, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT).astype(np.uint8, copy=False)
