"""Shadows that objects cast: a depth map seen from the light, looked up for every pixel's point in the world.

The light is a distant camera; `distill.scene_raster` sees through it as through any other. A shadow is a function of
the point in the world alone, so both eyes see the same one. Stage planes cast none: they would put all in the dark.

Shape legend: B scenes, V views, P pixels of one view.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch.nn import functional

from distill.scene_geometry import Cameras, Floats, Surfaces, by_pixel, project
from distill.scene_raster import Visible, cast
from distill.scene_textures import Bank

MAP_SIZE = 192
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
        depth: (B, 1, MAP_SIZE, MAP_SIZE) distance from the light, infinite where it meets nothing.
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
    """Distances (B, 1, H, W) from the light; what it meets nowhere is as far as ten times the region."""
    far = torch.as_tensor(near * 10, dtype=torch.float32, device=visible.item.device)[:, None, None]
    positive = visible.inverse_depth > 0
    depth = torch.where(positive, visible.inverse_depth.clamp(min=1e-12).reciprocal(), far)
    return torch.minimum(depth, far)[:, None]


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
    grid = torch.stack([place[0] / depth, place[1] / depth], -1)
    first = functional.grid_sample(
        maps.depth[scene][None], grid[None, None], padding_mode="border", align_corners=False
    )
    # Outside the map nothing is known, and far behind the region it is too coarse: there shadows fade.
    edge = grid.abs().amax(-1).sub_(0.9).mul_(10)
    beyond = (depth * (BIAS * maps.slope[scene])).sub_(LIGHT_DISTANCE + FADE)
    edge = torch.maximum(edge, beyond).clamp_(0, 1)
    behind = depth.sub_(first[0, 0, 0]).mul_(maps.slope[scene]).sub_(1).clamp_(0, 1)
    light.mul_(behind.mul_(1 - edge).mul_(-maps.strength[scene]).add_(1))
