"""Random worlds: which surfaces stand where, what they are made of, and how they are lit.

A scene is a sky, a stage (`distill.scene_stage`) and objects on and above it. Sizes are chosen in the image and
in disparity, because those are what a stereo network sees, and then put into the world. The unit of length is the
baseline, so disparity = focal / depth.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from distill.scene_furniture import Component, draw_furniture, turned, waves
from distill.scene_geometry import BENDS, Cameras, Floats, Ints, Surfaces, box_faces, flat, join, quadrics
from distill.scene_lights import Lights, draw_lights
from distill.scene_materials import ANY, GLASS, Materials, draw_materials
from distill.scene_stage import Floor, Scene, stage, zeros
from distill.scene_textures import Bank
from distill.scenes_config import SceneOptions

# Number of the round silhouette in the bank.
DISC = 1
THINGS = {
    "cut-out": 0.34, "board": 0.1, "box": 0.2, "ellipsoid": 0.1, "cylinder": 0.09, "rod": 0.07, "cone": 0.05,
    "bowl": 0.03, "spool": 0.02,
}  # fmt: skip
# Share of the free-standing objects that are compound ones.
FURNITURE_SHARE = 0.22
# Share of boards and bodies that are seen through.
GLASS_SHARE = 0.06


@dataclasses.dataclass
class World:
    """All scenes of a batch: surfaces, materials, light, the left cameras and the nearest depth drawn (B,)."""

    surfaces: Surfaces
    materials: Materials
    lights: Lights
    cameras: Cameras
    near: Floats

    @property
    def clear(self) -> NDArray[np.bool_]:
        """Which surfaces (S,) are seen through."""
        return self.materials.clear[self.surfaces.thing]


@dataclasses.dataclass
class Places:
    """Where N objects go: centres (N, 3), depths and radii (N,), and whether they stand upright (N,)."""

    centre: Floats
    depth: Floats
    radius: Floats
    standing: np.ndarray


def choose_places(scene: Scene, count: int, far: float, floor: Floor | None, radius_share: Floats) -> Places:
    """Places between the distance and the largest disparity, for radii given as shares of the image's height."""
    rng = scene.rng
    disparity = scene.largest * (far / scene.largest) ** rng.uniform(0, 1, count)
    radius_px = np.minimum(scene.size[0] * radius_share, 0.3 * scene.focal)
    depth = np.maximum(scene.focal / disparity, scene.near / (1 - 1.8 * radius_px / scene.focal) * 1.02)
    x = (rng.uniform(-0.1, 1.1, count) * scene.size[1] - scene.centre[0]) * depth / scene.focal
    y = (rng.uniform(-0.1, 1.1, count) * scene.size[0] - scene.centre[1]) * depth / scene.focal
    standing = rng.random(count) < (0.85 if floor is not None else 0.0)
    return Places(np.stack([x, y, depth], -1), depth, radius_px * depth / scene.focal, standing)


def add_objects(scene: Scene, count: int, far: float, floor: Floor | None) -> None:
    """Place simple free-standing objects."""
    rng = scene.rng
    kinds = rng.choice(len(THINGS), count, p=list(THINGS.values()))
    places = choose_places(scene, count, far, floor, 0.17 * 2 ** rng.normal(0, 1.0, count))
    half = places.radius[:, None] * 2 ** rng.uniform(-1.2, 0, (count, 3))
    # Poles and wires are long.
    half[kinds == list(THINGS).index("rod"), 1] *= 2 ** rng.uniform(0, 2.5)
    still = np.zeros(count)
    upright = turned(rng.uniform(-np.pi, np.pi, count), still, still)
    yaw, pitch, roll = rng.uniform(-np.pi, np.pi, (3, count))
    tumbled = turned(yaw, pitch, roll)
    facing = turned(rng.normal(0, 0.5, count), rng.normal(0, 0.4, count), rng.normal(0, 0.7, count))
    facing_upright = turned(rng.normal(0, 0.7, count), still, rng.normal(0, 0.03, count))
    stands = places.standing[:, None, None]
    body, sheet = np.where(stands, upright, tumbled), np.where(stands, facing_upright, facing)
    if floor is not None:
        under = floor.below(places.centre[:, 0], places.centre[:, 2])
        places.centre[:, 1] = np.where(places.standing, under - half[:, 1], places.centre[:, 1])
    can_be_clear = ~np.isin(np.array(list(THINGS))[kinds], ("cut-out", "rod"))
    thing = scene.new_things(places.depth, np.where(can_be_clear & (rng.random(count) < GLASS_SHARE), GLASS, ANY))
    for index, name in enumerate(THINGS):
        own = np.flatnonzero(kinds == index)
        if not len(own):
            continue
        if name in ("cut-out", "board"):
            cut = rng.integers(1, scene.bank.count, len(own)) if name == "cut-out" else zeros(len(own))
            wavy = waves(rng, len(own), slope=0.4, reach=half[own, :2]) if rng.random() < 0.3 else None
            part = Component("sheet", places.centre[own], sheet[own], half[own], cut=cut, waves=wavy)
            scene.parts += emit(part, thing[own])
            continue
        # The axis of round bodies is their third; standing ones have theirs upright.
        own_half = half[own] if name == "box" else half[own][:, [0, 2, 1]]
        own_pose = body[own] if name == "box" else body[own][:, [2, 0, 1]]
        if name == "rod":
            own_half[:, :2] = own_half[:, 2, None] * 10 ** rng.uniform(-2.5, -1, (len(own), 1))
        kind = "cylinder" if name == "rod" else name
        scene.parts += emit(Component(kind, places.centre[own], own_pose, own_half), thing[own])


def add_furniture(scene: Scene, count: int, far: float, floor: Floor | None) -> None:
    """Place compound objects."""
    rng = scene.rng
    places = choose_places(scene, count, far, floor, 0.25 * 2 ** rng.normal(0, 0.7, count))
    for index in range(count):
        radius, standing = places.radius[index], places.standing[index]
        angles = rng.uniform(-np.pi, np.pi, 3) * [1, 0.15, 0.15] if standing else rng.uniform(-np.pi, np.pi, 3)
        turn = turned(angles[:1], angles[1:2] * (not standing), angles[2:] * (not standing))[0]
        centre = places.centre[index]
        if standing and floor is not None:
            centre[1] = floor.below(centre[0], centre[2]) - radius
        components = draw_furniture(rng, scene.bank)
        materials = max(component.material for component in components) + 1
        things = scene.new_things(np.full(materials, places.depth[index]))
        for part in components:
            relief = None if part.waves is None else part.waves * [1, 1, 1, radius]
            placed = dataclasses.replace(
                part, centre=centre + radius * part.centre @ turn, rotation=part.rotation @ turn,
                half=part.half * radius, waves=relief,
            )  # fmt: skip
            scene.parts += emit(placed, np.full(len(part.centre), things[part.material]))


def emit(part: Component, thing: Ints) -> list[Surfaces]:
    """The surfaces of a component that stands in the world; closed cylinders get their lids."""
    scene = zeros(len(thing))
    if part.kind == "sheet":
        return [flat(scene, thing, part.centre, part.rotation, part.half[:, :2], cut=part.cut, waves=part.waves)]
    if part.kind == "box":
        return [box_faces(scene, thing, part.centre, part.rotation, part.half)]
    body = quadrics(scene, thing, part.centre, part.rotation, part.half, BENDS[part.kind])
    if part.kind != "cylinder" or (part.half[:, 0] < 0.1 * part.half[:, 2]).all():
        return [body]
    shift = part.half[:, 2, None] * part.rotation[:, 2]
    lids = [
        flat(scene, thing, part.centre + sign * shift, part.rotation, part.half[:, :2], cut=scene + DISC)
        for sign in (-1.0, 1.0)
    ]
    return [body, *lids]


def build_scene(rng: np.random.Generator, size: tuple[int, int], options: SceneOptions, bank: Bank) -> Scene:
    """Draw one scene."""
    focal = size[1] * 2 ** rng.uniform(-0.7, 1.0)
    centre = (size[1] / 2 + rng.normal(0, 0.03) * size[1], size[0] * rng.uniform(0.35, 0.6))
    # Near things cover few pixels of most scenes: scenes with large disparities are drawn more often.
    largest = options.max_disp * 0.97 * 2 ** (-4.5 * rng.uniform() ** 1.8)
    scene = Scene(rng, bank, size, focal, centre, near=focal / (0.995 * options.max_disp), largest=largest)
    far, floor = stage(scene)
    objects = np.clip(options.objects * 2 ** rng.normal(0, 0.6), 1, 3 * options.objects)
    furniture = rng.binomial(int(objects), FURNITURE_SHARE)
    add_objects(scene, max(1, int(objects) - furniture), far, floor)
    add_furniture(scene, furniture, far, floor)
    return scene


def compose(rng: np.random.Generator, count: int, size: tuple[int, int], options: SceneOptions, bank: Bank) -> World:
    """Draw `count` scenes for views of `size`, dressed from `bank`."""
    scenes, parts = [], []
    offset = 0
    for index in range(count):
        scene = build_scene(rng, size, options, bank)
        surfaces = join(scene.parts)
        parts.append(dataclasses.replace(surfaces, scene=surfaces.scene + index, thing=surfaces.thing + offset))
        offset += sum(map(len, scene.looks))
        scenes.append(scene)
    tiles = np.concatenate([tile for scene in scenes for tile in scene.tiles])
    looks = np.concatenate([look for scene in scenes for look in scene.looks])
    focal = np.array([scene.focal for scene in scenes])
    cameras = Cameras(
        focal=focal,
        centre_x=np.array([scene.centre[0] for scene in scenes]),
        centre_y=np.array([scene.centre[1] for scene in scenes]),
        rotation=np.tile(np.eye(3), (count, 1, 1)),
        translation=np.zeros((count, 3)),
    )
    lights = draw_lights(rng, focal / np.array([0.5 * scene.largest for scene in scenes]), bank)
    near = np.array([scene.near for scene in scenes])
    return World(join(parts), draw_materials(rng, looks, tiles, bank), lights, cameras, near)
