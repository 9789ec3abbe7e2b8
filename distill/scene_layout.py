"""Random worlds: which surfaces stand where, what they are made of, and how they are lit.

A scene is a sky, a stage (street, room, wall or nothing) and objects on and above it. Sizes are chosen in the image and
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
from distill.scene_materials import ANY, GLASS, GROUND, SKY, WALL, Materials, draw_materials, one_texel_per_pixel
from distill.scene_textures import Bank
from distill.scenes_config import SceneOptions

# Number of the round silhouette in the bank.
DISC = 1
# Disparity of the backdrop "at infinity": below what any file format or metric resolves.
SKY_DISPARITY_PX = 1e-4
STAGES = {"street": 0.3, "room": 0.3, "wall": 0.3, "sky": 0.1}
THINGS = {
    "cut-out": 0.34, "board": 0.1, "box": 0.2, "ellipsoid": 0.1, "cylinder": 0.09, "rod": 0.07, "cone": 0.05,
    "bowl": 0.03, "spool": 0.02,
}  # fmt: skip
# Share of the free-standing objects that are compound ones.
FURNITURE_SHARE = 0.22
# Share of boards and bodies that are seen through.
GLASS_SHARE = 0.1


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


def ground(scene: Scene, nearest: float) -> float:
    """A floor that reaches disparity `nearest` at the bottom of the image; returns the height of the eye over it."""
    height = (scene.size[0] - scene.centre[1]) / nearest
    rng = scene.rng
    rotation = pose(0.0, np.pi / 2 + rng.normal(0, 0.03)) @ pose(0.0, 0.0, rng.normal(0, 0.03))
    scene.endless(GROUND, height * scene.focal / scene.size[0] * 3, (0.0, height, 0.0), rotation)
    return height


def side_walls(scene: Scene, height: float) -> None:
    """Walls along the way of sight at either side or both, and perhaps a ceiling."""
    rng = scene.rng
    for sign in (-1.0, 1.0):
        if rng.random() < 0.3:
            continue
        distance = height * 2 ** rng.uniform(0, 3)
        depth = distance * scene.focal / scene.size[1] * 2.5
        scene.endless(WALL, depth, (sign * distance, 0.0, 0.0), pose(np.pi / 2 + rng.normal(0, 0.15), 0.0))
    if rng.random() < 0.3:
        above = height * 2 ** rng.uniform(0, 2)
        depth = above * scene.focal / scene.size[0] * 3
        scene.endless(WALL, depth, (0.0, -above, 0.0), pose(0.0, np.pi / 2))


def stage(scene: Scene) -> tuple[float, float | None]:
    """Build what surrounds the objects; returns its disparity in the distance and the eye's height over the floor."""
    rng = scene.rng
    sky_depth = scene.focal / SKY_DISPARITY_PX
    scene.endless(SKY, sky_depth, (0.0, 0.0, sky_depth), pose(0.0, 0.0))
    kind = rng.choice(list(STAGES), p=list(STAGES.values()))
    if kind == "wall":
        far = scene.largest * rng.uniform(0.1, 0.7)
        backdrop(scene, far, tilt=0.8)
        if rng.random() < 0.4:
            backdrop(scene, far * rng.uniform(0.7, 1.1), tilt=1.0)
        return far, ground(scene, scene.largest * rng.uniform(0.6, 1)) if rng.random() < 0.4 else None
    if kind == "sky":
        return scene.largest * rng.uniform(0.02, 0.2), None
    height = ground(scene, scene.largest * rng.uniform(0.5, 1))
    if kind == "room":
        far = scene.largest * rng.uniform(0.1, 0.5)
        backdrop(scene, far, tilt=0.4)
        side_walls(scene, height)
        return far, height
    far = scene.largest * rng.uniform(0.01, 0.15)
    if rng.random() < 0.5:
        backdrop(scene, far, tilt=0.0)
    if rng.random() < 0.5:
        side_walls(scene, height)
    return far, height


@dataclasses.dataclass
class Places:
    """Where N objects go: centres (N, 3), depths and radii (N,), and whether they stand upright (N,)."""

    centre: Floats
    depth: Floats
    radius: Floats
    standing: np.ndarray


def choose_places(scene: Scene, count: int, far: float, height: float | None, radius_share: Floats) -> Places:
    """Places between the distance and the largest disparity, for radii given as shares of the image's height."""
    rng = scene.rng
    disparity = scene.largest * (far / scene.largest) ** rng.uniform(0, 1, count)
    radius_px = np.minimum(scene.size[0] * radius_share, 0.3 * scene.focal)
    depth = np.maximum(scene.focal / disparity, scene.near / (1 - 1.8 * radius_px / scene.focal) * 1.02)
    x = (rng.uniform(-0.1, 1.1, count) * scene.size[1] - scene.centre[0]) * depth / scene.focal
    y = (rng.uniform(-0.1, 1.1, count) * scene.size[0] - scene.centre[1]) * depth / scene.focal
    standing = rng.random(count) < (0.75 if height is not None else 0.0)
    return Places(np.stack([x, y, depth], -1), depth, radius_px * depth / scene.focal, standing)


def add_objects(scene: Scene, count: int, far: float, height: float | None) -> None:
    """Place simple free-standing objects."""
    rng = scene.rng
    kinds = rng.choice(len(THINGS), count, p=list(THINGS.values()))
    places = choose_places(scene, count, far, height, 0.14 * 2 ** rng.normal(0, 1.0, count))
    half = places.radius[:, None] * 2 ** rng.uniform(-1.2, 0, (count, 3))
    still = np.zeros(count)
    upright = turned(rng.uniform(-np.pi, np.pi, count), still, still)
    yaw, pitch, roll = rng.uniform(-np.pi, np.pi, (3, count))
    tumbled = turned(yaw, pitch, roll)
    facing = turned(rng.normal(0, 0.5, count), rng.normal(0, 0.4, count), rng.normal(0, 0.7, count))
    facing_upright = turned(rng.normal(0, 0.7, count), still, rng.normal(0, 0.03, count))
    stands = places.standing[:, None, None]
    body, sheet = np.where(stands, upright, tumbled), np.where(stands, facing_upright, facing)
    if height is not None:
        places.centre[:, 1] = np.where(places.standing, height - half[:, 1], places.centre[:, 1])
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
            own_half[:, :2] = own_half[:, 2, None] * 10 ** rng.uniform(-2.2, -1, (len(own), 1))
        kind = "cylinder" if name == "rod" else name
        scene.parts += emit(Component(kind, places.centre[own], own_pose, own_half), thing[own])


def add_furniture(scene: Scene, count: int, far: float, height: float | None) -> None:
    """Place compound objects."""
    rng = scene.rng
    places = choose_places(scene, count, far, height, 0.25 * 2 ** rng.normal(0, 0.7, count))
    for index in range(count):
        radius, standing = places.radius[index], places.standing[index]
        angles = rng.uniform(-np.pi, np.pi, 3) * [1, 0.15, 0.15] if standing else rng.uniform(-np.pi, np.pi, 3)
        turn = turned(angles[:1], angles[1:2] * (not standing), angles[2:] * (not standing))[0]
        centre = places.centre[index]
        if standing and height is not None:
            centre[1] = height - radius
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
    largest = options.max_disp * 0.97 * 2 ** -rng.uniform(0, 4.5)
    scene = Scene(rng, bank, size, focal, centre, near=focal / (0.995 * options.max_disp), largest=largest)
    far, height = stage(scene)
    objects = np.clip(options.objects * 2 ** rng.normal(0, 0.6), 1, 3 * options.objects)
    furniture = rng.binomial(int(objects), FURNITURE_SHARE)
    add_objects(scene, max(1, int(objects) - furniture), far, height)
    add_furniture(scene, furniture, far, height)
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
