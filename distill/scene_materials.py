"""What surfaces are made of: two layered textures per object, recoloured to look like sky, ground, walls or things."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from distill.scene_geometry import Floats, Ints
from distill.scene_textures import TILE, Bank

ANY, SKY, GROUND, WALL, GLASS = range(5)
# Patterns that suit a purpose; photographs suit all but the sky. The rest of the time anything goes.
SUITED = {
    SKY: ("fractal", "plain"),
    GROUND: ("fractal", "grass", "speckle", "bricks", "cells", "wood", "photograph"),
    WALL: ("fractal", "bricks", "speckle", "plain", "wood", "cells", "photograph"),
}
SUITED_SHARE = 0.7
# Share of things that mirror their surroundings: polished floors, lacquer, wet roads, windows.
MIRROR_SHARE = {ANY: 0.2, SKY: 0.0, GROUND: 0.15, WALL: 0.08, GLASS: 1.0}


@dataclasses.dataclass
class Materials:
    """Two textures per object, the second laid over the first at another scale.

    Args:
        texture: (T, 2) numbers in the bank.
        tile: (T,) world length that one tile of the first texture covers.
        turn: (T,) rotation of the texture, radians.
        offset: (T, 2) in tiles.
        ratio: (T,) scale of the second texture against the first.
        detail: (T,) relative change of brightness by the second texture.
        base: (T, 3) colour where the first texture is zero.
        gain: (T, 3) colour per unit of the first texture; negative inverts.
        gloss: (T,) strength of the highlight on curved surfaces.
        shines: (T,) bool, bright by itself, whatever the light: the sky.
        opacity: (T,) share of what is behind that is hidden; below 1 for glass.
        mirror: (T,) share of the surroundings that is reflected at grazing rays.
        blur: (T,) mip levels by which the reflection is blurred.
    """

    texture: NDArray[np.int64]
    tile: Floats
    turn: Floats
    offset: Floats
    ratio: Floats
    detail: Floats
    base: Floats
    gain: Floats
    gloss: Floats
    shines: NDArray[np.bool_]
    opacity: Floats
    mirror: Floats
    blur: Floats

    @property
    def clear(self) -> NDArray[np.bool_]:
        """Which things (T,) are seen through."""
        return self.opacity < 1


def choose_textures(rng: np.random.Generator, look: Ints, bank: Bank) -> Ints:
    """Texture numbers (T, 2), mostly suited to the look."""
    count = len(look)
    texture = rng.integers(0, bank.count, (count, 2))
    suited = rng.random(count) < SUITED_SHARE
    for kind, patterns in SUITED.items():
        own = (look == kind) & (suited | (kind == SKY))
        known = np.flatnonzero(np.isin(bank.names, patterns))
        if len(known):
            texture[own, 0] = rng.choice(known, int(own.sum()))
    return texture


def draw_materials(rng: np.random.Generator, look: Ints, tile: Floats, bank: Bank) -> Materials:
    """Random materials.

    Args:
        look: (T,) ANY, SKY, GROUND, WALL or GLASS.
        tile: (T,) world length of a texture tile at one texel per pixel; varied by a factor of 2 or so.
        bank: the textures to choose from.
    """
    count = len(look)
    muted = rng.random(count) < np.where(look == ANY, 0.2, 0.6)
    weak = rng.random(count) < np.where(look == WALL, 0.25, 0.12)
    contrast = np.where(weak, rng.uniform(0.02, 0.12, count), rng.uniform(0.5, 1.4, count))
    tint = 2 ** rng.normal(0, np.where(muted, 0.08, 0.4)[:, None], (count, 3))
    sign = np.where(rng.random((count, 1)) < 0.15, -1.0, 1.0)
    gain = contrast[:, None] * tint * sign
    mean = rng.uniform(0.15, 0.85, (count, 1)) + rng.normal(0, 0.16, (count, 3)) * ~muted[:, None]
    # Little in the world is black for a camera: the stronger the contrast, the brighter the middle.
    mean = np.maximum(mean, 0.4 * contrast[:, None])
    as_is = (rng.random((count, 1)) < 0.5) & ~weak[:, None]
    base = np.where(as_is, 0.0, mean - 0.5 * gain)
    gain = np.where(as_is, rng.uniform(0.7, 1.4, (count, 1)), gain)
    sky = look == SKY
    shade = rng.uniform(0.4, 0.95, (count, 1))
    base[sky] = (shade * (1 + rng.uniform(0, 0.4, (count, 1)) * [-0.6, -0.1, 0.5]))[sky]
    gain[sky] = (rng.uniform(-0.1, 0.25, (count, 1)) * np.ones(3))[sky]
    mirrors = np.array([MIRROR_SHARE[kind] for kind in range(len(MIRROR_SHARE))])[look]
    detail = rng.uniform(0, 1, count) ** 2 * np.where(weak, 0.1, 1.2)
    return Materials(
        texture=choose_textures(rng, look, bank),
        tile=tile * 2 ** np.where(sky, rng.uniform(1, 3, count), rng.uniform(-2.3, 0.8, count)),
        turn=np.where(rng.random(count) < 0.5, 0.0, rng.uniform(-np.pi, np.pi, count)),
        offset=rng.uniform(0, 2, (count, 2)),
        ratio=2 ** rng.uniform(-2, 2, count),
        detail=np.where(sky, 0.0, detail),
        base=base,
        gain=gain,
        gloss=np.where(rng.random(count) < 0.4, rng.uniform(0, 0.6, count), 0.0),
        shines=sky,
        opacity=np.where(look == GLASS, rng.uniform(0.2, 0.7, count), 1.0),
        mirror=np.where(rng.random(count) < mirrors, rng.uniform(0.1, 0.9, count), 0.0),
        blur=rng.uniform(0, 3.5, count) * (look != GLASS),
    )


def one_texel_per_pixel(depth: Floats, focal: Floats | float) -> Floats:
    """World length of a tile whose texels are as large as pixels at this depth."""
    return TILE * depth / focal
