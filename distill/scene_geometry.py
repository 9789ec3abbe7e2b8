"""Surfaces of procedural scenes, cameras, and the closed forms by which a pixel meets a surface.

Every surface is a flat patch, a patch with waves on it, or a quadric (ellipsoid, cylinder, cone, bowl) posed in the
world. A pixel's ray is r = (x', y', 1) in camera axes, a point on it X = r / w with w the inverse depth. In these terms
a plane is *affine* in the pixel, w = a x + b y + c, a quadric is a quadratic equation in w, and waves take a few Newton
steps from the plane; the same for either eye. Disparity is focal × baseline × w. The unit of length is the baseline;
axes are x right, y down, z forward.
This file is numpy in float64 on a few hundred rows; `distill.scene_fragments` evaluates the rows per pixel with torch.

Shape legend: S surfaces, V views, I items (a surface seen by a view).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FLAT, QUADRIC, WAVY = 0, 1, 2
WAVES = 2


@dataclasses.dataclass
class Surfaces:
    """Surfaces of all scenes of a batch, one row each.

    Args:
        scene: (S,) which scene the surface belongs to.
        thing: (S,) which object of the batch it is part of; objects have one material.
        kind: (S,) FLAT, QUADRIC or WAVY.
        centre: (S, 3) in the world.
        rotation: (S, 3, 3), rows are the local unit axes in the world; the third is a flat patch's normal.
        half: (S, 3) half extents along them; infinite for unbounded planes.
        cut: (S,) silhouette of a flat patch, see `distill.scene_shapes`; 0 is the full rectangle.
        bend: (S, 3) coefficients (m, l, k) of a quadric p1² + p2² + m p3² + l p3 = k, |p3| <= 1, in units of `half`.
        waves: (S, WAVES, 4) relief of a WAVY patch along its normal, the sum of a sin(k1 p1 + k2 p2 + phase) with rows
            (k1, k2, phase, a): p in units of `half`, a in world units.
        outward: (S,) bool, flat and seen only from where its normal points: faces of closed bodies.
    """

    scene: Ints
    thing: Ints
    kind: Ints
    centre: Floats
    rotation: Floats
    half: Floats
    cut: Ints
    bend: Floats
    waves: Floats
    outward: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.scene)


def join(parts: list[Surfaces]) -> Surfaces:
    """Concatenate rows."""
    names = [field.name for field in dataclasses.fields(Surfaces)]
    return Surfaces(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def flat(
    scene: Ints, thing: Ints, centre: Floats, rotation: Floats, half: Floats, *,
    cut: Ints | None = None, waves: Floats | None = None,
) -> Surfaces:  # fmt: skip
    """Flat patches, or wavy ones; `half` is (S, 2)."""
    count = len(scene)
    half3 = np.concatenate([half, np.ones((count, 1))], 1)
    cut = np.zeros(count, np.int64) if cut is None else cut
    kind = np.full(count, FLAT if waves is None else WAVY)
    waves = np.zeros((count, WAVES, 4)) if waves is None else waves
    outward = np.zeros(count, np.bool_)
    return Surfaces(scene, thing, kind, centre, rotation, half3, cut, np.zeros((count, 3)), waves, outward)


def quadrics(scene: Ints, thing: Ints, centre: Floats, rotation: Floats, half: Floats, bend: Floats) -> Surfaces:
    """Quadrics with half extents (S, 3) and one bend for all, (3,); `BENDS` names some."""
    count = len(scene)
    kind, cut = np.full(count, QUADRIC), np.zeros(count, np.int64)
    bends = np.tile(np.asarray(bend, np.float64), (count, 1))
    waves, outward = np.zeros((count, WAVES, 4)), np.zeros(count, np.bool_)
    return Surfaces(scene, thing, kind, centre, rotation, half, cut, bends, waves, outward)


# Radius against the third coordinate p: 1; sqrt(1 - p²); (1 + p) / 2; sqrt((1 + p) / 2); sqrt((1 + p²) / 2).
BENDS = {
    "cylinder": np.array([0.0, 0.0, 1.0]),
    "ellipsoid": np.array([1.0, 0.0, 1.0]),
    "cone": np.array([-0.25, -0.5, 0.25]),
    "bowl": np.array([0.0, -0.5, 0.5]),
    "spool": np.array([-0.5, 0.0, 0.5]),
}


def box_faces(scene: Ints, thing: Ints, centre: Floats, rotation: Floats, half: Floats) -> Surfaces:
    """The six faces of boxes with half extents (S, 3)."""
    parts = []
    for axis in range(3):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        for sign in (-1.0, 1.0):
            turned = rotation[:, [first, second, axis]] * np.array([1.0, 1.0, sign])[:, None]
            middle = centre + half[:, axis, None] * turned[:, 2]
            face = flat(scene, thing, middle, turned, half[:, [first, second]])
            parts.append(dataclasses.replace(face, outward=np.ones(len(scene), np.bool_)))
    return join(parts)


@dataclasses.dataclass
class Cameras:
    """Pinhole cameras of one size; view v sees scene v.

    Args:
        focal: (V,) pixels.
        centre_x, centre_y: principal point, pixels; the centre of the first pixel is 0.
        rotation: (V, 3, 3) world to camera.
        translation: (V, 3) world to camera: X_camera = rotation X + translation.
    """

    focal: Floats
    centre_x: Floats
    centre_y: Floats
    rotation: Floats
    translation: Floats

    def scaled(self, factor: int) -> Cameras:
        """The same views with `factor` times as many pixels in each direction."""
        x, y = ((centre + 0.5) * factor - 0.5 for centre in (self.centre_x, self.centre_y))
        return dataclasses.replace(self, focal=self.focal * factor, centre_x=x, centre_y=y)

    def shifted(self, baseline: float) -> Cameras:
        """The cameras `baseline` to the right: the other eyes."""
        return dataclasses.replace(self, translation=self.translation - np.array([baseline, 0.0, 0.0]))


@dataclasses.dataclass
class Items:
    """Surfaces as seen by views: coefficients of the closed forms, one row each; see `project`.

    Args:
        view: (I,) index of the view.
        surface: (I,) index into the surfaces.
        kind: (I,) FLAT, QUADRIC or WAVY.
        rows: (I, 3, 3) affine functions of the pixel, coefficients of (x, y, 1). QUADRIC: the local ray direction q.
            FLAT, WAVY: q1, q2, and the inverse depth of the plane.
        constants: (I, 3) the local position e of the eye: a point at inverse depth w is p = e + q / w.
        window: (I, 4) pixels x0, y0, x1, y1 (exclusive) that contain the item; empty when it cannot be seen.
    """

    view: Ints
    surface: Ints
    kind: Ints
    rows: Floats
    constants: Floats
    window: Ints


def project(surfaces: Surfaces, cameras: Cameras, size: tuple[int, int], *, near: Floats) -> Items:
    """Coefficients of every surface in its scene's view.

    Args:
        surfaces: rows whose `scene` is an index into the cameras.
        cameras: one view per scene.
        size: (height, width) in pixels.
        near: (V,) nearest depth that is drawn.
    """
    view = surfaces.scene
    centre = np.einsum("sij,sj->si", cameras.rotation[view], surfaces.centre) + cameras.translation[view]
    axes = np.einsum("sij,skj->ski", cameras.rotation[view], surfaces.rotation)  # rows, in camera axes
    finite_half = np.where(np.isfinite(surfaces.half), surfaces.half, 1.0)
    scaled = axes / finite_half[..., None]
    eye = -np.einsum("sij,sj->si", scaled, centre)
    is_flat = surfaces.kind != QUADRIC
    facing = np.where(is_flat & (np.abs(eye[:, 2]) > 1e-9), -eye[:, 2], 1.0)
    rows = scaled.copy()
    rows[is_flat, 2] /= facing[is_flat, None]
    window = windows(centre, axes, surfaces, cameras, size, near=near)
    window[surfaces.outward & (eye[:, 2] <= 0)] = 0
    return Items(view, np.arange(len(view)), surfaces.kind, by_pixel(rows, cameras, view), eye, window)


def by_pixel(rows: Floats, cameras: Cameras, view: Ints) -> Floats:
    """Turn linear functions of the ray (x', y', 1) into affine functions of the pixel (x, y, 1)."""
    focal = cameras.focal[view, None]
    across, down = rows[..., 0] / focal, rows[..., 1] / focal
    constant = rows[..., 2] - across * cameras.centre_x[view, None] - down * cameras.centre_y[view, None]
    return np.stack([across, down, constant], -1)


def windows(
    centre: Floats, axes: Floats, surfaces: Surfaces, cameras: Cameras, size: tuple[int, int], *, near: Floats
) -> Ints:
    """Bounding boxes (S, 4) of surfaces in the image: x0, y0, x1, y1; the whole image where a corner passes the eye."""
    height, width = size
    view = surfaces.scene
    bounded = np.isfinite(surfaces.half).all(1)
    half = np.where(np.isfinite(surfaces.half), surfaces.half, 0.0)
    half[surfaces.kind != QUADRIC, 2] = np.abs(surfaces.waves[..., 3]).sum(1)[surfaces.kind != QUADRIC]
    signs = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1], indexing="ij"), -1).reshape(8, 3)
    corners = centre[:, None] + np.einsum("ck,sk,ski->sci", signs, half, axes)
    points = in_front(corners, near[view])
    x = points[..., 0] / points[..., 2] * cameras.focal[view, None] + cameras.centre_x[view, None]
    y = points[..., 1] / points[..., 2] * cameras.focal[view, None] + cameras.centre_y[view, None]
    x, y = np.clip(x, -1e6, 1e6), np.clip(y, -1e6, 1e6)
    box = np.stack([np.floor(x.min(1)), np.floor(y.min(1)), np.ceil(x.max(1)) + 1, np.ceil(y.max(1)) + 1], -1)
    box[~bounded] = (0, 0, width, height)
    box = np.clip(box, 0, [width, height, width, height]).astype(np.int64)
    box[bounded & (corners[..., 2].max(1) < near[view])] = 0
    return box


def in_front(corners: Floats, near: Floats) -> Floats:
    """Points (S, P, 3) whose projections enclose the part of each box (S, 8, 3) that is farther than `near` (S,).

    Corners that are too near are replaced by the points where the lines to the other corners pass the limit.
    """
    depth, limit = corners[..., 2], near[:, None]
    if (depth >= limit).all():
        return corners
    # From each corner towards each other one, as far as the limit; corners beyond it stay where they are.
    start, end = corners[:, :, None], corners[:, None]
    rise = end[..., 2] - start[..., 2]
    crosses = (start[..., 2] < near[:, None, None]) & (end[..., 2] >= near[:, None, None])
    share = np.where(crosses, (near[:, None, None] - start[..., 2]) / np.where(crosses, rise, 1.0), 0.0)
    points = (start + share[..., None] * (end - start)).reshape(len(corners), -1, 3)
    usable = points[..., 2] >= limit * (1 - 1e-9)
    # What cannot be used is put where a usable point already is, so that it does not widen the box.
    first = np.take_along_axis(points, usable.argmax(1)[:, None, None], 1)
    points = np.where(usable[..., None], points, first)
    points[..., 2] = np.maximum(points[..., 2], limit)
    return points
