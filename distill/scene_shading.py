"""Colour of what each pixel sees: textures attached to surfaces, recoloured per object, lit per surface.

Shading is deferred: it runs once per pixel, on the surface that visibility found, whatever the number of surfaces; and
once more behind glass.

Shape legend: V views, N views of one chunk, P pixels of a chunk, I items, H height, W width.
"""

from __future__ import annotations

import math

import torch

from distill.scene_device import Subset, chunk_pixels
from distill.scene_fragments import Coefficients, relief
from distill.scene_geometry import QUADRIC, WAVES, WAVY
from distill.scene_pixels import Pixels
from distill.scene_raster import Visible
from distill.scene_reflections import dot, reflections
from distill.scene_shadows import ShadowMaps, darken
from distill.scene_tables import FULL_LIGHT, Tables
from distill.scene_textures import Bank

# The second texture is turned against the first, so that their grids do not coincide.
DETAIL_TURN = math.cos(0.7), math.sin(0.7)
# Brightness above which the picture compresses contrast.
KNEE = 0.75
SHOULDER = 0.7


def shade(
    visible: Visible, behind: Visible | None, data: Coefficients, tables: Tables, shadows: ShadowMaps | None, bank: Bank
) -> torch.Tensor:
    """Colours (V, 3, H, W) in [0, 1] of what the pixels see; `visible`, `behind` and `data` come from `cast`."""
    views, height, width = visible.item.shape
    device = visible.item.device
    color = torch.empty(views, 3, height, width, device=device)
    step = max(1, chunk_pixels(device) // (height * width))
    rows = min(height, max(1, chunk_pixels(device) // width))
    for view in range(0, views, step):
        some = slice(view, min(view + step, views))
        for first in range(0, height, rows):
            part = slice(first, min(first + rows, height))
            shape = some.stop - some.start, part.stop - part.start, width
            columns = torch.arange(width, device=device, dtype=torch.float32)
            lines = torch.arange(part.start, part.stop, device=device, dtype=torch.float32)
            x, y = columns.expand(shape).reshape(-1), lines[:, None].expand(shape).reshape(-1)
            layers = [
                Pixels(x, y, *(values[some, part].reshape(-1) for values in (layer.item, layer.inverse_depth)),
                       view=some, columns=columns, rows=lines)
                for layer in (visible, behind) if layer is not None
            ]  # fmt: skip
            pixels = shade_layers(layers, data, tables, shadows, bank)
            color[some, :, part] = pixels.view(3, *shape).transpose(0, 1)
    return color


def shade_layers(
    layers: list[Pixels], data: Coefficients, tables: Tables, shadows: ShadowMaps | None, bank: Bank
) -> torch.Tensor:
    """Colours (3, P) in [0, 1] of the front layer, through which the one behind, if any, may be seen."""
    front = layers[0]
    color = shade_pixels(front, data, tables, shadows, bank)
    if len(layers) > 1:
        through = Subset(front.item != layers[1].item)
        if not through.empty:
            behind = shade_pixels(front.some(through, layers[1]), data, tables, shadows, bank)
            mirror_in(behind, front.some(through, layers[1]), tables, bank)
            opacity = tables.opacity.index_select(0, through.take(front.item))
            through.put(color, torch.lerp(behind.clamp_(min=0), through.take(color).clamp(min=0), opacity))
    mirror_in(color, front, tables, bank)
    # Film and sensors keep some contrast in what is too bright: above KNEE brightness is compressed.
    return torch.minimum(color, color * (1 - SHOULDER) + SHOULDER * KNEE, out=color).clamp_(0, 1)


def mirror_in(color: torch.Tensor, pixels: Pixels, tables: Tables, bank: Bank) -> None:
    """Mix into colours (3, P), in place, what the pixels reflect."""
    if tables.mirrors is None:
        return
    glossy = Subset(tables.mirrors.strength.index_select(0, pixels.item) > 0)
    if glossy.empty:
        return
    item, x, y, w = (glossy.take(values) for values in (pixels.item, pixels.x, pixels.y, pixels.w))
    own = [row.index_select(0, item) for row in tables.mirrors.table]
    picture, share = reflections(own, x, y, w.reciprocal(), bank, wavy=tables.mirrors.wavy)
    glossy.put(color, torch.lerp(glossy.take(color).clamp(min=0), picture, share))


def shade_pixels(
    pixels: Pixels, data: Coefficients, tables: Tables, shadows: ShadowMaps | None, bank: Bank
) -> torch.Tensor:
    """Colours (3, P) of pixels, without what they reflect and what shines through them."""
    x, y, item, w = pixels.x, pixels.y, pixels.item, pixels.w
    columns = [row.index_select(0, item) for row in tables.plain]
    inverse = w.reciprocal()
    light = slow_light(pixels, inverse, tables, bank)
    darken(light, shadows, pixels, pixels.shaped(inverse))
    light = light.view(-1)
    u = torch.addcmul(columns[2], columns[0], x).addcmul_(columns[1], y)
    v = torch.addcmul(columns[5], columns[3], x).addcmul_(columns[4], y)
    u, v = torch.addcmul(columns[6], u, inverse), torch.addcmul(columns[7], v, inverse)
    # A plane's texels shrink with its distance, and by the root of the cosine at which it is seen.
    level = columns[10].sub((columns[11] * w).clamp_(0.02, 1).mul_(w).mul_(w).log2_(), alpha=0.5)
    kind = data.kind.index_select(0, item)
    shine = None
    bent = Subset(kind == QUADRIC)
    if not bent.empty:
        part = [bent.take(column) for column in columns[:8]]
        own = [row.index_select(0, bent.take(item)) for row in tables.curved]
        around, along, brightness, shine = shade_curved(part, own, *(bent.take(values) for values in (x, y, inverse)))
        bent.put(u, around)
        bent.put(v, along)
        bent.put(light, bent.take(light) * brightness)
    wavy = Subset(kind == WAVY)
    if not wavy.empty:
        own = [row.index_select(0, wavy.take(item)) for row in tables.wavy]
        brightness = wavy_brightness(own, *(wavy.take(values) for values in (x, y, inverse)))
        wavy.put(light, wavy.take(light) * brightness)
    color = bank.texture(columns[8], u, v, level)
    detail = bank.detail(
        columns[9],
        (DETAIL_TURN[0] * u - DETAIL_TURN[1] * v).mul_(columns[12]),
        (DETAIL_TURN[1] * u + DETAIL_TURN[0] * v).mul_(columns[12]),
        level + columns[20],
    )
    light.mul_(detail.sub_(0.5).mul_(columns[13]).add_(1))
    for channel in range(3):
        torch.addcmul(columns[14 + channel], color[channel], columns[17 + channel], out=color[channel]).mul_(light)
    if shine is not None:
        bent.put(color, bent.take(color) + shine)
    return color


def slow_light(pixels: Pixels, inverse: torch.Tensor, tables: Tables, bank: Bank) -> torch.Tensor:
    """Brightness, `shaped`, from the pattern of light that lies over the world; 1 in the sky. See `field_table`."""
    if isinstance(pixels.view, slice) and not any(tables.patchy[pixels.view]):
        return torch.ones_like(pixels.shaped(pixels.w))
    w, inverse = pixels.shaped(pixels.w), pixels.shaped(inverse)
    field = pixels.per_view(tables.field)
    u = pixels.affine(field[:3]).mul_(inverse).add_(field[6])
    v = pixels.affine(field[3:6]).mul_(inverse).add_(field[7])
    level = (field[10] - torch.log2(w)).add_(1).clamp_(min=0)
    # Far away the pattern is finer than a pixel and fades into its mean.
    strength = (1 - level * 0.15).clamp_(0, 1).mul_(field[8])
    lookup = (field[9].expand_as(u), u, v, torch.maximum(level, field[11]))
    pattern = bank.detail(*(values.reshape(-1) for values in lookup)).view_as(u)
    return pattern.sub_(0.5).mul_(strength).mul_(2).add_(1)


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
