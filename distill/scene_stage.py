"""The stage of a random scene: sky, floor, walls and backdrops, on which `distill.scene_layout` places objects."""

from __future__ import annotations

import dataclasses

import numpy as np

from distill.scene_furniture import turned, waves
from distill.scene_geometry import Floats, Ints, Surfaces, flat
from distill.scene_materials import ANY, GROUND, SKY, WALL, one_texel_per_pixel
from distill.scene_textures import Bank

# Disparity of the backdrop "at infinity": below what any file format or metric resolves.
SKY_DISPARITY_PX = 1e-4
STAGES = {"street": 0.31, "room": 0.29, "wall": 0.32, "sky": 0.08}


@dataclasses.dataclass
class Scene:
    """One scene while it is being built; surfaces carry object numbers from 0 on."""

    rng: np.random.Generator
    bank: Bank
    size: tuple[int, int]
    focal: float
    centre: tuple[float, float]
    near: float
    largest: float
    parts: list[Surfaces] = dataclasses.field(default_factory=list)
    tiles: list[Floats] = dataclasses.field(default_factory=list)
    looks: list[Ints] = dataclasses.field(default_factory=list)

    def new_things(self, depth: Floats, look: int | Ints = ANY) -> Ints:
        """Numbers for new objects of one look, or one each, with textures scaled for a view from `depth`."""
        first = sum(map(len, self.looks))
        self.tiles.append(one_texel_per_pixel(depth, self.focal))
        self.looks.append(np.full(len(depth), look))
        return np.arange(first, first + len(depth))

    def endless(self, look: int, depth: float, centre: tuple[float, float, float], rotation: Floats,
                relief: Floats | None = None) -> None:  # fmt: skip
        """An unbounded plane through `centre`, dressed for a view from `depth`."""
        thing = self.new_things(np.array([depth]), look)
        borders = np.full((1, 2), np.inf)
        self.parts.append(flat(zeros(1), thing, np.array([centre]), rotation, borders, waves=relief))


def zeros(count: int) -> Ints:
    return np.zeros(count, np.int64)


def pose(yaw: float, pitch: float, roll: float = 0.0) -> Floats:
    """One rotation (1, 3, 3); see `turned`."""
    return turned(np.array([yaw]), np.array([pitch]), np.array([roll]))


def backdrop(scene: Scene, disparity: float, *, tilt: float) -> None:
    """A plane that fills the view at `disparity` in its middle, sometimes hung with folds."""
    rng, depth = scene.rng, scene.focal / disparity
    yaw, pitch = rng.uniform(-tilt, tilt, 2)
    relief = None
    if rng.random() < 0.3:
        # Folds must not turn away from any ray: the flatter the ray meets the plane, the gentler they are.
        half_view = np.arctan(0.55 * np.hypot(*scene.size) / scene.focal)
        steepest = np.tan(min(np.hypot(yaw, pitch) + half_view, 1.5))
        reach = np.full((1, 2), 0.35 * scene.size[1] / disparity)
        relief = waves(rng, 1, slope=0.7 / max(steepest, 0.7), reach=reach)
        # Wave numbers are per local unit, which for an endless plane is the unit of the world.
        relief[..., :2] /= reach[0, 0]
    scene.endless(WALL, depth, (0.0, 0.0, depth), pose(yaw, pitch), relief)


@dataclasses.dataclass
class Floor:
    """A floor `height` below the eye, not quite level; `normal` (3,) is along y but for that."""

    height: float
    normal: Floats

    def below(self, x: Floats, z: Floats) -> Floats:
        """World y (N,) of the floor at x, z."""
        return self.height - (self.normal[0] * x + self.normal[2] * z) / self.normal[1]


def ground(scene: Scene, nearest: float) -> Floor:
    """A floor that reaches disparity `nearest` at the bottom of the image."""
    height = (scene.size[0] - scene.centre[1]) / nearest
    rng = scene.rng
    rotation = pose(0.0, np.pi / 2 + rng.normal(0, 0.03)) @ pose(0.0, 0.0, rng.normal(0, 0.03))
    scene.endless(GROUND, height * scene.focal / scene.size[0] * 3, (0.0, height, 0.0), rotation)
    return Floor(height, rotation[0, 2])


def side_walls(scene: Scene, height: float, *, indoors: bool) -> None:
    """Walls along the way of sight at either side or both; indoors without end and perhaps with a ceiling."""
    rng = scene.rng
    for sign in (-1.0, 1.0):
        if rng.random() < 0.3:
            continue
        distance = height * 2 ** rng.uniform(0, 3)
        depth = distance * scene.focal / scene.size[1] * 2.5
        turn = pose(np.pi / 2 + rng.normal(0, 0.15), 0.0)
        if indoors:
            scene.endless(WALL, depth, (sign * distance, 0.0, 0.0), turn)
            continue
        top = height * 2 ** rng.uniform(-1, 3)
        centre = np.array([[sign * distance, height - top, 0.0]])
        thing = scene.new_things(np.array([depth]), WALL)
        scene.parts.append(flat(zeros(1), thing, centre, turn, np.array([[100 * distance, top]])))
    if indoors and rng.random() < 0.3:
        above = height * 2 ** rng.uniform(0, 2)
        depth = above * scene.focal / scene.size[0] * 3
        scene.endless(WALL, depth, (0.0, -above, 0.0), pose(0.0, np.pi / 2))


def stage(scene: Scene) -> tuple[float, Floor | None]:
    """Build what surrounds the objects; returns its disparity in the distance and the floor, if any."""
    rng = scene.rng
    sky_depth = scene.focal / SKY_DISPARITY_PX
    scene.endless(SKY, sky_depth, (0.0, 0.0, sky_depth), pose(0.0, 0.0))
    kind = rng.choice(list(STAGES), p=list(STAGES.values()))
    if kind == "wall":
        far = scene.largest * rng.uniform(0.15, 0.75)
        backdrop(scene, far, tilt=0.8)
        if rng.random() < 0.4:
            backdrop(scene, far * rng.uniform(0.7, 1.1), tilt=1.0)
        return far, ground(scene, scene.largest * rng.uniform(0.6, 1)) if rng.random() < 0.4 else None
    if kind == "sky":
        return scene.largest * rng.uniform(0.02, 0.2), None
    floor = ground(scene, scene.largest * rng.uniform(0.5, 1))
    if kind == "room":
        far = scene.largest * rng.uniform(0.1, 0.5)
        backdrop(scene, far, tilt=0.4)
        side_walls(scene, floor.height, indoors=True)
        return far, floor
    far = scene.largest * rng.uniform(0.01, 0.15)
    if rng.random() < 0.35:
        backdrop(scene, far, tilt=0.0)
    if rng.random() < 0.5:
        side_walls(scene, floor.height, indoors=False)
    return far, floor
