"""Compound objects: plants, shelves, tables, lamps, figures, vehicles, fences, piles, frames of rods.

Each is drawn in its own axes (x right, y down, z forward) inside about [-1, 1]³, standing on y = 1, and put into the
world by `distill.scene_layout`. A component is a set of like surfaces that share one material.

Shape legend: N like surfaces of one component.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from distill.scene_geometry import WAVES, Floats, Ints
from distill.scene_textures import Bank


@dataclasses.dataclass
class Component:
    """N like surfaces.

    Args:
        kind: "sheet", "box", or a name in `scene_geometry.BENDS`.
        centre: (N, 3).
        rotation: (N, 3, 3), rows are the local axes.
        half: (N, 3) half extents along them; a sheet's third is ignored.
        material: components with the same number share a material.
        cut: (N,) silhouettes of sheets.
        waves: (N, WAVES, 4) relief of sheets, or None where they are flat.
    """

    kind: str
    centre: Floats
    rotation: Floats
    half: Floats
    material: int = 0
    cut: Ints | None = None
    waves: Floats | None = None


Furniture = Callable[[np.random.Generator, Bank], list[Component]]


def turned(yaw: Floats, pitch: Floats, roll: Floats) -> Floats:
    """Rotations (N, 3, 3) whose rows are local axes: identity turned about y, then x, then z (radians)."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    one, nil = np.ones_like(yaw), np.zeros_like(yaw)
    about_y = np.stack([cy, nil, -sy, nil, one, nil, sy, nil, cy], -1).reshape(-1, 3, 3)
    about_x = np.stack([one, nil, nil, nil, cp, sp, nil, -sp, cp], -1).reshape(-1, 3, 3)
    about_z = np.stack([cr, sr, nil, -sr, cr, nil, nil, nil, one], -1).reshape(-1, 3, 3)
    return about_z @ about_x @ about_y


def upright(count: int, yaw: float = 0.0) -> Floats:
    """The same rotation about the vertical, N times."""
    return np.repeat(turned(np.array([yaw]), np.zeros(1), np.zeros(1)), count, 0)


def aligned(direction: Floats, normal: Floats) -> Floats:
    """Rotations (N, 3, 3) whose second axis is along `direction` and third as near to `normal` as that allows."""
    second = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    third = normal - (normal * second).sum(1, keepdims=True) * second
    third /= np.maximum(np.linalg.norm(third, axis=1, keepdims=True), 1e-9)
    return np.stack([np.cross(second, third), second, third], 1)


def boxes(centre: ArrayLike, half: ArrayLike, *, yaw: float = 0.0, material: int = 0) -> Component:
    """Upright boxes."""
    centre, half = np.atleast_2d(np.asarray(centre, np.float64)), np.atleast_2d(np.asarray(half, np.float64))
    return Component("box", centre, upright(len(centre), yaw), half, material)


def rods(start: Floats, end: Floats, radius: float, *, material: int = 0) -> Component:
    """Thin cylinders between points (N, 3)."""
    along = end - start
    length = np.linalg.norm(along, axis=1)
    frame = aligned(along, np.where(np.abs(along[:, [2]]) < 0.9 * length[:, None], [[0.0, 0, 1]], [[1.0, 0, 0]]))
    half = np.stack([np.full(len(start), radius), np.full(len(start), radius), length / 2], 1)
    # A round body's axis is its third.
    return Component("cylinder", (start + end) / 2, frame[:, [2, 0, 1]], half, material)


def round_bodies(kind: str, centre: ArrayLike, half: ArrayLike, *, material: int = 0) -> Component:
    """Upright quadrics; `half` is radius, radius, half height. A cone stands on its base."""
    centre, half = np.atleast_2d(np.asarray(centre, np.float64)), np.atleast_2d(np.asarray(half, np.float64))
    axes = np.repeat(np.array([[[1.0, 0, 0], [0, 0, 1], [0, 1, 0]]]), len(centre), 0)
    return Component(kind, centre, axes, half, material)


def waves(rng: np.random.Generator, count: int, *, slope: float, reach: Floats) -> Floats:
    """Relief (N, WAVES, 4) for sheets of half extents `reach` (N, 2) whose steepest slope stays below `slope`."""
    heading = rng.uniform(0, 2 * np.pi, (count, WAVES))
    # Wave numbers per unit of half extent: from one bulge to a few folds.
    number = np.pi * 2 ** rng.uniform(-1, 1.6, (count, WAVES))
    k_u, k_v = number * np.cos(heading), number * np.sin(heading)
    steepness = np.hypot(k_u / reach[:, :1], k_v / reach[:, 1:])
    share = rng.dirichlet(np.ones(WAVES), count)
    amplitude = slope * rng.uniform(0.3, 1, (count, 1)) * share / steepness
    return np.stack([k_u, k_v, rng.uniform(0, 2 * np.pi, (count, WAVES)), amplitude], -1)


def plant(rng: np.random.Generator, bank: Bank) -> list[Component]:
    """Bent leaves from one root in a pot."""
    count = int(rng.integers(6, 22))
    around, rise = rng.uniform(-np.pi, np.pi, count), rng.uniform(0.25, 1.4, count)
    direction = np.stack([np.cos(around) * np.cos(rise), -np.sin(rise), np.sin(around) * np.cos(rise)], 1)
    length = rng.uniform(0.6, 1.5, count)
    width = length * rng.uniform(0.08, 0.35)
    half = np.stack([width, length / 2, np.ones(count)], 1)
    root = np.array([0, 0.55, 0])
    # Leaves show their upper side to the sky and to the viewer.
    normal = np.array([0, -0.6, -0.8]) + rng.normal(0, 0.5, (count, 3))
    shapes = bank.shapes_named("blob", "ellipse", "leaves")
    leaf = Component(
        "sheet", root + direction * length[:, None] / 2, aligned(direction, normal), half, 0,
        cut=rng.choice(shapes, count), waves=waves(rng, count, slope=0.35, reach=half[:, :2]),
    )  # fmt: skip
    pot = round_bodies(str(rng.choice(["cylinder", "bowl", "spool"])), [[0, 0.78, 0]], [[0.3, 0.3, 0.22]], material=1)
    return [leaf, pot]


def shelf(rng: np.random.Generator, bank: Bank) -> list[Component]:
    """Boards between uprights with books and boxes on them."""
    rows, depth = int(rng.integers(2, 5)), rng.uniform(0.15, 0.35)
    heights = np.linspace(-1, 1, rows + 1)
    boards = boxes([[0, y, 0] for y in heights], [[1, 0.025, depth]] * (rows + 1))
    sides = boxes([[-1, 0, 0], [1, 0, 0]], [[0.025, 1, depth]] * 2)
    parts = [boards, sides]
    gap = 2 / rows
    for material in range(1, int(rng.integers(4, 9))):
        floor = heights[rng.integers(1, rows + 1)]
        count = int(rng.integers(1, 5))
        width, height = rng.uniform(0.03, 0.2), gap * rng.uniform(0.3, 0.85)
        first = rng.uniform(-0.9, 0.9 - 2 * width * count if 2 * width * count < 1.7 else -0.9)
        x = first + (2 * np.arange(count) + 1) * width
        centre = np.stack([x, np.full(count, floor - 0.025 - height / 2), np.full(count, -0.1 * depth)], 1)
        half = np.tile([width * 0.96, height / 2, depth * rng.uniform(0.5, 0.9)], (count, 1))
        half[:, 1] *= rng.uniform(0.9, 1, count)
        parts.append(boxes(centre[x + width < 1], half[x + width < 1], material=material))
    return [part for part in parts if len(part.centre)]


def table(rng: np.random.Generator, bank: Bank) -> list[Component]:
    """A table, or a chair with its back."""
    chair = rng.random() < 0.5
    reach = np.array([0.5, 0.5]) if chair else rng.uniform(0.5, 1, 2)
    top = 0.1 if chair else -0.2
    corner = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]]) * (reach - 0.05)
    feet = np.stack([corner[:, 0], np.ones(4), corner[:, 1]], 1)
    heads = feet * [0.95, 0, 0.95] + [0, top, 0]
    thick = rng.uniform(0.015, 0.06)
    parts = [
        boxes([[0, top, 0]], [[reach[0], thick, reach[1]]]),
        rods(feet, heads, rng.uniform(0.02, 0.05), material=1),
    ]
    if chair:
        count = int(rng.integers(2, 6))
        x = np.linspace(-reach[0] * 0.9, reach[0] * 0.9, count)
        bars = np.stack([x, np.full(count, (top - 1) / 2), np.full(count, reach[1])], 1)
        parts.append(boxes(bars, np.tile([rng.uniform(0.02, 0.08), (1 + top) / 2, 0.02], (count, 1))))
        parts.append(boxes([[0, -0.95, reach[1]]], [[reach[0], 0.07, 0.025]]))
    else:
        count = int(rng.integers(0, 5))
        size = rng.uniform(0.05, 0.2, (count, 3))
        place = np.stack([rng.uniform(-0.7, 0.7, count), top - thick - size[:, 1], rng.uniform(-0.4, 0.4, count)], 1)
        parts += [boxes(place[i], size[i], yaw=float(i), material=2 + i) for i in range(count)]
    return parts


def lamp(rng: np.random.Generator, bank: Bank) -> list[Component]:
    """A foot, a jointed arm of rods and a shade."""
    joints = np.array([[0, 0.95, 0], [0, 0, 0], [0, -0.7, 0]]) + rng.normal(0, [0.35, 0.1, 0.2], (3, 3)) * [
        [0],
        [1],
        [1],
    ]
    arm = rods(joints[:-1], joints[1:], rng.uniform(0.015, 0.05))
    foot = round_bodies("cylinder", [[0, 0.96, 0]], [[0.35, 0.35, 0.04]])
    kind = str(rng.choice(["cone", "bowl", "ellipsoid", "cylinder"]))
    shade = round_bodies(kind, [joints[2] + [0, 0.1, 0]], [[0.3, 0.3, 0.25]], material=1)
    return [arm, foot, shade]


def figure(rng: np.random.Generator, bank: Bank) -> list[Component]:
    """Ellipsoids and limbs: a toy, an animal, a person far away."""
    width = rng.uniform(0.22, 0.5)
    body = round_bodies("ellipsoid", [[0, 0.1, 0]], [[width, width * 0.8, 0.45]])
    head = round_bodies("ellipsoid", [[0, -0.6, 0]], [[width * 0.7, width * 0.7, 0.3]], material=1)
    sides = np.array([-1.0, 1.0])
    zero, one = np.zeros(2), np.ones(2)
    shoulder = np.stack([sides * width * 0.9, -0.15 * one, zero], 1)
    hand = shoulder + np.stack(
        [sides * rng.uniform(0.1, 0.6, 2), rng.uniform(-0.3, 0.5, 2), rng.uniform(-0.4, 0, 2)], 1
    )
    hip = np.stack([sides * width * 0.5, 0.4 * one, zero], 1)
    foot = np.stack([sides * width * rng.uniform(0.4, 1), one, rng.uniform(-0.3, 0.2, 2)], 1)
    limb = width * rng.uniform(0.2, 0.35)
    return [body, head, rods(shoulder, hand, limb), rods(hip, foot, limb, material=2)]


def vehicle(rng: np.random.Generator, bank: Bank) -> list[Component]:
    """A body, a cabin and four wheels."""
    width = rng.uniform(0.35, 0.5)
    hull = boxes([[0, 0.68, 0]], [[width, rng.uniform(0.15, 0.22), 1.0]])
    cabin = boxes([[0, 0.36, 0.1]], [[width * 0.88, rng.uniform(0.14, 0.3), rng.uniform(0.4, 0.85)]], material=1)
    hub = np.array([[x * width, 0.83, z] for x in (-0.93, 0.93) for z in (-0.6, 0.62)])
    across = np.tile([0.06, 0.0, 0.0], (4, 1))
    tyres = rods(hub - across, hub + across, 0.17, material=2)
    disc_pose = np.repeat(np.array([[[0, 0, 1.0], [0, 1, 0], [1, 0, 0]]]), 4, 0)
    faces = hub + np.sign(hub[:, :1]) * across * 1.02
    discs = Component("sheet", faces, disc_pose, np.full((4, 3), 0.17), 2, cut=np.ones(4, np.int64))
    return [hull, cabin, tyres, discs]


def fence(rng: np.random.Generator, bank: Bank) -> list[Component]:
    """A row of posts with rails, of round or square bars."""
    count = int(rng.integers(4, 20))
    thick, top = rng.uniform(0.008, 0.5 / count), rng.uniform(-0.6, 0.6)
    x = np.linspace(-1.4, 1.4, count)
    zero = np.zeros(count)
    rails = np.array([[0, y, 0] for y in (top + 0.05, 0.85)])
    posts = rods(np.stack([x, zero + top, zero], 1), np.stack([x, zero + 1, zero], 1), thick)
    return [posts, boxes(rails, np.tile([1.45, rng.uniform(0.01, 0.05), thick * 0.7], (2, 1)))]


def pile(rng: np.random.Generator, bank: Bank) -> list[Component]:
    """Boxes stacked with slight turns."""
    parts, floor = [], 1.0
    for material in range(int(rng.integers(2, 7))):
        half = np.array([rng.uniform(0.25, 0.7), rng.uniform(0.05, 0.3), rng.uniform(0.2, 0.5)])
        centre = np.array([rng.normal(0, 0.12), floor - half[1], rng.normal(0, 0.1)])
        parts.append(boxes(centre, half, yaw=rng.normal(0, 0.4), material=material))
        floor -= 2 * half[1]
    return parts


def rod_frame(rng: np.random.Generator, bank: Bank) -> list[Component]:
    """Thin rods between random points, with hoops: bicycles, scaffolds, twigs, machine parts."""
    points = rng.uniform(-1, 1, (int(rng.integers(4, 10)), 3)) * [1, 1, rng.uniform(0.1, 0.6)]
    count = int(rng.integers(4, 16))
    ends = rng.integers(0, len(points), (count, 2))
    ends[:, 1] = np.where(ends[:, 0] == ends[:, 1], (ends[:, 1] + 1) % len(points), ends[:, 1])
    parts = [rods(points[ends[:, 0]], points[ends[:, 1]], 10 ** rng.uniform(-2.1, -1.2))]
    hoops = int(rng.integers(0, 3))
    if hoops:
        half = np.repeat(rng.uniform(0.3, 0.6, (hoops, 1)), 3, 1)
        pose = turned(rng.normal(0, 0.5, hoops), np.zeros(hoops), np.zeros(hoops))
        centre = np.stack([rng.uniform(-0.8, 0.8, hoops), 1 - half[:, 0], np.zeros(hoops)], 1)
        shapes = bank.shapes_named("ellipse", "bars")
        parts.append(Component("sheet", centre, pose, half, 1, cut=rng.choice(shapes, hoops)))
    return parts


def cloth(rng: np.random.Generator, bank: Bank) -> list[Component]:
    """Hanging or crumpled sheets with folds."""
    count = int(rng.integers(1, 4))
    half = np.concatenate([rng.uniform(0.5, 1, (count, 2)), np.ones((count, 1))], 1)
    pose = turned(rng.normal(0, 0.4, count), rng.normal(0, 0.3, count), rng.normal(0, 0.3, count))
    relief = waves(rng, count, slope=0.6, reach=half[:, :2])
    cut = np.where(rng.random(count) < 0.5, 0, rng.choice(bank.shapes_named("blob", "polygon"), count))
    centre = rng.uniform(-0.3, 0.3, (count, 3))
    return [Component("sheet", centre[[i]], pose[[i]], half[[i]], i, cut=cut[[i]], waves=relief[[i]])
            for i in range(count)]  # fmt: skip


FURNITURE: dict[str, tuple[Furniture, float]] = {
    "plant": (plant, 0.17),
    "shelf": (shelf, 0.12),
    "table": (table, 0.13),
    "lamp": (lamp, 0.08),
    "figure": (figure, 0.1),
    "vehicle": (vehicle, 0.08),
    "fence": (fence, 0.08),
    "pile": (pile, 0.1),
    "rod_frame": (rod_frame, 0.09),
    "cloth": (cloth, 0.05),
}


def draw_furniture(rng: np.random.Generator, bank: Bank) -> list[Component]:
    """A compound object drawn by its weight in `FURNITURE`."""
    weights = np.array([weight for _, weight in FURNITURE.values()])
    return list(FURNITURE.values())[rng.choice(len(FURNITURE), p=weights / weights.sum())][0](rng, bank)
