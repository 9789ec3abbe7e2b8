"""The scene engine against exact geometry: a plain float64 reference, warping, occlusion, and its own promises."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional

from distill.contact_sheet import scenes
from distill.scene_geometry import FLAT, QUADRIC, WAVY, Surfaces
from distill.scene_layout import World, compose
from distill.scene_textures import SHAPE_TILE, Bank, bank_for, mirrored
from distill.scenes import SceneBatch, render_scenes, render_world
from distill.scenes_config import SceneOptions, ScenesConfig
from stereo.errors import UserError

CPU = torch.device("cpu")
# A small bank and no camera effects: quick, and colours can be compared.
PLAIN = SceneOptions(bank_size=24, photometric=False, max_disp=64.0)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def bank() -> Bank:
    return bank_for(PLAIN, CPU)


@pytest.fixture(scope="module")
def batch() -> SceneBatch:
    return render_scenes(8, (96, 160), generator=generator(3), options=PLAIN)


# ---- the plain reference: one surface at a time, float64, ray = eye + t · direction, no inverse depths ----


def silhouette(bank: Bank, cut: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Bilinear signed distance of a silhouette, positive inside."""
    image = bank.shapes[0, 0, cut * SHAPE_TILE : (cut + 1) * SHAPE_TILE].numpy().astype(np.float64)
    x, y = ((np.clip(p, -1, 1) + 1) / 2 * (SHAPE_TILE - 1) for p in (u, v))
    x0, y0 = (np.minimum(p.astype(int), SHAPE_TILE - 2) for p in (x, y))
    fx, fy = x - x0, y - y0
    top = image[y0, x0] * (1 - fx) + image[y0, x0 + 1] * fx
    bottom = image[y0 + 1, x0] * (1 - fx) + image[y0 + 1, x0 + 1] * fx
    return top * (1 - fy) + bottom * fy


def meet(surfaces: Surfaces, row: int, eye: np.ndarray, ray: np.ndarray, bank: Bank, near: float) -> np.ndarray:
    """Depth (P,) at which rays (P, 3) with z = 1 from the eye meet a surface, infinite where they miss it."""
    rotation, half = surfaces.rotation[row], surfaces.half[row]
    start = rotation @ (eye - surfaces.centre[row])
    heading = ray @ rotation.T

    def allowed(depth: np.ndarray) -> np.ndarray:
        local = (start + depth[:, None] * heading) / np.where(np.isfinite(half), half, 1.0)
        good = np.isfinite(depth) & (depth >= near)
        if surfaces.kind[row] == QUADRIC:
            return good & (np.abs(local[:, 2]) <= 1)
        if np.isfinite(half).all():
            good &= (np.abs(local[:, 0]) <= 1) & (np.abs(local[:, 1]) <= 1)
        if surfaces.cut[row]:
            good &= silhouette(bank, surfaces.cut[row], local[:, 0], local[:, 1]) > 0
        return good

    with np.errstate(all="ignore"):
        if surfaces.kind[row] == QUADRIC:
            m, slope, level = surfaces.bend[row]
            p, q = start / half, heading / half
            a = q[:, 0] ** 2 + q[:, 1] ** 2 + m * q[:, 2] ** 2
            b = 2 * (p[0] * q[:, 0] + p[1] * q[:, 1] + m * p[2] * q[:, 2]) + slope * q[:, 2]
            c = p[0] ** 2 + p[1] ** 2 + m * p[2] ** 2 + slope * p[2] - level
            root = np.sqrt(b * b - 4 * a * c)
            candidates = [(-b - root) / (2 * a), (-b + root) / (2 * a)]
        else:
            depth = -start[2] / heading[:, 2]
            if surfaces.kind[row] == WAVY:
                depth = sink_in(surfaces, row, start, heading, depth)
            candidates = [depth]
            if surfaces.outward[row] and start[2] <= 0:
                candidates = []
        found = np.full(len(ray), np.inf)
        for depth in candidates:
            found = np.where(allowed(depth), np.minimum(found, depth), found)
    return found


def sink_in(surfaces: Surfaces, row: int, start: np.ndarray, heading: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Bisect for the depth at which a ray reaches the relief of a wavy patch."""
    half = np.where(np.isfinite(surfaces.half[row]), surfaces.half[row], 1.0)
    reach = np.abs(surfaces.waves[row, :, 3]).sum() * 1.01

    def above(t: np.ndarray) -> np.ndarray:
        local = start + t[:, None] * heading
        u, v = local[:, 0] / half[0], local[:, 1] / half[1]
        height = sum(a * np.sin(ku * u + kv * v + phase) for ku, kv, phase, a in surfaces.waves[row])
        return local[:, 2] - height

    low, high = (depth + side * reach / np.abs(heading[:, 2]) for side in (-1, 1))
    rising = above(high) > above(low)
    for _ in range(60):
        middle = (low + high) / 2
        before = (above(middle) < 0) == rising
        low, high = np.where(before, middle, low), np.where(before, high, middle)
    return low


def reference_depth(world: World, bank: Bank, scene: int, x: np.ndarray, y: np.ndarray, eye_x: float) -> np.ndarray:
    """Depth (P,) of the nearest surface of one scene for pixels of the eye at (eye_x, 0, 0)."""
    cameras, near = world.cameras, float(world.near[scene])
    ray = np.stack([x - cameras.centre_x[scene], y - cameras.centre_y[scene]], -1) / cameras.focal[scene]
    ray = np.concatenate([ray, np.ones((len(ray), 1))], 1)
    eye = np.array([eye_x, 0.0, 0.0])
    depth = np.full(len(ray), np.inf)
    for row in np.flatnonzero(world.surfaces.scene == scene):
        depth = np.minimum(depth, meet(world.surfaces, row, eye, ray, bank, near))
    return depth


def pixels(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    return x.ravel().astype(np.float64), y.ravel().astype(np.float64)


def test_disparity_equals_a_plain_float64_reference(bank: Bank) -> None:
    size, count = (36, 60), 10
    world = compose(np.random.default_rng(11), count, size, PLAIN, bank)
    assert {FLAT, QUADRIC, WAVY} <= set(world.surfaces.kind.tolist())
    batch = render_world(world, size, bank)
    x, y = pixels(size)
    for eye, disparity in ((0.0, batch.disparity), (1.0, batch.disparity_right)):
        for scene in range(count):
            expected = world.cameras.focal[scene] / reference_depth(world, bank, scene, x, y, eye)
            expected = np.where(expected > 1e-3, expected, 0.0)
            error = np.abs(disparity[scene, 0].numpy().ravel() - expected)
            # float32 carries 1e-7 of 64 px through a dozen operations; only where a ray grazes a silhouette may the
            # two disagree on which surface it meets.
            assert np.mean(error > 2e-3) < 0.006
            assert np.median(error) < 1e-4


def test_occlusion_equals_casting_a_ray_to_the_other_eye(bank: Bank) -> None:
    size, count = (36, 60), 6
    world = compose(np.random.default_rng(5), count, size, PLAIN, bank)
    batch = render_world(world, size, bank)
    x, y = pixels(size)
    unexplained = 0
    for scene in range(count):
        disparity = batch.disparity[scene, 0].numpy().astype(np.float64).ravel()
        focal = world.cameras.focal[scene]
        right_x = x - disparity
        seen = focal / reference_depth(world, bank, scene, right_x, y, 1.0)
        outside = (right_x < -0.5) | (right_x > size[1] - 0.5)
        expected = outside | (seen > disparity + 0.1)
        wrong = expected != batch.occluded[scene, 0].numpy().ravel()
        # The mask asks the nearest pixel of the other view, so it may be half a pixel off along the border of an
        # occlusion: it may be wrong only beside a pixel where the truth changes, or where a border passes.
        border = np.zeros(size, bool)
        truth = expected.reshape(size)
        edges = np.abs(np.diff(batch.disparity_right[scene, 0].numpy(), axis=1)) > 0.5
        border[:, 1:] |= truth[:, 1:] != truth[:, :-1]
        border[:, :-1] |= truth[:, 1:] != truth[:, :-1]
        column = np.clip(np.round(right_x), 1, size[1] - 2).astype(int)
        beside = edges[y.astype(int), column - 1] | edges[y.astype(int), column]
        unexplained += int((wrong & ~border.ravel() & ~beside).sum())
        assert wrong.mean() < 0.05
    # What is thinner than a pixel lies between two pixels of the other view, seen by neither.
    assert unexplained < 5e-4 * count * size[0] * size[1]


def warp(image: torch.Tensor, disparity: torch.Tensor) -> torch.Tensor:
    """Sample the right view where the left view's points are, bilinearly."""
    height, width = image.shape[-2:]
    x = torch.arange(width) - disparity[:, 0]
    y = torch.arange(height)[:, None].expand(height, width).expand_as(x)
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
    return functional.grid_sample(image, grid, align_corners=False, padding_mode="border")


def interior(batch: SceneBatch) -> torch.Tensor:
    """Pixels (B, 1, H, W) both eyes see, away from the borders of surfaces, where a pixel mixes two of them."""
    shown = (~batch.occluded).float()
    jump = torch.zeros_like(shown)
    step = (batch.disparity[..., 1:] - batch.disparity[..., :-1]).abs() > 0.5
    jump[..., 1:] += step
    jump[..., :-1] += step
    step = (batch.disparity[..., 1:, :] - batch.disparity[..., :-1, :]).abs() > 0.5
    jump[..., 1:, :] += step
    jump[..., :-1, :] += step
    bad = functional.max_pool2d(((jump > 0) | (shown == 0)).float(), 5, 1, 2)
    return bad == 0


def test_warping_the_right_view_gives_the_left_view(bank: Bank) -> None:
    size = (96, 160)
    world = compose(np.random.default_rng(3), 8, size, PLAIN, bank)
    # Reflections and what glass shows move with their own disparity: `test_scene_glass`.
    world.materials.mirror[:], world.materials.opacity[:] = 0.0, 1.0
    batch = render_world(world, size, bank)
    warped = warp(batch.right, batch.disparity)
    good = interior(batch).expand_as(batch.left)
    error = (warped - batch.left).abs()[good]
    assert good.float().mean() > 0.4
    # A pixel is a point sample of a texture limited to about one texel per pixel: bilinear interpolation between two
    # samples may miss it by up to half their difference, so the bar is on the mean, and against a shifted disparity.
    assert error.mean() < 5.0
    assert error.median() < 2.0
    for shift in (-1.0, 1.0):
        shifted = (warp(batch.right, batch.disparity + shift) - batch.left).abs()[good]
        assert shifted.mean() > 1.5 * error.mean()
    lowest = -functional.max_pool2d(-batch.right, (1, 3), 1, (0, 1))
    highest = functional.max_pool2d(batch.right, (1, 3), 1, (0, 1))
    inside = (batch.left >= warp(lowest, batch.disparity) - 6) & (batch.left <= warp(highest, batch.disparity) + 6)
    assert inside[good].float().mean() > 0.97


def test_left_and_right_truth_agree_where_nothing_is_hidden(batch: SceneBatch) -> None:
    width = batch.left.shape[-1]
    place = (torch.arange(width) - batch.disparity).round().clamp(0, width - 1).long()
    difference = (batch.disparity_right.gather(-1, place) - batch.disparity).abs()[~batch.occluded]
    # Up to half a pixel lies between the point and the pixel asked: on a surface of slope 1, half a pixel of disparity.
    assert (difference <= 1).float().mean() > 0.985
    hidden = batch.occluded & (torch.arange(width) - batch.disparity > 0)
    nearer = batch.disparity_right.gather(-1, place) - batch.disparity
    assert (nearer[hidden] > 0.4).all()


def test_ranges_and_forms(batch: SceneBatch) -> None:
    assert batch.left.shape == batch.right.shape == (8, 3, 96, 160)
    assert batch.left.dtype == batch.disparity.dtype == torch.float32
    assert batch.occluded.dtype == torch.bool
    assert batch.disparity.shape == batch.occluded.shape == batch.disparity_right.shape == (8, 1, 96, 160)
    for image in (batch.left, batch.right):
        assert image.min() >= 0
        assert image.max() <= 255
        assert image.std() > 10
    assert batch.disparity.min() >= 0
    assert batch.disparity.max() < PLAIN.max_disp
    assert torch.isfinite(batch.disparity).all()


def test_many_scenes_stay_below_max_disp_and_some_have_sky_and_large_disparities() -> None:
    options = dataclasses.replace(PLAIN, max_disp=192.0)
    batch = render_scenes(40, (64, 96), generator=generator(0), options=options)
    largest = batch.disparity.flatten(1).amax(1)
    assert batch.disparity.max() < 192
    assert (batch.disparity == 0).any(-1).any(-1).sum() > 5
    assert (largest > 60).sum() >= 5
    assert (largest < 20).sum() >= 5


def test_same_seed_same_bits_other_seed_other_scenes() -> None:
    options = dataclasses.replace(PLAIN, photometric=True)
    first, again, other = (render_scenes(2, (48, 64), generator=generator(s), options=options) for s in (1, 1, 2))
    for name in ("left", "right", "disparity", "occluded", "disparity_right"):
        assert torch.equal(getattr(first, name), getattr(again, name)), name
    assert not torch.equal(first.left, other.left)


def test_supersampling_smooths_colours_and_leaves_the_truth_alone() -> None:
    fine = dataclasses.replace(PLAIN, supersample=2)
    plain, smooth = (render_scenes(3, (48, 80), generator=generator(4), options=o) for o in (PLAIN, fine))
    assert torch.equal(plain.disparity, smooth.disparity)
    assert torch.equal(plain.occluded, smooth.occluded)
    difference = (plain.left - smooth.left).abs()
    assert 0 < difference.mean() < 12


def test_photometric_effects_leave_the_truth_alone() -> None:
    effects = dataclasses.replace(PLAIN, photometric=True)
    plain, real = (render_scenes(3, (48, 80), generator=generator(4), options=o) for o in (PLAIN, effects))
    assert torch.equal(plain.disparity, real.disparity)
    assert not torch.equal(plain.left, real.left)


def test_mirrored_tiling_folds_without_a_seam() -> None:
    position = torch.tensor([-0.25, 0.0, 0.3, 1.0, 1.2, 2.0, 2.5])
    assert torch.allclose(mirrored(position), torch.tensor([0.25, 0.0, 0.3, 1.0, 0.8, 0.0, 0.5]), atol=1e-6)


def test_photographs_enter_the_bank(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / "a.png"), rng.integers(0, 255, (90, 130, 3), dtype=np.uint8))
    options = SceneOptions(bank_size=12, textures=(str(tmp_path),), photo_share=0.5)
    assert (bank_for(options, CPU).names == "photograph").sum() == 6
    assert render_scenes(1, (32, 48), generator=generator(0), options=options).left.std() > 1


@pytest.mark.parametrize("problem", ["missing", "empty", "broken"])
def test_bad_texture_folders_are_told_apart(tmp_path: Path, problem: str) -> None:
    folder = tmp_path / "textures"
    if problem != "missing":
        folder.mkdir()
    if problem == "broken":
        (folder / "a.jpg").write_bytes(b"no image")
    expected = {"missing": "no such texture", "empty": "no photographs", "broken": "cannot be read"}[problem]
    options = SceneOptions(bank_size=8, textures=(str(folder),))
    with pytest.raises(UserError, match=expected):
        render_scenes(1, (32, 48), generator=generator(0), options=options)


def test_contact_sheet_shows_every_scene(tmp_path: Path) -> None:
    picture = scenes(ScenesConfig(out=str(tmp_path), count=3, size="32x48"))
    image = cv2.imread(str(picture))
    assert image is not None
    # Two columns of left, right, disparity; two rows.
    assert image.shape[0] >= 2 * 32
    assert image.shape[1] >= 6 * 48
    assert (tmp_path / "manifest.json").exists()


@pytest.mark.parametrize(
    "change", [{"count": 0}, {"size": "8x8"}, {"size": "big"}, {"supersample": 9}, {"max_disp": 0}]
)
def test_contact_sheet_refuses_bad_options(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(UserError):
        scenes(dataclasses.replace(ScenesConfig(out=str(tmp_path)), **change))
    assert not list(tmp_path.iterdir())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_sees_the_same_scenes() -> None:
    on_cpu, on_gpu = (
        render_scenes(4, (64, 96), generator=generator(9), device=d, options=PLAIN) for d in ("cpu", "cuda")
    )
    difference = (on_cpu.disparity - on_gpu.disparity.cpu()).abs()
    # Rounding differs, so rays that graze a silhouette may fall on either side of it.
    assert (difference > 1e-2).float().mean() < 0.002
    assert (on_cpu.left - on_gpu.left.cpu()).abs().median() < 0.5
