"""What shading needs to know of every item and view, gathered on the host in float64 and sent to the render device.

Shape legend: T things (objects with one material), S surfaces, I items, V views.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from distill.scene_device import send
from distill.scene_geometry import FLAT, QUADRIC, Cameras, Floats, Items, Surfaces, by_pixel
from distill.scene_lights import Lights
from distill.scene_materials import Materials
from distill.scene_reflections import Mirrors, has_waves, mirror_table
from distill.scene_textures import TILE

# Brightness of a surface that faces the light: above 1, so that the average surface keeps about its own colour.
FULL_LIGHT = 1.2


@dataclasses.dataclass
class Tables:
    """What shading needs, on the render device; float32, one column per item or view.

    Args:
        plain: (21, I), see `plain_table`.
        curved, wavy: see `curved_table` and `wavy_table`.
        field: (V, 12) the slow changes of light by pixel, see `field_table`.
        opacity: (I,) share of what is behind that an item hides.
        mirrors: of the items that reflect, if any.
        patchy: whether a view has such changes at all.
    """

    plain: torch.Tensor
    curved: torch.Tensor
    wavy: torch.Tensor
    field: torch.Tensor
    opacity: torch.Tensor
    mirrors: Mirrors | None
    patchy: list[bool]


def make_tables(
    items: Items, surfaces: Surfaces, materials: Materials, lights: Lights, cameras: Cameras, device: torch.device
) -> Tables:
    """Tables for the views of `cameras`, which are the left views of all scenes and then their right views."""
    plain = plain_table(items, surfaces, materials, lights, cameras)
    left = plain.shape[1] // 2
    # The right eye takes the left eye's distance to a plane: its texture level then changes at the same surface point.
    plain[11, left:] = plain[11, :left]
    thing = surfaces.thing[items.surface]
    field = field_table(lights, cameras)
    arrays = plain, curved_table(items, surfaces, materials, lights), wavy_table(items, surfaces, lights), field
    mirrors = None
    mirror = materials.mirror[thing]
    if mirror.any():
        table = mirror_table(items, surfaces, lights.surroundings, cameras, materials.blur[thing], mirror)
        mirrors = Mirrors(send(mirror, device), send(table, device), has_waves(items, mirror))
    return Tables(
        *(send(array, device) for array in arrays),
        opacity=send(materials.opacity[thing], device), mirrors=mirrors, patchy=(field[:, 8] > 0).tolist(),
    )  # fmt: skip


def plain_table(items: Items, surfaces: Surfaces, materials: Materials, lights: Lights, cameras: Cameras) -> Floats:
    """Per item, (21, I): texture coordinates by pixel (0–7), texture numbers, level, detail (8–13), colours (14–19).

    The last is log2 of column 12.
    """
    own = items.surface
    thing, kind = surfaces.thing[own], items.kind
    scale, turn = 1 / materials.tile[thing], materials.turn[thing]
    half = np.where(np.isfinite(surfaces.half[own]), surfaces.half[own], 1.0)
    along, across = scale * np.cos(turn), scale * np.sin(turn)
    # On quadrics the coordinates are arc length around and length along the axis, found per pixel.
    bent = kind == QUADRIC
    length1 = np.where(bent, 0.5 * (half[:, 0] + half[:, 1]), half[:, 0])
    length2 = np.where(bent, half[:, 2], half[:, 1])
    turned = np.array([[along * length1, -across * length2], [across * length1, along * length2]])  # (2, 2, I)
    rows = np.einsum("abi,ibc->aci", turned, items.rows[:, :2]).reshape(6, -1)
    constants = np.einsum("abi,ib->ai", turned, items.constants[:, :2]) + materials.offset[thing].T
    rows[:, bent] = 0.0
    rows[:4, bent] = turned[..., bent].reshape(4, -1)
    constants[:, bent] = materials.offset[thing][bent].T
    level = np.log2(TILE * scale / cameras.focal[items.view])
    # The distance of a plane from the eye turns inverse depth into the cosine of the viewing angle.
    distance = np.where(bent, np.inf, np.abs(items.constants[:, 2]))
    light = np.where((kind == FLAT) & ~materials.shines[thing], flat_light(surfaces, lights)[own], 1.0)
    base = (materials.base[thing] * light[:, None]).T
    gain = (materials.gain[thing] * light[:, None]).T
    numbers = materials.texture[thing].T.astype(np.float64)
    others = [level, distance, materials.ratio[thing], materials.detail[thing]]
    return np.concatenate([rows, constants, numbers, others, base, gain, [np.log2(materials.ratio[thing])]])


def flat_light(surfaces: Surfaces, lights: Lights) -> Floats:
    """Brightness (S,) of flat patches: ambient plus Lambert, the same from both sides."""
    cosine = np.abs((surfaces.rotation[:, 2] * lights.direction[surfaces.scene]).sum(1))
    ambient = lights.ambient[surfaces.scene]
    return FULL_LIGHT * (ambient + (1 - ambient) * cosine)


def curved_table(items: Items, surfaces: Surfaces, materials: Materials, lights: Lights) -> Floats:
    """Per quadric, (22, I): ray (0–8) and eye (9–11), bend, light and scale in local axes (12–19), ambient, gloss."""
    own = items.surface
    scene = surfaces.scene[own]
    half = np.where(np.isfinite(surfaces.half[own]), surfaces.half[own], 1.0)
    towards = np.einsum("iab,ib->ia", surfaces.rotation[own], lights.direction[scene])
    return np.concatenate(
        [items.rows.reshape(-1, 9).T, items.constants.T, surfaces.bend[own, :2].T, towards.T, 1 / half.T,
         [lights.ambient[scene], materials.gloss[surfaces.thing[own]]]]
    )  # fmt: skip


def wavy_table(items: Items, surfaces: Surfaces, lights: Lights) -> Floats:
    """Per wavy patch, (26, I): rays (0–5), eye (6–7), 1 / half (8–9), light in local axes (10–12), ambient, waves."""
    own = items.surface
    scene = surfaces.scene[own]
    half = np.where(np.isfinite(surfaces.half[own]), surfaces.half[own], 1.0)
    towards = np.einsum("iab,ib->ia", surfaces.rotation[own], lights.direction[scene])
    waves = surfaces.waves[own].reshape(len(own), -1)
    return np.concatenate(
        [items.rows[:, :2].reshape(-1, 6).T, items.constants[:, :2].T, 1 / half[:, :2].T, towards.T,
         [lights.ambient[scene]], waves.T]
    )  # fmt: skip


def field_table(lights: Lights, cameras: Cameras) -> Floats:
    """Per view, (V, 12): the pattern's coordinates by pixel (0–5) and their constants, strength, number, levels."""
    scenes = len(lights.ambient)
    scene = np.arange(len(cameras.focal)) % scenes
    axes = np.einsum("vij,vkj->vki", cameras.rotation, lights.axes[scene])
    rows = by_pixel(axes, cameras, np.arange(len(scene)))
    constants = -np.einsum("vki,vi->vk", axes, cameras.translation)
    scale = np.linalg.norm(lights.axes[scene, 0], axis=1)
    level = np.log2(TILE * scale / cameras.focal)
    others = [lights.patches[scene], lights.pattern[scene], level, lights.softness[scene]]
    return np.concatenate([rows.reshape(-1, 6), constants, np.stack(others, 1)], 1)
