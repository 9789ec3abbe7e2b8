"""A stereo clip with exact truth: a camera pair that drives along one procedural street.

`render_clip` yields frames; `write_clip` lays them out as footage (`left/ right/ calib.txt poses.txt`, which a stereo
source reads) with the truth beside it (`truth/NAME/`, pairs that `stereo.benchmarks.load_pairs` reads).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from distill.photometry import PhotometricOptions, photometry
from distill.scene_furniture import turned
from distill.scene_geometry import Cameras, Floats
from distill.scene_layout import World
from distill.scene_street import street_world
from distill.scene_textures import bank_for
from distill.scenes import SceneBatch, render_world
from distill.scenes_config import SceneOptions
from stereo.artifacts import make_manifest, write_bytes, write_json
from stereo.benchmarks import write_pair
from stereo.errors import UserError
from stereo.pair import Rig, StereoPair
from stereo.pictures import write_png

BASELINE_M = 0.4
STEP_M = 0.35
AHEAD_M = 45.0
# One camera model for the whole clip: the strong differences of single training pairs would not look like one rig.
CLIP_EFFECTS = PhotometricOptions(
    exposure=0.1, gamma=0.1, saturation=0.2, gray_share=0.0, exposure_between=0.03, gamma_between=0.02,
    white_between=0.015, vignette=0.25, blur=0.1, noise=3.0,
)  # fmt: skip


def camera_path(rng: np.random.Generator, frames: int) -> tuple[Floats, Floats]:
    """Rotations (F, 3, 3), world to camera, and positions (F, 3) in metres of a gently swaying drive."""
    step = np.arange(frames, dtype=np.float64)
    phase = rng.uniform(0, 2 * np.pi, 4)
    sway = 0.35 * np.sin(step * 0.11 + phase[0]) - 0.35 * np.sin(phase[0])
    bob = 0.015 * np.sin(step * 0.9 + phase[1])
    yaw = 0.06 * np.sin(step * 0.13 + phase[2])
    pitch = 0.006 * np.sin(step * 0.7 + phase[3])
    roll = 0.006 * np.sin(step * 0.4 + phase[1])
    position = np.stack([sway, bob, step * STEP_M], -1)
    return turned(yaw, pitch, roll), position.astype(np.float64)


def at(cameras: Cameras, rotation: Floats, position: Floats) -> Cameras:
    """The camera moved to a pose."""
    return dataclasses.replace(cameras, rotation=rotation[None], translation=-(rotation @ position)[None])


def clip_world(frames: int, size: tuple[int, int], *, seed: int, options: SceneOptions) -> tuple[World, list[Cameras]]:
    """The street and the left camera of every frame; lengths in baselines."""
    if frames < 1:
        raise UserError(f"a clip of {frames} frames", where="--frames", fix="ask for at least 1")
    rng = np.random.default_rng([seed, 7])
    bank = bank_for(options, torch.device("cpu"))
    near = 0.62 * size[1] / (0.995 * options.max_disp)
    length = frames * STEP_M + AHEAD_M
    world = street_world(rng, size, bank, length_m=length, baseline_m=BASELINE_M, near=near)
    rotations, positions = camera_path(rng, frames)
    return world, [at(world.cameras, *pose) for pose in zip(rotations, positions / BASELINE_M, strict=True)]


def render_clip(
    frames: int, size: tuple[int, int], *, seed: int, options: SceneOptions | None = None
) -> Iterator[StereoPair]:
    """Render a drive along a street.

    Args:
        frames: number of frames.
        size: (height, width) in pixels.
        seed: of the street, the drive and the cameras.
        options: texture bank, supersampling and photometric effects; defaults with smooth edges if None.

    Yields:
        Pairs with rig, exact disparity (0 at the sky) and the mask of pixels that the right view shows too.

    Raises:
        UserError: fewer than one frame, or photographs missing.
    """
    options = options or SceneOptions(supersample=2)
    world, path = clip_world(frames, size, seed=seed, options=options)
    bank = bank_for(options, torch.device("cpu"))
    rig = Rig(
        float(world.cameras.focal[0]), BASELINE_M,
        cx=float(world.cameras.centre_x[0]), cy=float(world.cameras.centre_y[0]),
    )  # fmt: skip
    grain = torch.Generator().manual_seed(seed)
    for index, cameras in enumerate(path):
        batch = render_world(dataclasses.replace(world, cameras=cameras), size, bank, supersample=options.supersample)
        if options.photometric:
            lens = torch.Generator().manual_seed(seed)
            batch.left, batch.right = photometry(
                batch.left, batch.right, generator=lens, grain=grain, options=CLIP_EFFECTS
            )
        yield as_pair(batch, 0, f"{index:06d}", rig=rig)


def as_pair(batch: SceneBatch, index: int, name: str, *, rig: Rig | None = None) -> StereoPair:
    """One pair of a batch in 8 bits."""
    left, right = (
        image[index].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
        for image in (batch.left, batch.right)
    )
    return StereoPair(
        left, right, name, rig=rig,
        disparity=batch.disparity[index, 0].cpu().numpy(), noc=~batch.occluded[index, 0].cpu().numpy(),
    )  # fmt: skip


def calibration_text(rig: Rig) -> str:
    """The two projection matrices, one line of 12 numbers each, as KITTI odometry has them."""
    focal, x, y = rig.focal_px, rig.cx or 0.0, rig.cy or 0.0
    lines = []
    for shift in (0.0, -focal * rig.baseline_m):
        numbers = (focal, 0.0, x, shift, 0.0, focal, y, 0.0, 0.0, 0.0, 1.0, 0.0)
        lines.append(" ".join(f"{number:.9e}" for number in numbers))
    return "\n".join(lines) + "\n"


def pose_line(cameras: Cameras) -> str:
    """Camera to world, 3×4 in metres, row by row, as KITTI odometry has it."""
    rotation = cameras.rotation[0].T
    position = -rotation @ cameras.translation[0] * BASELINE_M
    return " ".join(f"{number:.9e}" for number in np.column_stack([rotation, position]).ravel())


def write_clip(
    out: Path | str, frames: int, size: tuple[int, int], *, seed: int, options: SceneOptions | None = None,
    truth_every: int = 1,
) -> Path:  # fmt: skip
    """Render a clip into a folder; see the module docstring for the layout.

    Args:
        out: the folder.
        frames, size, seed, options: as for `render_clip`.
        truth_every: every how many frames the truth is written.

    Returns:
        the folder.
    """
    out = Path(out)
    options = options or SceneOptions(supersample=2)
    for pair in render_clip(frames, size, seed=seed, options=options):
        write_png(out / "left" / f"{pair.name}.png", pair.left)
        write_png(out / "right" / f"{pair.name}.png", pair.right)
        if int(pair.name) == 0 and pair.rig is not None:
            write_bytes(out / "calib.txt", calibration_text(pair.rig).encode())
        if int(pair.name) % truth_every == 0 and pair.disparity is not None and pair.noc is not None:
            write_pair(out / "truth" / pair.name, pair)
    _, path = clip_world(frames, size, seed=seed, options=options)
    write_bytes(out / "poses.txt", ("\n".join(map(pose_line, path)) + "\n").encode())
    config = {"frames": frames, "size": list(size), "seed": seed, "options": options}
    write_json(out / "manifest.json", make_manifest("clip", made_from={}, config=config, content={}))
    return out
