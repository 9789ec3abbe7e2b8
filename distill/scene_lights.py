"""How scenes are lit: one distant light, light from everywhere, slow changes across the world, and cast shadows."""

from __future__ import annotations

import dataclasses

import numpy as np

from distill.scene_geometry import Floats
from distill.scene_reflections import Surroundings, draw_surroundings
from distill.scene_textures import Bank


@dataclasses.dataclass
class Lights:
    """Light of each scene.

    Args:
        direction: (B, 3) towards the light, unit, in the world.
        ambient: (B,) share of light that comes from everywhere.
        patches: (B,) strength, 0 to 1, of the slow changes of light across the scene: shadows of things out of sight.
        axes: (B, 2, 3) directions in the world along which those change, per unit of their pattern's tile.
        pattern: (B,) texture number of the changes.
        softness: (B,) mip level from which their pattern is taken.
        shadows: (B,) share of the light, 0 to 1, that the shadows of objects take away.
        reach: (B,) depth before the eyes up to which objects cast shadows.
        surroundings: what mirrors show.
    """

    direction: Floats
    ambient: Floats
    patches: Floats
    axes: Floats
    pattern: Floats
    softness: Floats
    shadows: Floats
    reach: Floats
    surroundings: Surroundings


def draw_lights(rng: np.random.Generator, depth: Floats, bank: Bank) -> Lights:
    """Random light for scenes whose things are about at `depth` (B,)."""
    count = len(depth)
    towards = rng.normal(0, 1, (count, 3)) + np.array([0.0, -1.0, -0.7])
    axes = rng.normal(0, 0.3, (count, 2, 3)) + np.array([[1, 0.5, 0.2], [-0.2, 0.5, 1]])
    axes /= np.linalg.norm(axes, axis=2, keepdims=True) * (depth * 2 ** rng.uniform(-1.5, 1.5, count))[:, None, None]
    return Lights(
        direction=towards / np.linalg.norm(towards, axis=1, keepdims=True),
        ambient=rng.uniform(0.35, 0.8, count),
        patches=np.where(rng.random(count) < 0.3, 0.0, rng.uniform(0.1, 0.7, count)),
        axes=axes,
        pattern=rng.integers(0, bank.count, count).astype(np.float64),
        softness=rng.uniform(1, 5, count),
        shadows=np.where(rng.random(count) < 0.25, 0.0, rng.uniform(0.2, 0.75, count)),
        reach=depth * 2 ** rng.uniform(0.5, 1.5, count),
        surroundings=draw_surroundings(rng, depth, bank),
    )
