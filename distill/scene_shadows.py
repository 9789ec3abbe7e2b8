"""Shadows that objects cast: a depth map seen from the light, looked up for every pixel's point in the world.

The light is a distant camera; `distill.scene_raster` sees through it as through any other. A shadow is a function of
the point in the world alone, so both eyes see the same one. Stage planes cast none: they would put all in the dark.

Shape legend: B scenes, S surfaces, V views.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray

from distill.scene_device import send
from distill.scene_geometry import Cameras, Floats, Surfaces, by_pixel, project
from distill.scene_lights import Lights
from distill.scene_pixels import Pixels
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
        depth: (B · MAP_SIZE²,) distance from the light at which it meets something.
        table: (V, 14) of the views: light coordinates by pixel (0–8) times inverse depth, their constants (9–11),
            darkening per unit of distance behind the first surface (12), share of light that a shadow takes away (13).
        first: (V, 1) where a view's map begins.
    """

    depth: torch.Tensor
    table: torch.Tensor
    first: torch.Tensor


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


def casting(surfaces: Surfaces, strength: Floats, clear: NDArray[np.bool_]) -> Surfaces:
    """The surfaces that cast shadows, and each scene's sky, which visibility needs; what is `clear` (S,) casts none."""
    sky = np.isin(np.arange(len(surfaces)), np.unique(surfaces.scene, return_index=True)[1])
    chosen = (np.isfinite(surfaces.half).all(1) & (strength[surfaces.scene] > 0) & ~clear) | sky
    return Surfaces(**{name: value[chosen] for name, value in vars(surfaces).items()})


def draw_shadows(
    surfaces: Surfaces, clear: NDArray[np.bool_], lights: Lights, cameras: Cameras, bank: Bank
) -> ShadowMaps | None:
    """Shadow maps of all scenes, or None where none has shadows.

    Args:
        surfaces: of all scenes.
        clear: (S,) which of them let light through.
        lights: of all scenes.
        cameras: the views (V) that will look them up; view v sees scene v modulo B.
        bank: silhouettes.
    """
    if not lights.shadows.any():
        return None
    scenes = len(lights.reach)
    # The ball just before the left eye, in the world.
    ahead = np.array([0.0, 0.0, 1.0]) * lights.reach[:, None] * 0.5 - cameras.translation[:scenes]
    middle = np.einsum("bji,bj->bi", cameras.rotation[:scenes], ahead)
    radius = 0.75 * lights.reach
    suns = light_cameras(lights.direction, middle, radius)
    near = (LIGHT_DISTANCE - 3) * radius
    casters = casting(surfaces, lights.shadows, clear)
    size = (MAP_SIZE, MAP_SIZE)
    visible = cast(project(casters, suns, size, near=near), casters, bank, size, views=scenes, near=near).front
    device = visible.item.device
    scene = np.arange(len(cameras.focal)) % scenes
    rows, constants = by_view(suns, cameras)
    others = np.stack([1 / (BIAS * radius), lights.shadows], 1)[scene]
    table = np.concatenate([rows.reshape(-1, 9), constants, others], 1)
    first = send(scene[:, None] * MAP_SIZE**2, device, torch.int64)
    return ShadowMaps(depth_of(visible, near), send(table, device), first)


def depth_of(visible: Visible, near: Floats) -> torch.Tensor:
    """Distances (B · H · W,) from the light; what it meets nowhere is as far as ten times the region."""
    far = send(near * 10, visible.item.device)[:, None, None]
    positive = visible.inverse_depth > 0
    depth = torch.where(positive, visible.inverse_depth.clamp(min=1e-12).reciprocal(), far)
    return torch.minimum(depth, far).flatten()


def by_view(lights: Cameras, cameras: Cameras) -> tuple[Floats, Floats]:
    """Rows (V, 3, 3) and constants (V, 3) that take a view's pixel to map coordinates in [-1, 1] × depth, and depth."""
    scene = np.arange(len(cameras.focal)) % len(lights.focal)
    turn = np.einsum("vij,vkj->vik", lights.rotation[scene], cameras.rotation)
    shift = lights.translation[scene] - np.einsum("vij,vj->vi", turn, cameras.translation)
    scale = np.stack([lights.focal, lights.focal, np.full(len(lights.focal), MAP_SIZE / 2)], 1)[scene] * 2 / MAP_SIZE
    rows, constants = turn * scale[..., None], shift * scale
    return by_pixel(rows, cameras, np.arange(len(scene))), constants


def darken(light: torch.Tensor, maps: ShadowMaps | None, pixels: Pixels, inverse: torch.Tensor) -> None:
    """Take away, in place, the light that shadows keep from the points that pixels see.

    Args:
        light, inverse: of the pixels, `shaped`; depth of the points.
    """
    if maps is None:
        return
    table = pixels.per_view(maps.table)
    across, down, depth = (
        pixels.affine(table[3 * row : 3 * row + 3]).mul_(inverse).add_(table[9 + row]) for row in range(3)
    )
    across, down = across / depth, down / depth
    slope, strength = table[12], table[13]
    # Outside the map nothing is known, and far behind the region it is too coarse: there shadows fade.
    edge = torch.maximum(across.abs(), down.abs()).sub_(0.9).mul_(10)
    beyond = (depth * (BIAS * slope)).sub_(LIGHT_DISTANCE + FADE)
    keep = torch.maximum(edge, beyond).clamp_(0, 1).sub_(1)
    behind = share_behind(maps.depth, pixels.per_view(maps.first)[0], across, down, depth, slope)
    light.mul_(behind.mul_(keep).mul_(strength).add_(1))


def share_behind(
    maps: torch.Tensor, first: torch.Tensor, across: torch.Tensor, down: torch.Tensor, depth: torch.Tensor,
    slope: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """How much of each point (any shape) lies in shadow: the answers of the four nearest texels, interpolated.

    Interpolating depths instead would mix an object's depth with that behind it, and give jagged edges.

    Args:
        maps: (B · MAP_SIZE²,) distance at which the light ends.
        first: where the points' map begins.
        across, down: place in the map, in [-1, 1] inside.
        depth: distance from the light.
        slope: darkening per unit of distance behind.
    """
    x, y = ((p + 1).mul_(MAP_SIZE / 2).sub_(0.5).clamp_(0, MAP_SIZE - 1.001) for p in (across, down))
    x0, y0 = x.floor(), y.floor()
    texel = (y0 * MAP_SIZE + x0).long().add_(first).view(-1)
    x, y = x.sub_(x0), y.sub_(y0)
    part = [
        (depth - maps.index_select(0, texel + step).view_as(depth)).mul_(slope).sub_(1).clamp_(0, 1)
        for step in (0, 1, MAP_SIZE, MAP_SIZE + 1)
    ]
    return torch.lerp(torch.lerp(part[0], part[1], x), torch.lerp(part[2], part[3], x), y)
