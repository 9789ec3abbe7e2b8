"""Colour of what each pixel sees: textures attached to surfaces, recoloured per object, lit per surface.

Shading is deferred: it runs once per pixel, on the surface that visibility found, whatever the number of surfaces.

Shape legend: T things (objects with one material), I items, P pixels of all views.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from distill.scene_geometry import FLAT, QUADRIC, Cameras, Floats, Items, Surfaces
from distill.scene_materials import Materials
from distill.scene_raster import Coefficients, Visible, chunk_pixels
from distill.scene_textures import TILE, Bank

# Brightness of a surface that faces the light: above 1, so that the average surface keeps about its own colour.
FULL_LIGHT = 1.25


@dataclasses.dataclass
class Lights:
    """Per scene: direction towards the light (B, 3), unit, in the world, and the share of ambient light (B,)."""

    direction: Floats
    ambient: Floats


def texture_table(items: Items, surfaces: Surfaces, materials: Materials, lights: Lights, cameras: Cameras) -> Floats:
    """What shading needs per item, (24, I): texture coordinates by pixel, texture numbers, level terms, colours."""
    own = items.surface
    thing, flat = surfaces.thing[own], items.kind == FLAT
    scale, turn = 1 / materials.tile[thing], materials.turn[thing]
    half = np.where(np.isfinite(surfaces.half[own]), surfaces.half[own], 1.0)
    along, across = scale * np.cos(turn), scale * np.sin(turn)
    # On quadrics the coordinates are arc length around and length along the axis, found per pixel.
    length1 = np.where(flat, half[:, 0], 0.5 * (half[:, 0] + half[:, 1]))
    length2 = np.where(flat, half[:, 1], half[:, 2])
    turned = np.array([[along * length1, -across * length2], [across * length1, along * length2]])  # (2, 2, I)
    rows = np.einsum("abi,ibc->aci", turned, items.rows[:, :2]).reshape(6, -1)
    constants = np.einsum("abi,ib->ai", turned, items.constants[:, :2]) + materials.offset[thing].T
    rows[:, ~flat] = 0.0
    rows[:4, ~flat] = turned[..., ~flat].reshape(4, -1)
    constants[:, ~flat] = materials.offset[thing][~flat].T
    level = np.log2(TILE * scale / cameras.focal[items.view])
    # The distance of a plane from the eye turns inverse depth into the cosine of the viewing angle.
    distance = np.abs(items.constants[:, 2])
    ratio, twist = materials.ratio[thing], materials.twist[thing]
    second = np.array([ratio * np.cos(twist), ratio * np.sin(twist), np.log2(ratio)])
    light = np.where(flat & ~materials.shines[thing], flat_light(surfaces, lights)[own], 1.0)
    base = (materials.base[thing] * light[:, None]).T
    gain = (materials.gain[thing] * light[:, None, None]).reshape(-1, 6).T
    numbers = materials.texture[thing].T.astype(np.float64)
    return np.concatenate([rows, constants, numbers, [level, distance], second, base, gain])


def flat_light(surfaces: Surfaces, lights: Lights) -> Floats:
    """Brightness (S,) of flat patches: ambient plus Lambert, the same from both sides."""
    normal = surfaces.rotation[:, 2]
    ambient = lights.ambient[surfaces.scene]
    return FULL_LIGHT * (ambient + (1 - ambient) * np.abs((normal * lights.direction[surfaces.scene]).sum(1)))


def curved_table(items: Items, surfaces: Surfaces, materials: Materials, lights: Lights, cameras: Cameras) -> Floats:
    """What curved surfaces need beside it, (22, I): ray, eye, bend, light and scale in local axes, ambient, gloss."""
    own = items.surface
    scene = surfaces.scene[own]
    half = np.where(np.isfinite(surfaces.half[own]), surfaces.half[own], 1.0)
    towards = np.einsum("iab,ib->ia", surfaces.rotation[own], lights.direction[scene])
    return np.concatenate(
        [items.rows.reshape(-1, 9).T, items.constants.T, surfaces.bend[own].T, towards.T, 1 / half.T,
         [lights.ambient[scene], materials.gloss[surfaces.thing[own]]]]
    )  # fmt: skip


def shade(visible: Visible, data: Coefficients, table: torch.Tensor, curved: torch.Tensor, bank: Bank) -> torch.Tensor:
    """Colours (V, 3, H, W) in [0, 1] of what the pixels see.

    Args:
        visible: from `cast`.
        data: from `cast`.
        table, curved: from `texture_table` and `curved_table`, on the render device.
        bank: textures.
    """
    views, height, width = visible.item.shape
    item, depth = visible.item.view(-1), visible.inverse_depth.view(-1)
    color = torch.empty(3, len(item), device=item.device)
    rows = max(1, chunk_pixels(item.device) // width)
    across = torch.arange(width, device=item.device, dtype=torch.float32)
    for first in range(0, views * height, rows):
        row = torch.arange(first, min(first + rows, views * height), device=item.device) % height
        x, y = across.expand(len(row), width).reshape(-1), row.float()[:, None].expand(-1, width).reshape(-1)
        part = slice(first * width, first * width + len(x))
        color[:, part] = shade_pixels(x, y, item[part], depth[part], data, table, curved, bank)
    return color.view(3, views, height, width).transpose(0, 1)


def shade_pixels(
    x: torch.Tensor, y: torch.Tensor, item: torch.Tensor, w: torch.Tensor,
    data: Coefficients, table: torch.Tensor, curved: torch.Tensor, bank: Bank,
) -> torch.Tensor:  # fmt: skip
    """Colours (3, P) in [0, 1] of pixels x, y that see `item` at inverse depth w, all (P,); see `shade`."""
    w = w.clamp(min=1e-9)
    columns = [row.index_select(0, item) for row in table]
    inverse = w.reciprocal()
    u = (columns[0] * x).addcmul_(columns[1], y).add_(columns[2]).mul_(inverse).add_(columns[6])
    v = (columns[3] * x).addcmul_(columns[4], y).add_(columns[5]).mul_(inverse).add_(columns[7])
    level = columns[10] - torch.log2(w)
    steep = torch.log2((columns[11] * w).clamp_(0.02, 1)).mul_(-0.5)
    light = None
    bent = torch.nonzero((data.kind == QUADRIC)[item]).view(-1)
    if len(bent):
        part = [column[bent] for column in columns[:8]]
        own = [row.index_select(0, item[bent]) for row in curved]
        u[bent], v[bent], brightness, shine = shade_curved(part, own, x[bent], y[bent], inverse[bent])
        steep[bent] = 0.3
        light = brightness, shine
    level += steep
    color = bank.texture(columns[8], u, v, level)
    u2 = columns[12] * u - columns[13] * v + 0.37
    v2 = columns[13] * u + columns[12] * v + 0.11
    detail = bank.texture(columns[9], u2, v2, level + columns[14])
    for channel in range(3):
        color[channel].mul_(columns[18 + channel]).add_(columns[15 + channel])
        color[channel].addcmul_(detail[channel] - 0.5, columns[21 + channel])
    if light is not None:
        color[:, bent] = color[:, bent] * light[0] + light[1]
    return color.clamp_(0, 1)


def dot(first: list[torch.Tensor], second: list[torch.Tensor]) -> torch.Tensor:
    """Scalar product of vectors given by components."""
    return first[0] * second[0] + first[1] * second[1] + first[2] * second[2]


def shade_curved(
    part: list[torch.Tensor], own: list[torch.Tensor], x: torch.Tensor, y: torch.Tensor, inverse: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Texture coordinates, brightness and highlight of pixels on curved surfaces; see `curved_table`."""
    q = [own[3 * axis] * x + own[3 * axis + 1] * y + own[3 * axis + 2] for axis in range(3)]
    p = [own[9 + axis] + q[axis] * inverse for axis in range(3)]
    around = torch.atan2(p[1], p[0])
    u = part[0] * around + part[1] * p[2] + part[6]
    v = part[2] * around + part[3] * p[2] + part[7]
    normal = [p[0] * own[17], p[1] * own[18], (own[12] * p[2] + 0.5 * own[13]) * own[19]]
    length = dot(normal, normal).clamp(min=1e-12).rsqrt()
    # The normal that looks at the eye: the inside of an open cylinder is lit from its inside.
    facing = -torch.sign(dot(normal, [ray / scale for ray, scale in zip(q, own[17:20], strict=True)]))
    cosine = dot(normal, own[14:17]) * length * facing
    brightness = FULL_LIGHT * (own[20] + (1 - own[20]) * cosine.clamp(min=0))
    return u, v, brightness, own[21] * cosine.clamp(min=0) ** 24
