"""What surfaces are made of: two layered textures per object, recoloured to look like sky, ground, walls or things."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from distill.scene_geometry import Floats, Ints
from distill.scene_textures import TILE, Bank

ANY, SKY, GROUND, WALL = range(4)
# Patterns that suit a purpose; photographs suit all but the sky. The rest of the time anything goes.
SUITED = {
    SKY: ("fractal", "plain"),
    GROUND: ("fractal", "grass", "speckle", "bricks", "cells", "wood", "photograph"),
    WALL: ("fractal", "bricks", "speckle", "plain", "wood", "cells", "photograph"),
}
SUITED_SHARE = 0.7


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
        look: (T,) ANY, SKY, GROUND or WALL.
        tile: (T,) world length of a texture tile at one texel per pixel; varied by a factor of 2 or so.
        bank: the textures to choose from.
    """
    count = len(look)
    muted = rng.random(count) < np.where(look == ANY, 0.3, 0.8)
    weak = rng.random(count) < 0.12
    contrast = np.where(weak, rng.uniform(0.02, 0.12, count), rng.uniform(0.5, 1.5, count))
    tint = 2 ** rng.normal(0, np.where(muted, 0.06, 0.3)[:, None], (count, 3))
    sign = np.where(rng.random((count, 1)) < 0.15, -1.0, 1.0)
    gain = contrast[:, None] * tint * sign
    mean = rng.uniform(0.12, 0.85, (count, 1)) + rng.normal(0, 0.12, (count, 3)) * ~muted[:, None]
    as_is = (rng.random((count, 1)) < 0.5) & ~weak[:, None]
    base = np.where(as_is, 0.0, mean - 0.5 * gain)
    gain = np.where(as_is, rng.uniform(0.6, 1.3, (count, 1)), gain)
    sky = look == SKY
    shade = rng.uniform(0.4, 0.95, (count, 1))
    base[sky] = (shade * (1 + rng.uniform(0, 0.4, (count, 1)) * [-0.6, -0.1, 0.5]))[sky]
    gain[sky] = (rng.uniform(-0.1, 0.25, (count, 1)) * np.ones(3))[sky]
    detail = rng.uniform(0, 1, count) ** 2 * np.where(weak, 0.1, 1.2)
    return Materials(
        texture=choose_textures(rng, look, bank),
        tile=tile * 2 ** np.where(sky, rng.uniform(1, 3, count), rng.uniform(-1.8, 0.8, count)),
        turn=np.where(rng.random(count) < 0.5, 0.0, rng.uniform(-np.pi, np.pi, count)),
        offset=rng.uniform(0, 2, (count, 2)),
        ratio=2 ** rng.uniform(-2, 2, count),
        detail=np.where(sky, 0.0, detail),
        base=base,
        gain=gain,
        gloss=np.where(rng.random(count) < 0.4, rng.uniform(0, 0.6, count), 0.0),
        shines=sky,
    )


def one_texel_per_pixel(depth: Floats, focal: Floats | float) -> Floats:
    """World length of a tile whose texels are as large as pixels at this depth."""
    return TILE * depth / focal
