"""Glass and mirrors: the disparity is that of the front surface, the picture is what physics shows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from distill import scene_device, scenes
from distill.scene_furniture import turned, waves
from distill.scene_geometry import BENDS, QUADRIC, WAVY, Cameras, Floats, Surfaces, flat, join, quadrics
from distill.scene_layout import World
from distill.scene_lights import Lights, draw_lights
from distill.scene_materials import ANY, GLASS, SKY, WALL, draw_materials
from distill.scene_reflections import mirror_table, reflected
from distill.scene_shadows import casting
from distill.scene_textures import Bank, bank_for
from distill.scenes import both_eyes, render_scenes, render_world
from distill.scenes_config import SceneOptions

SIZE = (48, 80)
FOCAL = 60.0
PLAIN = SceneOptions(bank_size=24, photometric=False, max_disp=64.0)


@pytest.fixture(scope="module")
def bank() -> Bank:
    return bank_for(PLAIN, torch.device("cpu"))


def one(value: int = 0) -> np.ndarray:
    return np.array([value])


def plane(thing: int, depth: float, half: float, *, yaw: float = 0.0) -> Surfaces:
    """An upright square at `depth`, straight ahead."""
    pose = turned(np.array([yaw]), np.zeros(1), np.zeros(1))
    return flat(one(), one(thing), np.array([[0, 0, depth]]), pose, np.full((1, 2), half))


def world_of(parts: list[Surfaces], looks: list[int], bank: Bank) -> World:
    """A world in even light: a sky (thing 0) behind the parts (things 1, 2, ...), whose materials are plain."""
    rng = np.random.default_rng(8)
    sky = plane(0, 1e6, np.inf)
    materials = draw_materials(rng, np.array([SKY, *looks]), np.full(len(looks) + 1, 2.0), bank)
    materials.mirror[:] = 0.0
    lights = draw_lights(rng, np.array([5.0]), bank)
    lights.patches[:], lights.shadows[:] = 0.0, 0.0
    middle = (SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2
    cameras = Cameras(
        np.array([FOCAL]), np.array([middle[0]]), np.array([middle[1]]), np.eye(3)[None], np.zeros((1, 3))
    )
    return World(join([sky, *parts]), materials, lights, cameras, np.array([1.0]))


def with_materials(world: World, **changes: np.ndarray) -> World:
    return dataclasses.replace(world, materials=dataclasses.replace(world.materials, **changes))


def test_a_pane_has_its_own_disparity_and_mixes_its_colour_with_what_is_behind(bank: Bank) -> None:
    parts = [plane(1, 12.0, np.inf), plane(2, 6.0, 2.0)]
    world = world_of(parts, [WALL, GLASS], bank)
    world.materials.gain[:] *= 0.5
    clear, hazy, opaque = (
        render_world(with_materials(world, opacity=np.array([1.0, 1.0, alpha])), SIZE, bank)
        for alpha in (1e-6, 0.4, 1.0)
    )
    pane = clear.disparity[0, 0] == FOCAL / 6
    assert pane[8:40, 24:56].all()
    assert torch.equal(clear.disparity, opaque.disparity)
    assert torch.equal(clear.occluded, opaque.occluded)
    # Below the knee of the tone curve mixing is linear.
    low = (torch.maximum(clear.left, opaque.left) < 0.7 * 255).all(1, keepdim=True).expand_as(hazy.left)
    low = low & pane
    assert low[..., 10:38, 26:54].float().mean() > 0.1
    mixed = 0.6 * clear.left + 0.4 * opaque.left
    assert (hazy.left - mixed)[..., 10:38, 26:54][low[..., 10:38, 26:54]].abs().max() < 0.1
    # Through a clear pane the eyes see the wall, and that moves by the wall's own disparity of 5 px.
    moved = clear.right[..., 10:38, 26:44] - clear.left[..., 10:38, 31:49]
    assert moved.abs().max() < 1.0
    assert opaque.left.sub(clear.left)[..., 10:38, 26:54].abs().mean() > 3


def test_a_mirror_shows_infinity_without_disparity(bank: Bank) -> None:
    world = world_of([plane(1, 6.0, 100.0, yaw=0.4)], [ANY], bank)
    world.lights.surroundings.closeness[:] = 0.0
    world = with_materials(
        world, mirror=np.array([0.0, 1.0]), blur=np.zeros(2), base=np.zeros((2, 3)), gain=np.zeros((2, 3)),
        detail=np.zeros(2),
    )  # fmt: skip
    batch = render_world(world, SIZE, bank)
    assert batch.disparity.min() > 5
    # The reflected ray at infinity depends on the pixel alone, not on the eye.
    assert (batch.left - batch.right).abs().max() < 0.5
    assert batch.left.std() > 5
    near = dataclasses.replace(world.lights.surroundings, closeness=np.array([0.05]))
    lights = dataclasses.replace(world.lights, surroundings=near)
    batch = render_world(dataclasses.replace(world, lights=lights), SIZE, bank)
    assert (batch.left - batch.right).abs().mean() > 1


def shape(kind: str) -> Surfaces:
    """A mirror of each kind of surface before the eyes."""
    pose = turned(np.array([0.5]), np.array([0.3]), np.array([0.2]))
    centre, half = np.array([[0.3, -0.2, 6.0]]), np.array([[1.7, 1.3, 1.9]])
    if kind in BENDS:
        return quadrics(one(), one(1), centre, pose, half, BENDS[kind])
    relief = waves(np.random.default_rng(2), 1, slope=0.4, reach=half[:, :2]) if kind == "wavy" else None
    return flat(one(), one(1), centre, pose, half[:, :2], waves=relief)


def slope_normal(point: Floats, inside_out: Surfaces) -> Floats:
    """Normals (P, 3), any length, by differences of the implicit function at points (P, 3) in the world."""

    def level(position: Floats) -> Floats:
        local = (position - inside_out.centre[0]) @ inside_out.rotation[0].T
        p = local / inside_out.half[0]
        if inside_out.kind[0] == QUADRIC:
            m, slope, _ = inside_out.bend[0]
            return p[:, 0] ** 2 + p[:, 1] ** 2 + m * p[:, 2] ** 2 + slope * p[:, 2]
        if inside_out.kind[0] == WAVY:
            return local[:, 2] - sum(a * np.sin(u * p[:, 0] + v * p[:, 1] + c) for u, v, c, a in inside_out.waves[0])
        return local[:, 2]

    steps = np.eye(3) * 1e-5
    return np.stack([level(point + step) - level(point - step) for step in steps], 1)


@pytest.mark.parametrize("kind", ["flat", "wavy", "ellipsoid", "cone", "spool"])
@pytest.mark.parametrize("closeness", [0.0, 0.1])
def test_reflected_rays_equal_a_plain_float64_reference(bank: Bank, kind: str, closeness: float) -> None:
    surface = shape(kind)
    world = world_of([surface], [ANY], bank)
    world.lights.surroundings.closeness[:] = closeness
    items = both_eyes(world, world.cameras, SIZE)
    both = Cameras(*(np.concatenate([a, b]) for a, b in zip(
        vars(world.cameras).values(), vars(world.cameras.shifted(1.0)).values(), strict=True)))  # fmt: skip
    table = mirror_table(items, world.surfaces, world.lights.surroundings, both, np.zeros(4), np.ones(4))
    batch = render_world(world, SIZE, bank)
    for eye, disparity in enumerate((batch.disparity, batch.disparity_right)):
        y, x = np.nonzero(disparity[0, 0].numpy() > 5)
        assert len(x) > 200
        depth = FOCAL / disparity[0, 0].numpy()[y, x].astype(np.float64)
        ray = np.stack([(x - both.centre_x[0]) / FOCAL, (y - both.centre_y[0]) / FOCAL, np.ones(len(x))], 1)
        point = ray * depth[:, None] + [eye, 0, 0]
        normal = slope_normal(point, surface)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        ray /= np.linalg.norm(ray, axis=1, keepdims=True)
        along = (ray * normal).sum(1, keepdims=True)
        expected = (ray - 2 * along * normal + closeness * point) @ world.lights.surroundings.turn[0].T
        own = [torch.full((len(x),), float(value)) for value in table[:, 1 + 2 * eye]]
        pixels = (torch.as_tensor(values, dtype=torch.float32) for values in (x, y, depth))
        place, cosine = reflected(own, *pixels, wavy=kind == "wavy")
        # Normals of curved bodies turn by the rounding of the disparity, 1e-6 of 15 px, times the curvature.
        assert np.abs(torch.stack(place, 1).numpy() - expected).max() < 2e-3
        assert np.abs(cosine.numpy() - np.abs(along[:, 0])).max() < 2e-3


def test_glass_casts_no_shadow() -> None:
    surfaces = join([plane(0, 1e6, np.inf), plane(1, 5.0, 1.0), plane(2, 4.0, 1.0)])
    casters = casting(surfaces, np.ones(1), np.array([False, False, True]))
    assert casters.thing.tolist() == [0, 1]


def test_scenes_hold_glass_and_mirrors_of_every_strength() -> None:
    world = scenes.compose(np.random.default_rng(3), 60, SIZE, PLAIN, bank_for(PLAIN, torch.device("cpu")))
    clear, mirror = world.materials.clear, world.materials.mirror
    assert 20 < clear.sum() < 0.2 * len(clear)
    assert 0.05 < (mirror > 0).mean() < 0.4
    assert not clear[world.surfaces.thing[~np.isfinite(world.surfaces.half).all(1)]].any()
    assert isinstance(world.lights, Lights)


def test_rare_pixels_give_the_same_picture_gathered_and_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The form for GPUs, which waits for no count of pixels, against the one for CPUs."""
    monkeypatch.setattr("distill.scene_layout.GLASS_SHARE", 1.0)

    def render() -> scenes.SceneBatch:
        return render_scenes(3, SIZE, generator=torch.Generator().manual_seed(2), options=PLAIN)

    gathered = render()
    for module in (scene_device, scenes):
        monkeypatch.setattr(module, "gathers", lambda device: False)
    everywhere = render()
    assert torch.equal(gathered.disparity, everywhere.disparity)
    # Vectorised and remaining elements of a tensor round differently.
    assert (gathered.left - everywhere.left).abs().max() < 0.05
    assert (gathered.right - everywhere.right).abs().max() < 0.05


@pytest.mark.parametrize("budget", [1 << 9, 1 << 11, 1 << 15])
def test_chunks_of_any_size_give_the_same_picture(monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    """Parts of a view, whole views and several views at a time, with much glass: behind it pixels are picked."""
    monkeypatch.setattr("distill.scene_layout.GLASS_SHARE", 1.0)

    def render() -> scenes.SceneBatch:
        return render_scenes(3, (32, 48), generator=torch.Generator().manual_seed(6), options=PLAIN)

    whole = render()
    for name in ("scene_shading", "scene_raster"):
        monkeypatch.setattr(f"distill.{name}.chunk_pixels", lambda device: budget)
    parts = render()
    assert (whole.disparity - parts.disparity).abs().max() < 1e-3
    assert (whole.left - parts.left).abs().mean() < 0.01
