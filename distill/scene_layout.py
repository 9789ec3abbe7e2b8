"""Random worlds: which surfaces stand where, what they are made of, and how they are lit.

A scene is a stage (street, room, wall or open sky) and objects on and above it. Sizes are chosen in the image and in
disparity, because those are what a stereo network sees, and then put into the world. The unit of length is the
baseline, so disparity = focal / depth.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from distill.scene_geometry import Cameras, Floats, Ints, Surfaces, box_faces, flat, join, quadrics
from distill.scene_materials import ANY, GROUND, SKY, WALL, Materials, draw_materials, one_texel_per_pixel
from distill.scene_shading import Lights
from distill.scene_textures import Bank
from distill.scenes_config import SceneOptions

# Number of the round silhouette in the bank.
DISC = 1
# Disparity of the backdrop "at infinity": below what any file format or metric resolves.
SKY_DISPARITY_PX = 1e-4
STAGES = {"street": 0.35, "room": 0.25, "wall": 0.28, "sky": 0.12}
THINGS = {"cut-out": 0.36, "board": 0.08, "box": 0.2, "ellipsoid": 0.12, "cylinder": 0.1, "rod": 0.08, "cone": 0.06}


@dataclasses.dataclass
class World:
    """All scenes of a batch: surfaces, materials, light, the left cameras and the nearest depth drawn (B,)."""

    surfaces: Surfaces
    materials: Materials
    lights: Lights
    cameras: Cameras
    near: Floats


@dataclasses.dataclass
class Scene:
    """One scene while it is being built; surfaces carry object numbers from 0 on."""

    rng: np.random.Generator
    size: tuple[int, int]
    focal: float
    centre: tuple[float, float]
    near: float
    largest: float
    parts: list[Surfaces] = dataclasses.field(default_factory=list)
    tiles: list[Floats] = dataclasses.field(default_factory=list)
    looks: list[Ints] = dataclasses.field(default_factory=list)

    def new_things(self, depth: Floats, look: int = ANY) -> Ints:
        """Numbers for new objects of one look, with textures scaled for a view from `depth`."""
        first = self.things
        self.tiles.append(one_texel_per_pixel(depth, self.focal))
        self.looks.append(np.full(len(depth), look))
        return np.arange(first, first + len(depth))

    @property
    def things(self) -> int:
        """Number of objects so far."""
        return sum(map(len, self.looks))


def zeros(count: int) -> Ints:
    return np.zeros(count, np.int64)


def turned(yaw: Floats, pitch: Floats, roll: Floats) -> Floats:
    """Rotations (N, 3, 3) whose rows are local axes: identity turned about y, then x, then z (radians)."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    one, nil = np.ones_like(yaw), np.zeros_like(yaw)
    about_y = np.stack([cy, nil, -sy, nil, one, nil, sy, nil, cy], -1).reshape(-1, 3, 3)
    about_x = np.stack([one, nil, nil, nil, cp, sp, nil, -sp, cp], -1).reshape(-1, 3, 3)
    about_z = np.stack([cr, sr, nil, -sr, cr, nil, nil, nil, one], -1).reshape(-1, 3, 3)
    return about_z @ about_x @ about_y


def backdrop(scene: Scene, disparity: float, *, tilt: float) -> None:
    """An unbounded plane that fills the view, at `disparity` in its middle."""
    depth = scene.focal / disparity
    yaw, pitch = scene.rng.uniform(-tilt, tilt, (2, 1))
    rotation = turned(yaw, pitch, np.zeros(1))
    centre = np.array([[0.0, 0.0, depth]])
    thing = scene.new_things(np.array([depth]), SKY if disparity == SKY_DISPARITY_PX else WALL)
    scene.parts.append(flat(zeros(1), thing, centre, rotation, np.full((1, 2), np.inf)))


def ground(scene: Scene, nearest: float) -> float:
    """A floor that reaches disparity `nearest` at the bottom of the image; returns the height of the eye over it."""
    height = (scene.size[0] - scene.centre[1]) / nearest
    rng = scene.rng
    rotation = turned(np.zeros(1), np.pi / 2 + rng.normal(0, 0.03, 1), np.zeros(1))
    roll = turned(np.zeros(1), np.zeros(1), rng.normal(0, 0.03, 1))
    thing = scene.new_things(np.array([height * scene.focal / scene.size[0] * 3]), GROUND)
    scene.parts.append(flat(zeros(1), thing, np.array([[0, height, 0.0]]), rotation @ roll, np.full((1, 2), np.inf)))
    return height


def side_walls(scene: Scene, height: float) -> None:
    """Walls along the way of sight, at either side or both."""
    rng = scene.rng
    for sign in (-1.0, 1.0):
        if rng.random() < 0.3:
            continue
        distance = height * 2 ** rng.uniform(0, 3)
        rotation = turned(np.array([np.pi / 2 + rng.normal(0, 0.15)]), np.zeros(1), np.zeros(1))
        thing = scene.new_things(np.array([distance * scene.focal / scene.size[1] * 2.5]), WALL)
        centre = np.array([[sign * distance, 0.0, 0.0]])
        scene.parts.append(flat(zeros(1), thing, centre, rotation, np.full((1, 2), np.inf)))


def stage(scene: Scene) -> tuple[float, float | None]:
    """Build what surrounds the objects; returns its disparity in the distance and the eye's height over the floor."""
    rng = scene.rng
    kind = rng.choice(list(STAGES), p=list(STAGES.values()))
    if kind == "wall":
        far = scene.largest * rng.uniform(0.1, 0.7)
        backdrop(scene, far, tilt=0.8)
        if rng.random() < 0.4:
            backdrop(scene, far * rng.uniform(0.7, 1.1), tilt=1.0)
        return far, ground(scene, scene.largest * rng.uniform(0.6, 1)) if rng.random() < 0.3 else None
    if kind == "sky":
        backdrop(scene, SKY_DISPARITY_PX, tilt=0.0)
        return scene.largest * rng.uniform(0.02, 0.2), None
    nearest = scene.largest * rng.uniform(0.5, 1)
    height = ground(scene, nearest)
    if kind == "room":
        far = scene.largest * rng.uniform(0.1, 0.5)
        backdrop(scene, far, tilt=0.4)
        side_walls(scene, height)
        return far, height
    far = scene.largest * rng.uniform(0.01, 0.15)
    backdrop(scene, SKY_DISPARITY_PX if rng.random() < 0.5 else far, tilt=0.0)
    if rng.random() < 0.5:
        side_walls(scene, height)
    return far, height


def add_objects(scene: Scene, count: int, far: float, height: float | None, shapes: int) -> None:
    """Place free-standing objects between the distance and the largest disparity."""
    rng = scene.rng
    kinds = rng.choice(len(THINGS), count, p=list(THINGS.values()))
    disparity = scene.largest * (far / scene.largest) ** rng.uniform(0, 1, count)
    radius_px = np.minimum(scene.size[0] * 0.13 * 2 ** rng.normal(0, 1.0, count), 0.3 * scene.focal)
    depth = np.maximum(scene.focal / disparity, scene.near / (1 - 1.8 * radius_px / scene.focal) * 1.02)
    radius = radius_px * depth / scene.focal
    x = (rng.uniform(-0.1, 1.1, count) * scene.size[1] - scene.centre[0]) * depth / scene.focal
    y = (rng.uniform(-0.1, 1.1, count) * scene.size[0] - scene.centre[1]) * depth / scene.focal
    standing = rng.random(count) < (0.7 if height is not None else 0.0)
    half = radius[:, None] * 2 ** rng.uniform(-1.2, 0, (count, 3))
    upright = turned(rng.uniform(-np.pi, np.pi, count), np.zeros(count), np.zeros(count))
    tumbled = turned(*rng.uniform(-np.pi, np.pi, (3, count)))
    facing = turned(rng.normal(0, 0.5, count), rng.normal(0, 0.4, count), rng.normal(0, 0.7, count))
    facing_upright = turned(rng.normal(0, 0.7, count), np.zeros(count), rng.normal(0, 0.03, count))
    body = np.where(standing[:, None, None], upright, tumbled)
    sheet = np.where(standing[:, None, None], facing_upright, facing)
    vertical = half[:, 1]
    if height is not None:
        y = np.where(standing, height - vertical, y)
    centre = np.stack([x, y, depth], -1)
    thing = scene.new_things(depth)
    for index, name in enumerate(THINGS):
        own = kinds == index
        if own.any():
            cut = rng.integers(1, shapes, int(own.sum())) if name == "cut-out" else zeros(int(own.sum()))
            pose = sheet[own] if name in ("cut-out", "board") else body[own]
            scene.parts += build(name, thing[own], centre[own], pose, half[own], cut)


def build(name: str, thing: Ints, centre: Floats, pose: Floats, half: Floats, cut: Ints) -> list[Surfaces]:
    """Surfaces of objects of one sort."""
    scene = zeros(len(thing))
    if name in ("cut-out", "board"):
        return [flat(scene, thing, centre, pose, half[:, :2], cut=cut)]
    if name == "box":
        return [box_faces(scene, thing, centre, pose, half)]
    if name == "ellipsoid":
        return [quadrics(scene, thing, centre, pose, half, np.tile([1.0, 0.0], (len(thing), 1)))]
    # The axis of round bodies is their third; standing ones have theirs upright.
    axis_up = pose[:, [2, 0, 1]]
    body = half[:, [0, 2, 1]].copy()
    if name == "rod":
        body[:, :2] = body[:, 2, None] * 0.03
    if name == "cone":
        # p1² + p2² = ((1 + p3) / 2)²: the tip is at p3 = -1, which is up.
        return [quadrics(scene, thing, centre, axis_up, body, np.tile([-1.0, 0.0], (len(thing), 1)))]
    tube = quadrics(scene, thing, centre, axis_up, body, np.zeros((len(thing), 2)))
    caps = [
        flat(scene, thing, centre + sign * body[:, 2, None] * axis_up[:, 2], axis_up, body[:, :2], cut=scene + DISC)
        for sign in (-1.0, 1.0)
    ]
    return [tube, *caps]


def compose(rng: np.random.Generator, count: int, size: tuple[int, int], options: SceneOptions, bank: Bank) -> World:
    """Draw `count` scenes for views of `size`, dressed from `bank`."""
    scenes, parts = [], []
    offset = 0
    for index in range(count):
        focal = size[1] * 2 ** rng.uniform(-0.7, 1.0)
        centre = (size[1] / 2 + rng.normal(0, 0.03) * size[1], size[0] * rng.uniform(0.35, 0.6))
        largest = options.max_disp * 0.97 * 2 ** -rng.uniform(0, 4.5)
        scene = Scene(rng, size, focal, centre, near=focal / (0.995 * options.max_disp), largest=largest)
        far, height = stage(scene)
        objects = int(np.clip(options.objects * 2 ** rng.normal(0, 0.6), 0, 4 * options.objects))
        add_objects(scene, objects, far, height, options.bank_size)
        surfaces = join(scene.parts)
        parts.append(dataclasses.replace(surfaces, scene=surfaces.scene + index, thing=surfaces.thing + offset))
        offset += scene.things
        scenes.append(scene)
    tiles = np.concatenate([tile for scene in scenes for tile in scene.tiles])
    looks = np.concatenate([look for scene in scenes for look in scene.looks])
    materials = draw_materials(rng, looks, tiles, bank)
    towards = rng.normal(0, 1, (count, 3)) + np.array([0.0, -1.0, -0.7])
    lights = Lights(towards / np.linalg.norm(towards, axis=1, keepdims=True), rng.uniform(0.35, 0.8, count))
    cameras = Cameras(
        focal=np.array([scene.focal for scene in scenes]),
        centre_x=np.array([scene.centre[0] for scene in scenes]),
        centre_y=np.array([scene.centre[1] for scene in scenes]),
        rotation=np.tile(np.eye(3), (count, 1, 1)),
        translation=np.zeros((count, 3)),
    )
    return World(join(parts), materials, lights, cameras, np.array([scene.near for scene in scenes]))
