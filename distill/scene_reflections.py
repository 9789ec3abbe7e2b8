"""What glossy surfaces, mirrors and glass show beside themselves: the surroundings, reflected.

Around each scene lies a picture of its surroundings, at infinity or near. A pixel on a glossy surface sees it along the
reflected ray, so the reflection moves between the eyes as that of a real mirror does: not with the surface, whose
disparity is nevertheless the truth. Reflectance rises towards grazing rays (C. Schlick, "An Inexpensive BRDF Model for
Physically-based Rendering", 1994, with a gentler power).

Shape legend: B scenes, T things, I items, P pixels.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch

from distill.scene_fragments import relief
from distill.scene_geometry import QUADRIC, WAVES, WAVY, Cameras, Floats, Items, Surfaces, by_pixel
from distill.scene_textures import TILE, Bank

# Share of `mirror` that is reflected straight back; the rest comes towards grazing rays.
HEAD_ON = 0.35
# Curved bodies show the surroundings smaller by about this many mip levels.
CURVED_LEVELS = 2.0


@dataclasses.dataclass
class Surroundings:
    """What is reflected, per scene.

    Args:
        pattern: (B,) texture number.
        repeats: (B,) whole number of mirrored tiles per half turn.
        turn: (B, 3, 3) rotation from the world to the picture's axes.
        closeness: (B,) 1 / distance of the surroundings; 0 is infinity.
    """

    pattern: Floats
    repeats: Floats
    turn: Floats
    closeness: Floats


def draw_surroundings(rng: np.random.Generator, depth: Floats, bank: Bank) -> Surroundings:
    """Random surroundings of scenes whose things are about at `depth` (B,)."""
    count = len(depth)
    photographs = np.flatnonzero(bank.names == "photograph")
    known = photographs if len(photographs) else np.arange(bank.count)
    heading = rng.uniform(-np.pi, np.pi, count)
    turn = np.zeros((count, 3, 3))
    turn[:, 0, 0], turn[:, 0, 2], turn[:, 2, 0], turn[:, 2, 2], turn[:, 1, 1] = (
        np.cos(heading), np.sin(heading), -np.sin(heading), np.cos(heading), 1.0
    )  # fmt: skip
    away = depth * 2 ** rng.uniform(0, 3, count)
    return Surroundings(
        pattern=rng.choice(known, count).astype(np.float64),
        repeats=rng.integers(1, 5, count).astype(np.float64),
        turn=turn,
        closeness=np.where(rng.random(count) < 0.4, 0.0, 1 / away),
    )


@dataclasses.dataclass
class Mirrors:
    """Tables of the items that reflect, on the render device.

    Args:
        strength: (I,) reflectance at grazing rays.
        table: (COLUMNS, I), see `mirror_table`.
        wavy: whether any of them has waves.
    """

    strength: torch.Tensor
    table: torch.Tensor
    wavy: bool


def mirror_table(
    items: Items, surfaces: Surfaces, around: Surroundings, cameras: Cameras, blur: Floats, mirror: Floats
) -> Floats:
    """Per item, (33 + 4 WAVES, I).

    Rays in local axes by pixel (0–8), the eye in units of half extents (9–11), half extents (12–14), the normal's
    terms (15–17), local axes to the picture's (18–26), the place of the surface there (27–29), closeness (30), pattern
    (31), repeats (32), mip level (33), strength (34), waves (35–).

    Args:
        blur, mirror: (I,) mip levels of blur and strength.
    """
    own = items.surface
    scene = surfaces.scene[own]
    rotation = surfaces.rotation[own]
    rays = by_pixel(np.einsum("iab,icb->ica", cameras.rotation[items.view], rotation), cameras, items.view)
    half = np.where(np.isfinite(surfaces.half[own]), surfaces.half[own], 1.0)
    bent = items.kind == QUADRIC
    # The gradient of p1² + p2² + m p3² + l p3, halved; a flat patch is written as 0 p1² + 0 p2² + 2 p3.
    normal = np.stack([bent, np.where(bent, surfaces.bend[own, 0], 0), np.where(bent, surfaces.bend[own, 1] / 2, 1)])
    turn = np.einsum("iab,icb->iac", around.turn[scene], rotation)
    place = np.einsum("iab,ib->ai", around.turn[scene], surfaces.centre[own]) * around.closeness[scene]
    level = np.log2(TILE * around.repeats[scene] / (math.pi * cameras.focal[items.view])) + blur + CURVED_LEVELS * bent
    others = [around.closeness[scene], around.pattern[scene], around.repeats[scene], level, mirror]
    waves = surfaces.waves[own].reshape(len(own), -1)
    parts = [rays.reshape(-1, 9).T, items.constants.T, half.T, normal, turn.reshape(-1, 9).T, place, others, waves.T]
    return np.concatenate(parts)


def has_waves(items: Items, mirror: Floats) -> bool:
    """Whether an item that reflects has waves."""
    return bool((mirror[items.kind == WAVY] > 0).any())


def reflected(
    own: list[torch.Tensor], x: torch.Tensor, y: torch.Tensor, inverse: torch.Tensor, *, wavy: bool
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Where reflected rays meet the surroundings, and how squarely the surface is seen.

    Args:
        own: columns of `mirror_table`, (P,) each.
        x, y, inverse: (P,) pixels and their depth.

    Returns:
        three coordinates (P,) in the picture's axes, of any length, and the cosine of the angle of view (P,).
    """
    ray = [own[3 * axis] * x + own[3 * axis + 1] * y + own[3 * axis + 2] for axis in range(3)]
    half = own[12:15]
    p = [own[9 + axis] + ray[axis] / half[axis] * inverse for axis in range(3)]
    normal = [own[15] * p[0] / half[0], own[15] * p[1] / half[1], (own[16] * p[2] + own[17]) / half[2]]
    if wavy:
        _, along_u, along_v = relief(torch.stack(own[35 : 35 + 4 * WAVES]).view(WAVES, 4, -1), p[0], p[1])
        normal[0], normal[1] = normal[0] - along_u / half[0], normal[1] - along_v / half[1]
    ray, normal = unit(ray), unit(normal)
    along = dot(ray, normal)
    away = [r - 2 * along * n + own[30] * q * h for r, n, q, h in zip(ray, normal, p, half, strict=True)]
    place = [dot(own[18 + 3 * axis : 21 + 3 * axis], away) + own[27 + axis] for axis in range(3)]
    return place, along.abs()


def dot(first: list[torch.Tensor], second: list[torch.Tensor]) -> torch.Tensor:
    """Scalar product of vectors given by components."""
    return first[0] * second[0] + first[1] * second[1] + first[2] * second[2]


def unit(vector: list[torch.Tensor]) -> list[torch.Tensor]:
    """Vectors of length 1."""
    scale = dot(vector, vector).clamp(min=1e-20).rsqrt()
    return [part * scale for part in vector]


def reflections(
    own: list[torch.Tensor], x: torch.Tensor, y: torch.Tensor, inverse: torch.Tensor, bank: Bank, *, wavy: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Colours (3, P) of the surroundings that pixels reflect, and how much of them (P,); arguments as `reflected`."""
    place, cosine = reflected(own, x, y, inverse, wavy=wavy)
    down = unit(place)[1]
    # Whole numbers of mirrored tiles per turn: no seam behind the viewer.
    u = torch.atan2(place[0], place[2]).mul_(1 / math.pi).mul_(own[32])
    color = bank.texture(own[31], u, down * own[32] * 0.5, own[33])
    # Lamps and windows are far brighter than what they light, and mostly above.
    color = color * (color * 1.2 + 0.4) * (1 - 0.4 * down)
    grazing = (1 - cosine) ** 2
    return color, own[34] * (HEAD_ON + (1 - HEAD_ON) * grazing * grazing)
