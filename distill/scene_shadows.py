"""Shadows that objects cast: a depth map seen from the light, looked up for every pixel's point in the world.

The light is a distant camera; `distill.scene_raster` sees through it as through any other. A shadow is a function of
the point in the world alone, so both eyes see the same one. Stage planes cast none: they would put all in the dark.

Shape legend: B scenes, V views, P pixels of one view.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from distill.scene_geometry import Cameras, Floats, Surfaces, by_pixel, project
from distill.scene_raster import Visible, cast
from distill.scene_textures import Bank

MAP_SIZE = 256
# The light stands this many radii of the lit region away: far enough for nearly parallel rays.
LIGHT_DISTANCE = 12.0
# A point is in shadow when the light meets something this much nearer, in radii of the region; then it darkens fully
# over the same length again. Less would let surfaces shade themselves through the coarseness of the map.
BIAS = 0.02
# Shadows end this many radii behind the middle of the region.
FADE = 3.0


@dataclasses.dataclass
class ShadowMaps:
    """Shadows of a batch, on the render device.

    Args:
        depth: (B, MAP_SIZE²) distance from the light at which it meets something.
        rows: (V, 3, 3) light coordinates by pixel, times inverse depth, without their constants.
        constants: (V, 3).
        slope: (B,) darkening per unit of distance behind the first surface.
        strength: share of the light that a shadow takes away, per scene.
    """

    depth: torch.Tensor
    rows: torch.Tensor
    constants: torch.Tensor
    slope: torch.Tensor
    strength: list[float]


def light_cameras(direction: Floats, middle: Floats, radius: Floats) -> Cameras:
    """Cameras (B) far towards the light that see the ball of `radius` (B,) around `middle` (B, 3)."""
    forward = -direction
    side = np.cross(np.where(np.abs(forward[:, 1:2]) < 0.9, [[0.0, 1, 0]], [[1.0, 0, 0]]), forward)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    rotation = np.stack([side, np.cross(forward, side), forward], 1).astype(np.float64)
    eye = middle - LIGHT_DISTANCE * radius[:, None] * forward
    focal = np.full(len(radius), MAP_SIZE / 2 * LIGHT_DISTANCE)
    centre = np.full(len(radius), (MAP_SIZE - 1) / 2)
    return Cameras(focal, centre, centre, rotation, -np.einsum("bij,bj->bi", rotation, eye))


def casting(surfaces: Surfaces, strength: Floats) -> Surfaces:
    """The surfaces that cast shadows, and each scene's sky, which visibility needs."""
    sky = np.isin(np.arange(len(surfaces)), np.unique(surfaces.scene, return_index=True)[1])
    chosen = (np.isfinite(surfaces.half).all(1) & (strength[surfaces.scene] > 0)) | sky
    return Surfaces(**{name: value[chosen] for name, value in vars(surfaces).items()})


def draw_shadows(
    surfaces: Surfaces, direction: Floats, strength: Floats, cameras: Cameras, reach: Floats, bank: Bank
) -> ShadowMaps:
    """Shadow maps of all scenes.

    Args:
        surfaces: of all scenes.
        direction: (B, 3) towards the light.
        strength: (B,) share of light that a shadow takes away.
        cameras: the views (V) that will look them up; view v sees scene v modulo B.
        reach: (B,) depth up to which the views' surroundings get shadows.
        bank: silhouettes.
    """
    scenes = len(reach)
    # The ball just before the left eye, in the world.
    ahead = np.array([0.0, 0.0, 1.0]) * reach[:, None] * 0.5 - cameras.translation[:scenes]
    middle = np.einsum("bji,bj->bi", cameras.rotation[:scenes], ahead)
    radius = 0.75 * reach
    lights = light_cameras(direction, middle, radius)
    near = (LIGHT_DISTANCE - 3) * radius
    casters = casting(surfaces, strength)
    size = (MAP_SIZE, MAP_SIZE)
    visible, _ = cast(project(casters, lights, size, near=near), casters, bank, size, views=scenes, near=near)
    device = visible.item.device
    rows, constants = by_view(lights, cameras)
    floats = [
        torch.as_tensor(value, dtype=torch.float32, device=device) for value in (rows, constants, 1 / (BIAS * radius))
    ]
    return ShadowMaps(depth_of(visible, near), *floats, strength=strength.tolist())


def depth_of(visible: Visible, near: Floats) -> torch.Tensor:
    """Distances (B, H·W) from the light; what it meets nowhere is as far as ten times the region."""
    far = torch.as_tensor(near * 10, dtype=torch.float32, device=visible.item.device)[:, None, None]
    positive = visible.inverse_depth > 0
    depth = torch.where(positive, visible.inverse_depth.clamp(min=1e-12).reciprocal(), far)
    return torch.minimum(depth, far).flatten(1)


def by_view(lights: Cameras, cameras: Cameras) -> tuple[Floats, Floats]:
    """Rows (V, 3, 3) and constants (V, 3) that take a view's pixel to map coordinates in [-1, 1] × depth, and depth."""
    scene = np.arange(len(cameras.focal)) % len(lights.focal)
    turn = np.einsum("vij,vkj->vik", lights.rotation[scene], cameras.rotation)
    shift = lights.translation[scene] - np.einsum("vij,vj->vi", turn, cameras.translation)
    scale = np.stack([lights.focal, lights.focal, np.full(len(lights.focal), MAP_SIZE / 2)], 1)[scene] * 2 / MAP_SIZE
    rows, constants = turn * scale[..., None], shift * scale
    return by_pixel(rows, cameras, np.arange(len(scene))), constants


def darken(
    light: torch.Tensor, maps: ShadowMaps, view: int, x: torch.Tensor, y: torch.Tensor, inverse: torch.Tensor
) -> None:
    """Take away, in place, the light (P,) that shadows keep from the points of pixels x, y of one view.

    Args:
        inverse: (P,) depth of the points.
    """
    scene = view % len(maps.strength)
    if maps.strength[scene] == 0:
        return
    place = [
        (row[0] * x).addcmul_(row[1].expand_as(y), y).add_(row[2]).mul_(inverse).add_(constant)
        for row, constant in zip(maps.rows[view], maps.constants[view], strict=True)
    ]
    depth = place[2]
    across, down = place[0] / depth, place[1] / depth
    # Outside the map nothing is known, and far behind the region it is too coarse: there shadows fade.
    edge = torch.maximum(across.abs(), down.abs()).sub_(0.9).mul_(10)
    beyond = (depth * (BIAS * maps.slope[scene])).sub_(LIGHT_DISTANCE + FADE)
    keep = torch.maximum(edge, beyond).clamp_(0, 1).sub_(1)
    behind = share_behind(maps.depth[scene], across, down, depth, maps.slope[scene])
    light.mul_(behind.mul_(keep).mul_(maps.strength[scene]).add_(1))


def share_behind(
    first: torch.Tensor, across: torch.Tensor, down: torch.Tensor, depth: torch.Tensor, slope: torch.Tensor
) -> torch.Tensor:
    """How much of each point (P,) lies in shadow: the answers of the four nearest texels, interpolated.

    Interpolating depths instead would mix an object's depth with that behind it, and give jagged edges.

    Args:
        first: (MAP_SIZE²,) distance at which the light ends.
        across, down: (P,) place in the map, in [-1, 1] inside.
        depth: (P,) distance from the light.
        slope: darkening per unit of distance behind.
    """
    x, y = ((p + 1).mul_(MAP_SIZE / 2).sub_(0.5).clamp_(0, MAP_SIZE - 1.001) for p in (across, down))
    x0, y0 = x.floor(), y.floor()
    texel = (y0 * MAP_SIZE + x0).long()
    x, y = x.sub_(x0), y.sub_(y0)
    part = [
        (depth - first.index_select(0, texel + step)).mul_(slope).sub_(1).clamp_(0, 1)
        for step in (0, 1, MAP_SIZE, MAP_SIZE + 1)
    ]
    return torch.lerp(torch.lerp(part[0], part[1], x), torch.lerp(part[2], part[3], x), y)
