"""The verb `scenes`: a picture of what the procedural scene engine makes, to be looked at critically.

One row per two scenes: left view, right view, disparity (occluded pixels darkened).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from distill.scene_clip import as_pair
from distill.scenes import SceneBatch, render_scenes
from distill.scenes_config import SceneOptions, ScenesConfig
from stereo.artifacts import make_manifest, write_json
from stereo.errors import UserError
from stereo.options import parse_size
from stereo.pair import Image
from stereo.pictures import disparity_picture, side_by_side, stacked, write_png

# Scenes rendered at once: enough to share launches, few enough for any memory.
BATCH = 4
COLUMNS = 2


def scene_options(config: ScenesConfig) -> SceneOptions:
    """The engine's options for a contact sheet."""
    return SceneOptions(
        max_disp=config.max_disp,
        textures=(config.textures,) if config.textures else (),
        bank_seed=config.seed,
        supersample=config.supersample,
        photometric=config.photometric,
    )


def check(config: ScenesConfig) -> tuple[int, int]:
    """The size of the views.

    Raises:
        UserError: an option out of its range.
    """
    if config.count < 1:
        raise UserError(f"{config.count} scenes", where="--count", fix="ask for at least 1")
    if config.supersample not in (1, 2, 3, 4):
        raise UserError(f"{config.supersample} samples per pixel and direction", where="--supersample", fix="1 to 4")
    size = parse_size(config.size)
    if min(size) < 16:
        raise UserError(f"{config.size} is too small for a scene", where="--size", fix="at least 16x16")
    if not config.max_disp >= 1:
        raise UserError(f"max_disp {config.max_disp} is below 1 px", where="--max_disp", fix="192 is usual")
    return size


def row_of(batch: SceneBatch, index: int) -> Image:
    """Left, right and disparity of one scene; what the right view does not show is darkened."""
    pair = as_pair(batch, index, f"scene {index}")
    picture = disparity_picture(batch.disparity[index, 0].cpu().numpy()).copy()
    picture[batch.occluded[index, 0].cpu().numpy()] //= 3
    return side_by_side(pair.left, pair.right, picture)


def scenes(config: ScenesConfig) -> Path:
    """Draw a contact sheet of procedural scenes.

    Returns:
        the picture, `contact_sheet.png` in the folder.

    Raises:
        UserError: an option out of its range, or no photographs in the folder.
    """
    size, options = check(config), scene_options(config)
    generator = torch.Generator().manual_seed(config.seed)
    rows: list[Image] = []
    for start in range(0, config.count, BATCH):
        count = min(BATCH, config.count - start)
        batch = render_scenes(count, size, generator=generator, options=options)
        rows += [row_of(batch, index) for index in range(count)]
    columns = [stacked(*rows[column::COLUMNS]) for column in range(min(COLUMNS, len(rows)))]
    out = Path(config.out)
    picture = out / "contact_sheet.png"
    write_png(picture, np.ascontiguousarray(side_by_side(*columns)))
    write_json(out / "manifest.json", make_manifest("contact sheet", made_from={}, config=config, content={}))
    return picture
