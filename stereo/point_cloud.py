"""Points in space from a disparity map, and the PLY file that viewers open.

Coordinates are those of the left camera, in metres: x to the right, y down, z forward. PLY is binary, little-endian,
one vertex of x y z (float) and red green blue (uchar) per point.
http://paulbourke.net/dataformats/ply/

    # H height, W width, N points
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stereo.artifacts import write_bytes
from stereo.errors import UserError
from stereo.pair import Disparity, Image, Rig

VERTEX = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")],
)
PLY_TYPES = {"<f4": "float", "|u1": "uchar"}


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Coloured points.

    Args:
        points_m: float32 N×3, x y z in the left camera's frame.
        colours: uint8 N×3, RGB.
    """

    points_m: npt.NDArray[np.float32]
    colours: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.points_m)


def principal_point(rig: Rig, height: int, width: int) -> tuple[float, float]:
    """(cx, cy) px of the left view: the rig's, and the image's centre for what it does not know."""
    return (
        (width - 1) / 2 if rig.cx is None else rig.cx,
        (height - 1) / 2 if rig.cy is None else rig.cy,
    )


def point_cloud(rig: Rig, disparity: Disparity, colours: Image, *, max_depth_m: float | None = None) -> PointCloud:
    """Back-project each pixel that has a depth, row by row.

    z = focal_px · baseline_m / (disparity + doffs_px), x = (u - cx) · z / focal_px, y = (v - cy) · z / focal_px.
    Left out are pixels without disparity, at or behind infinity, and beyond max_depth_m.

    Args:
        rig: of the left view at this size; pixels are square.
        disparity: float32 H×W px, NaN where there is none.
        colours: uint8 H×W×3 RGB, the left view.
        max_depth_m: the farthest point that is kept; None keeps all.

    Raises:
        UserError: sizes differ, or the limit is not positive.
    """
    if colours.shape[:2] != disparity.shape:
        raise UserError(f"the colours are {colours.shape[:2]} but the disparity {disparity.shape}",
                        fix="give the left view that the disparity belongs to")  # fmt: skip
    if max_depth_m is not None and not max_depth_m > 0:
        raise UserError(f"{max_depth_m:g} m is no depth", where="--max-depth-m", fix="give a positive number")
    depth_m = rig.depth_m(disparity)
    kept = np.isfinite(depth_m) & (depth_m <= (np.inf if max_depth_m is None else max_depth_m))
    rows, columns = np.nonzero(kept)
    cx, cy = principal_point(rig, *disparity.shape)
    z = depth_m[kept].astype(np.float64)
    points = np.stack([(columns - cx) * z / rig.focal_px, (rows - cy) * z / rig.focal_px, z], axis=1)
    return PointCloud(points.astype(np.float32), colours[kept])


def ply_bytes(cloud: PointCloud) -> bytes:
    """The cloud as a PLY file."""
    vertices = np.empty(len(cloud), VERTEX)
    for axis, name in enumerate(("x", "y", "z")):
        vertices[name] = cloud.points_m[:, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        vertices[name] = cloud.colours[:, channel]
    header = [
        "ply",
        "format binary_little_endian 1.0",
        "comment left camera frame, metres: x right, y down, z forward",
        f"element vertex {len(cloud)}",
        *(f"property {PLY_TYPES[VERTEX[name].str]} {name}" for name in VERTEX.names or ()),
        "end_header",
    ]
    return "\n".join(header).encode("ascii") + b"\n" + vertices.tobytes()


def write_ply(path: Path | str, cloud: PointCloud) -> None:
    """Write a PLY file atomically."""
    write_bytes(path, ply_bytes(cloud))
