"""Colour of what each pixel sees: textures attached to surfaces, recoloured per object, lit per surface.

Shading is deferred: it runs once per pixel, on the surface that visibility found, whatever the number of surfaces.

Shape legend: T things (objects with one material), S surfaces, I items, V views, P pixels of one view.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch

from distill.scene_fragments import Coefficients, relief
from distill.scene_geometry import FLAT, QUADRIC, WAVES, WAVY, Cameras, Floats, Items, Surfaces, by_pixel
from distill.scene_lights import Lights
from distill.scene_materials import Materials
from distill.scene_raster import Visible, chunk_pixels
from distill.scene_shadows import ShadowMaps, darken
from distill.scene_textures import TILE, Bank

# Brightness of a surface that faces the light: above 1, so that the average surface keeps about its own colour.
FULL_LIGHT = 1.2
# The second texture is turned against the first, so that their grids do not coincide.
DETAIL_TURN = math.cos(0.7), math.sin(0.7)
COLUMNS = 20
KNEE = 0.75


@dataclasses.dataclass
class Tables:
    """What shading needs, on the render device; float32, one column per item or view.

    Args:
        plain: (COLUMNS, I), see `plain_table`.
        curved, wavy: see `curved_table` and `wavy_table`.
        field: (V, 12) the slow changes of light by pixel, see `field_table`.
        patchy: whether a view has such changes at all.
    """

    plain: torch.Tensor
    curved: torch.Tensor
    wavy: torch.Tensor
    field: torch.Tensor
    patchy: list[bool]


def make_tables(
    items: Items, surfaces: Surfaces, materials: Materials, lights: Lights, cameras: Cameras, device: torch.device
) -> Tables:
    """Tables for the views of `cameras`, which are the left views of all scenes and then their right views."""
    plain = plain_table(items, surfaces, materials, lights, cameras)
    left = plain.shape[1] // 2
    # The right eye takes the left eye's distance to a plane: its texture level then changes at the same surface point.
    plain[11, left:] = plain[11, :left]
    curved = curved_table(items, surfaces, materials, lights)
    field = field_table(lights, cameras)
    arrays = plain, curved, wavy_table(items, surfaces, lights), field
    tables = [torch.as_tensor(array, dtype=torch.float32, device=device) for array in arrays]
    return Tables(*tables, patchy=(field[:, 8] > 0).tolist())


def plain_table(items: Items, surfaces: Surfaces, materials: Materials, lights: Lights, cameras: Cameras) -> Floats:
    """Per item: texture coordinates by pixel (0–7), texture numbers, level terms, detail (8–13), colours (14–19)."""
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
    return np.concatenate([rows, constants, numbers, others, base, gain])


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


def shade(visible: Visible, data: Coefficients, tables: Tables, shadows: ShadowMaps, bank: Bank) -> torch.Tensor:
    """Colours (V, 3, H, W) in [0, 1] of what the pixels see; `data` comes from `cast`."""
    views, height, width = visible.item.shape
    color = torch.empty(views, 3, height, width, device=visible.item.device)
    rows = max(1, chunk_pixels(color.device) // width)
    across = torch.arange(width, device=color.device, dtype=torch.float32)
    for view in range(views):
        for first in range(0, height, rows):
            part = slice(first, min(first + rows, height))
            y = torch.arange(part.start, part.stop, device=color.device, dtype=torch.float32)
            grid = across.expand(len(y), -1).reshape(-1), y[:, None].expand(-1, width).reshape(-1)
            w = visible.inverse_depth[view, part].reshape(-1)
            light = slow_light(*grid, w, tables.field[view], bank) if tables.patchy[view] else torch.ones_like(w)
            darken(light, shadows, view, *grid, w.reciprocal())
            pixels = shade_pixels(*grid, visible.item[view, part].reshape(-1), w, light, data, tables, bank)
            color[view, :, part] = pixels.view(3, len(y), width)
    return color


def shade_pixels(
    x: torch.Tensor, y: torch.Tensor, item: torch.Tensor, w: torch.Tensor, light: torch.Tensor,
    data: Coefficients, tables: Tables, bank: Bank,
) -> torch.Tensor:  # fmt: skip
    """Colours (3, P) in [0, 1] of pixels x, y of one view that see `item` at inverse depth w in `light`, all (P,)."""
    columns = [row.index_select(0, item) for row in tables.plain]
    inverse = w.reciprocal()
    u = (columns[0] * x).addcmul_(columns[1], y).add_(columns[2]).mul_(inverse).add_(columns[6])
    v = (columns[3] * x).addcmul_(columns[4], y).add_(columns[5]).mul_(inverse).add_(columns[7])
    level = (columns[11] * w).clamp_(0.02, 1).log2_().mul_(-0.5).sub_(torch.log2(w)).add_(columns[10])
    shine = None
    kind = data.kind[item]
    bent = torch.nonzero(kind == QUADRIC).view(-1)
    if len(bent):
        part = [column[bent] for column in columns[:8]]
        own = [row.index_select(0, item[bent]) for row in tables.curved]
        u[bent], v[bent], brightness, shine = shade_curved(part, own, x[bent], y[bent], inverse[bent])
        light[bent] *= brightness
    wavy = torch.nonzero(kind == WAVY).view(-1)
    if len(wavy):
        own = [row.index_select(0, item[wavy]) for row in tables.wavy]
        light[wavy] *= wavy_brightness(own, x[wavy], y[wavy], inverse[wavy])
    color = bank.texture(columns[8], u, v, level)
    detail = bank.detail(
        columns[9],
        (DETAIL_TURN[0] * u - DETAIL_TURN[1] * v).mul_(columns[12]),
        (DETAIL_TURN[1] * u + DETAIL_TURN[0] * v).mul_(columns[12]),
        level + columns[12].log2(),
    )
    light.mul_(detail.sub_(0.5).mul_(columns[13]).add_(1))
    for channel in range(3):
        color[channel].mul_(columns[17 + channel]).add_(columns[14 + channel]).mul_(light)
    if shine is not None:
        color[:, bent] += shine
    # Film and sensors keep some contrast in what is too bright: above KNEE brightness is compressed.
    return color.sub_((color - KNEE).clamp_(min=0), alpha=0.7).clamp_(0, 1)


def slow_light(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, field: torch.Tensor, bank: Bank) -> torch.Tensor:
    """Brightness (P,) from the pattern of light that lies over the world; 1 in the sky. See `field_table`."""
    inverse = w.reciprocal()
    u = (field[0] * x).addcmul_(field[1].expand_as(y), y).add_(field[2]).mul_(inverse).add_(field[6])
    v = (field[3] * x).addcmul_(field[4].expand_as(y), y).add_(field[5]).mul_(inverse).add_(field[7])
    level = (field[10] - torch.log2(w)).add_(1).clamp_(min=0)
    # Far away the pattern is finer than a pixel and fades into its mean.
    strength = (1 - level * 0.15).clamp_(0, 1).mul_(field[8])
    pattern = bank.detail(field[9].expand_as(u), u, v, torch.maximum(level, field[11]))
    return pattern.sub_(0.5).mul_(strength).mul_(2).add_(1)


def dot(first: list[torch.Tensor], second: list[torch.Tensor]) -> torch.Tensor:
    """Scalar product of vectors given by components."""
    return first[0] * second[0] + first[1] * second[1] + first[2] * second[2]


def shade_curved(
    part: list[torch.Tensor], own: list[torch.Tensor], x: torch.Tensor, y: torch.Tensor, inverse: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Texture coordinates, brightness and highlight of pixels on quadrics; see `curved_table`."""
    q = [own[3 * axis] * x + own[3 * axis + 1] * y + own[3 * axis + 2] for axis in range(3)]
    p = [own[9 + axis] + q[axis] * inverse for axis in range(3)]
    around = torch.atan2(p[1], p[0])
    u = part[0] * around + part[1] * p[2] + part[6]
    v = part[2] * around + part[3] * p[2] + part[7]
    normal = [p[0] * own[17], p[1] * own[18], (own[12] * p[2] + 0.5 * own[13]) * own[19]]
    length = dot(normal, normal).clamp(min=1e-12).rsqrt()
    # The normal that looks at the eye: the inside of an open cylinder is lit from its inside.
    facing = -torch.sign(dot(normal, [ray / scale for ray, scale in zip(q, own[17:20], strict=True)]))
    cosine = (dot(normal, own[14:17]) * length * facing).clamp(min=0)
    brightness = FULL_LIGHT * (own[20] + (1 - own[20]) * cosine)
    return u, v, brightness, own[21] * cosine**24


def wavy_brightness(own: list[torch.Tensor], x: torch.Tensor, y: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
    """Brightness (P,) of pixels on wavy patches by the slope of the waves; see `wavy_table`."""
    u = (own[0] * x + own[1] * y + own[2]) * inverse + own[6]
    v = (own[3] * x + own[4] * y + own[5]) * inverse + own[7]
    waves = torch.stack(own[14:]).view(WAVES, 4, -1)
    _, along_u, along_v = relief(waves, u, v)
    slope_u, slope_v = along_u * own[8], along_v * own[9]
    cosine = (own[12] - slope_u * own[10] - slope_v * own[11]).abs() * (1 + slope_u**2 + slope_v**2).rsqrt()
    return FULL_LIGHT * (own[13] + (1 - own[13]) * cosine)
