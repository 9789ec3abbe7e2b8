"""A street in metres: road, kerbs, houses, trees, parked cars, poles, signs and fences along a straight way.

One world for all frames of a rendered clip; see `distill.scene_clip`.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from distill.scene_furniture import turned
from distill.scene_geometry import BENDS, QUADRIC, Cameras, Floats, Ints, Surfaces, box_faces, flat, join, quadrics
from distill.scene_layout import DISC, World
from distill.scene_lights import Lights
from distill.scene_materials import ANY, GROUND, SKY, WALL, Materials, draw_materials
from distill.scene_reflections import draw_surroundings
from distill.scene_textures import Bank

EYE_HEIGHT_M = 1.5
ROAD_HALF_M = 3.2
SKY_DISTANCE_M = 1e7
# A tile of texture has 256 texels: at this length they are pixels a few metres away.
TILE_M = 2.5


@dataclasses.dataclass
class Street:
    """A street while it is being built. The eye starts at the origin; the road lies EYE_HEIGHT_M below."""

    rng: np.random.Generator
    bank: Bank
    parts: list[Surfaces] = dataclasses.field(default_factory=list)
    looks: list[int] = dataclasses.field(default_factory=list)
    tiles_m: list[float] = dataclasses.field(default_factory=list)
    colors: dict[int, tuple[Floats, float]] = dataclasses.field(default_factory=dict)

    def material(
        self, look: int = ANY, *, tile_m: float = TILE_M, color: Floats | None = None, grain: float = 0.15
    ) -> Ints:
        """A new material (1,); with `color` (3,) it has that colour and a trace `grain` of its texture."""
        self.looks.append(look)
        self.tiles_m.append(tile_m)
        number = len(self.looks) - 1
        if color is not None:
            self.colors[number] = (np.asarray(color, np.float64), grain)
        return np.array([number])

    def sheet(self, thing: Ints, centre: tuple[float, float, float], yaw: float, half: tuple[float, float], *,
              cut: int = 0, pitch: float = 0.0) -> None:  # fmt: skip
        """A flat upright patch (lying, with pitch π/2); `centre` is x, height over the road, z."""
        pose = turned(np.array([yaw]), np.array([pitch]), np.zeros(1))
        self.parts.append(flat(zero(), thing, place(centre), pose, np.array([half]), cut=np.array([cut])))

    def box(
        self, thing: Ints, centre: tuple[float, float, float], yaw: float, half: tuple[float, float, float]
    ) -> None:
        """A box standing on the road or on something; `centre` as for `sheet`."""
        pose = turned(np.array([yaw]), np.zeros(1), np.zeros(1))
        self.parts.append(box_faces(zero(), thing, place(centre), pose, np.array([half])))

    def round_body(self, thing: Ints, centre: tuple[float, float, float], half: tuple[float, float, float], *,
                   kind: str = "cylinder", lying: bool = False) -> None:  # fmt: skip
        """A quadric whose axis is upright, or across the street when lying; `half` is radius, radius, half length."""
        axes = np.array([[0, 0, 1.0], [0, 1, 0], [1, 0, 0]] if lying else [[1.0, 0, 0], [0, 0, 1], [0, 1, 0]])
        self.parts.append(quadrics(zero(), thing, place(centre), axes[None], np.array([half]), BENDS[kind]))


def zero() -> Ints:
    return np.zeros(1, np.int64)


def place(centre: tuple[float, float, float]) -> Floats:
    """World position (1, 3) of x, height over the road, z."""
    return np.array([[centre[0], EYE_HEIGHT_M - centre[1], centre[2]]])


def lay_road(street: Street, length: float) -> None:
    """Road, markings, kerbs with pavement, and the sky behind all."""
    rng = street.rng
    far = np.full((1, 2), np.inf)
    sky_pose = turned(np.zeros(1), np.zeros(1), np.zeros(1))
    sky = street.material(SKY, tile_m=SKY_DISTANCE_M / 2)
    street.parts.append(flat(zero(), sky, np.array([[0, 0, SKY_DISTANCE_M]]), sky_pose, far))
    asphalt = street.material(GROUND, color=np.full(3, rng.uniform(0.25, 0.45)), grain=0.35)
    lying = turned(np.zeros(1), np.full(1, np.pi / 2), np.zeros(1))
    street.parts.append(flat(zero(), asphalt, place((0, 0, 0)), lying, far))
    white = street.material(GROUND, color=np.full(3, 0.75), grain=0.2)
    for z in np.arange(2, length, 4.5):
        street.sheet(white, (0.0, 0.004, float(z)), 0.0, (0.07, 1.1), pitch=np.pi / 2)
    for side in (-1, 1):
        pavement = street.material(GROUND, tile_m=2.0)
        street.box(pavement, (side * (ROAD_HALF_M + 3), 0.0, length / 2), 0.0, (3.0, 0.13, length))


def build_houses(street: Street, length: float) -> None:
    """Rows of houses with windows and doors on both sides."""
    rng = street.rng
    for side in (-1, 1):
        z = -4.0
        while z < length:
            depth, height = rng.uniform(5, 14), rng.uniform(3, 11)
            front = side * (ROAD_HALF_M + rng.uniform(3.5, 6.5))
            wall = street.material(WALL, tile_m=rng.uniform(1.5, 4))
            centre = (front + side * 4, height / 2, z + depth / 2)
            street.box(wall, centre, 0.0, (4.0, height / 2, depth / 2))
            glass = street.material(ANY, color=rng.uniform(0.05, 0.3, 3), grain=0.5)
            rim = street.material(ANY, color=np.full(3, rng.uniform(0.3, 0.9)))
            columns, rows = max(1, int(depth / 2.6)), max(1, int(height / 2.8))
            for column in range(columns):
                for row in range(rows):
                    middle = ((column + 0.5) * depth / columns + z, (row + 0.5) * height / rows)
                    if middle[0] < 1.0:
                        continue
                    street.box(rim, (front, middle[1], middle[0]), 0.0, (0.06, 0.85, 0.62))
                    street.sheet(glass, (front - side * 0.07, middle[1], middle[0]), np.pi / 2, (0.52, 0.75))
            z += depth + rng.choice([0.0, 0.0, rng.uniform(1, 5)])


def park_car(street: Street, x: float, z: float) -> None:
    """A car of boxes on wheels."""
    rng = street.rng
    paint = street.material(ANY, color=rng.uniform(0.05, 0.85, 3), grain=0.08)
    dark = street.material(ANY, color=np.full(3, 0.08), grain=0.3)
    length, width = rng.uniform(1.7, 2.3), rng.uniform(0.75, 0.95)
    street.box(paint, (x, 0.62, z), 0.0, (width, 0.32, length))
    street.box(dark, (x, 1.18, z + 0.1 * length), 0.0, (width * 0.86, 0.26, length * 0.5))
    street.box(paint, (x, 1.46, z + 0.1 * length), 0.0, (width * 0.84, 0.025, length * 0.48))
    for along in (-0.6, 0.62):
        for side in (-1, 1):
            centre = (x + side * (width - 0.08), 0.32, z + along * length)
            street.round_body(dark, centre, (0.32, 0.32, 0.1), lying=True)
            street.sheet(
                dark, (x + side * (width + 0.021), 0.32, z + along * length), np.pi / 2, (0.32, 0.32), cut=DISC
            )


def plant_tree(street: Street, x: float, z: float) -> None:
    """A trunk with crossed sheets of foliage."""
    rng = street.rng
    bark = street.material(ANY, tile_m=0.8, color=np.array([0.3, 0.22, 0.15]), grain=0.5)
    trunk = rng.uniform(1.6, 2.6)
    street.round_body(bark, (x, trunk / 2, z), (0.14, 0.14, trunk / 2))
    leaf = np.array([0.16, 0.32, 0.08]) * 2 ** rng.normal(0, 0.4)
    shapes = street.bank.shapes_named("foliage", "tree", "leaves")
    for _ in range(int(rng.integers(5, 9))):
        crown = street.material(ANY, tile_m=1.2, color=leaf * 2 ** rng.normal(0, 0.25), grain=0.45)
        at = (x + rng.normal(0, 0.35), trunk + rng.uniform(0.2, 1.6), z + rng.normal(0, 0.5))
        size = rng.uniform(0.7, 1.4)
        street.sheet(crown, at, rng.uniform(-1, 1), (size, size * 0.9), cut=int(rng.choice(shapes)))


def furnish(street: Street, length: float) -> None:
    """Cars, trees, lamp posts, signs, bins and fences along both kerbs."""
    rng = street.rng
    steel = street.material(ANY, color=np.full(3, 0.35))
    for side in (-1, 1):
        for z in np.arange(rng.uniform(3, 7), length, 5.5):
            kerb = side * (ROAD_HALF_M + 0.4)
            choice = rng.choice(["car", "tree", "lamp", "sign", "bin", "fence"], p=[0.25, 0.2, 0.15, 0.15, 0.1, 0.15])
            z = float(z + rng.uniform(-1, 1))
            if choice == "car":
                park_car(street, side * (ROAD_HALF_M - 1.0), z)
            elif choice == "tree":
                plant_tree(street, kerb + side * 0.6, z)
            elif choice == "lamp":
                street.round_body(steel, (kerb, 2.5, z), (0.06, 0.06, 2.5))
                street.box(steel, (kerb - side * 0.6, 5.0, z), 0.0, (0.7, 0.05, 0.12))
            elif choice == "sign":
                street.round_body(steel, (kerb, 1.2, z), (0.03, 0.03, 1.2))
                plate = street.material(ANY, tile_m=1.0)
                street.sheet(
                    plate, (kerb, 2.3, z - 0.04), rng.normal(0, 0.2), (0.4, 0.4), cut=int(rng.choice([0, DISC]))
                )
            elif choice == "bin":
                body = street.material(ANY, tile_m=0.8)
                street.round_body(body, (kerb, 0.45, z), (0.28, 0.28, 0.45))
                street.sheet(body, (kerb, 0.9, z), 0.0, (0.28, 0.28), pitch=np.pi / 2, cut=DISC)
            else:
                rails = int(rng.choice(street.bank.shapes_named("bars", "frame")))
                street.sheet(street.material(), (kerb, 0.6, z), np.pi / 2, (2.0, 0.6), cut=rails)


def finish(street: Street, baseline_m: float) -> tuple[Surfaces, Materials]:
    """Surfaces and materials with lengths in baselines."""
    surfaces = join(street.parts)
    centre, half = surfaces.centre / baseline_m, surfaces.half.copy()
    # A flat patch's third extent is a mere 1.
    half[:, :2] /= baseline_m
    half[surfaces.kind == QUADRIC, 2] /= baseline_m
    tiles = np.array(street.tiles_m) / baseline_m
    materials = draw_materials(street.rng, np.array(street.looks), tiles, street.bank)
    for number, (color, grain) in street.colors.items():
        materials.base[number] = color * (1 - grain / 2)
        materials.gain[number] = color * grain
        materials.detail[number] = grain
    return dataclasses.replace(surfaces, centre=centre, half=half), materials


def street_world(
    rng: np.random.Generator, size: tuple[int, int], bank: Bank, *, length_m: float, baseline_m: float, near: float
) -> World:
    """A street of `length_m`, as one scene with its camera at the start; `near` in baselines."""
    street = Street(rng, bank)
    lay_road(street, length_m)
    build_houses(street, length_m)
    furnish(street, length_m)
    surfaces, materials = finish(street, baseline_m)
    light = np.array([[rng.choice([-0.5, 0.5]), -0.8, -0.35]])
    lights = Lights(
        direction=light / np.linalg.norm(light),
        ambient=np.array([0.5]),
        patches=np.array([0.35]),
        axes=np.array([[[1.0, 0.5, 0.2], [-0.2, 0.5, 1.0]]]) / (12 / baseline_m),
        pattern=rng.integers(0, bank.count, 1).astype(np.float64),
        softness=np.array([3.0]),
        shadows=np.array([0.55]),
        reach=np.array([25 / baseline_m]),
        surroundings=draw_surroundings(rng, np.array([8 / baseline_m]), bank),
    )
    cameras = Cameras(
        focal=np.array([0.62 * size[1]]),
        centre_x=np.array([(size[1] - 1) / 2]),
        centre_y=np.array([0.47 * size[0]]),
        rotation=np.eye(3)[None],
        translation=np.zeros((1, 3)),
    )
    return World(surfaces, materials, lights, cameras, np.array([near]))
