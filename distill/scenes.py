"""Procedural stereo scenes with exact disparity and occlusion, rendered in batch with torch.

    world (layout) -> items (geometry) -> visibility (raster) -> colour (shading) -> camera effects

Both eyes see the same surfaces with the same textures attached to them: disparity is focal × baseline / depth of the
surface met by the ray through the pixel's centre, in closed form, for either eye.

Shape legend: B scenes, H height, W width.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from distill.photometry import photometry
from distill.scene_device import gathers, send
from distill.scene_geometry import Cameras, Items, project
from distill.scene_layout import World, compose
from distill.scene_raster import Cast, cast
from distill.scene_shading import shade
from distill.scene_shadows import draw_shadows
from distill.scene_tables import make_tables
from distill.scene_textures import Bank, bank_for
from distill.scenes_config import SceneOptions

__all__ = ["SceneBatch", "SceneOptions", "render_scenes", "render_world"]

# What is farther than this is at infinity: its disparity is given as 0.
INFINITY_PX = 1e-3


@dataclasses.dataclass
class SceneBatch:
    """Rendered pairs.

    Args:
        left, right: (B, 3, H, W) float32 RGB, 0–255.
        disparity: (B, 1, H, W) float32, pixels of the left view, 0 at infinity; positive: x_right = x_left - d.
        occluded: (B, 1, H, W) bool, left pixels whose surface the right view does not show, out of frame included.
        disparity_right, occluded_right: the same for the right view (x_left = x_right + d).
    """

    left: torch.Tensor
    right: torch.Tensor
    disparity: torch.Tensor
    occluded: torch.Tensor
    disparity_right: torch.Tensor
    occluded_right: torch.Tensor


def both_eyes(world: World, cameras: Cameras, size: tuple[int, int]) -> Items:
    """Items of all left views, then of all right views; window and view differ, materials do not."""
    pair = [project(world.surfaces, eye, size, near=world.near) for eye in (cameras, cameras.shifted(1.0))]
    joined = {
        field.name: np.concatenate([getattr(items, field.name) for items in pair])
        for field in dataclasses.fields(Items)
    }
    joined["view"][len(pair[0].view) :] += len(cameras.focal)
    return Items(**joined)


def see(world: World, bank: Bank, size: tuple[int, int], *, factor: int = 1) -> tuple[Items, Cast]:
    """Visibility for both eyes, with `factor` samples per pixel in each direction."""
    size = size[0] * factor, size[1] * factor
    items = both_eyes(world, world.cameras.scaled(factor), size)
    near = np.tile(world.near, 2)
    return items, cast(items, world.surfaces, bank, size, views=len(near), near=near, clear=world.clear)


def paint(world: World, items: Items, seen: Cast, bank: Bank, *, factor: int) -> torch.Tensor:
    """Colours (2B, 3, H, W) in [0, 1] of both eyes, averaged over the samples of each pixel."""
    left = world.cameras.scaled(factor)
    right = left.shifted(1.0)
    both = Cameras(*(np.concatenate(pair) for pair in zip(vars(left).values(), vars(right).values(), strict=True)))
    tables = make_tables(items, world.surfaces, world.materials, world.lights, both, seen.front.item.device)
    shadows = draw_shadows(world.surfaces, world.clear, world.lights, both, bank)
    color = shade(seen.front, seen.behind, seen.data, tables, shadows, bank)
    return torch.nn.functional.avg_pool2d(color, factor) if factor > 1 else soft_edges(color, seen.front.item)


def soft_edges(color: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
    """Mix the colours (V, 3, H, W) across the borders of items (V, H, W): a camera's pixel is an area, not a point."""
    views, _, width = item.shape
    border = torch.zeros_like(item, dtype=torch.bool)
    inner = item[:, 1:-1, 1:-1]
    border[:, 1:-1, 1:-1] = (
        (inner != item[:, 1:-1, 2:]) | (inner != item[:, 1:-1, :-2]) | (inner != item[:, 2:, 1:-1])
        | (inner != item[:, :-2, 1:-1])
    )  # fmt: skip
    if not gathers(color.device):
        taps = torch.tensor([0.25, 0.5, 0.25], device=color.device)
        kernel = (taps[:, None] * taps).expand(3, 1, 3, 3)
        mixed = torch.nn.functional.conv2d(color, kernel, padding=1, groups=3)
        return torch.where(border[:, None], mixed, color)
    view, place = torch.nonzero(border.view(views, -1)).unbind(1)
    area = item[0].numel()
    flat_color = color.view(-1)
    for channel in range(3):
        here = (view * 3 + channel) * area + place
        mixed = torch.zeros(len(here), device=color.device)
        for down, row_weight in ((-1, 0.25), (0, 0.5), (1, 0.25)):
            for across, column_weight in ((-1, 0.25), (0, 0.5), (1, 0.25)):
                beside = flat_color.index_select(0, here + (down * width + across))
                mixed.add_(beside, alpha=row_weight * column_weight)
        flat_color[here] = mixed
    return color


def hidden(disparity: torch.Tensor, surface: torch.Tensor, other: torch.Tensor, other_surface: torch.Tensor, *,
           sign: int) -> torch.Tensor:  # fmt: skip
    """Pixels (B, H, W) of one eye whose surface point the other eye does not show.

    A point is hidden where the nearest pixel of the other view sees something nearer. Half a pixel of disparity (one
    pixel on the same surface, which may be steep) allows for the fraction of a pixel between the point and that pixel.

    Args:
        disparity, surface: (B, H, W) of this eye.
        other, other_surface: of the other eye.
        sign: -1 when this is the left eye, +1 for the right eye.
    """
    width = disparity.shape[-1]
    place = torch.arange(width, device=disparity.device) + sign * disparity
    outside = (place < -0.5) | (place > width - 0.5)
    column = place.round_().clamp_(0, width - 1).long()
    same = other_surface.gather(-1, column) == surface
    return outside | (other.gather(-1, column) - disparity > 0.5 + 0.5 * same)


def render_world(world: World, size: tuple[int, int], bank: Bank, *, supersample: int = 1) -> SceneBatch:
    """Render a world without camera effects: what two perfect cameras see."""
    items, seen = see(world, bank, size)
    visible = seen.front
    count, surfaces = len(world.near), len(items.view) // 2
    focal = send(world.cameras.focal, visible.item.device)
    disparity = visible.inverse_depth.view(2, count, *size) * focal[:, None, None]
    disparity = disparity * (disparity > INFINITY_PX)
    surface = (visible.item % surfaces).view(2, count, *size)
    occluded = [
        hidden(disparity[eye], surface[eye], disparity[1 - eye], surface[1 - eye], sign=(-1, 1)[eye]) for eye in (0, 1)
    ]
    if supersample > 1:
        items, seen = see(world, bank, size, factor=supersample)
    color = paint(world, items, seen, bank, factor=supersample).view(2, count, 3, *size) * 255
    return SceneBatch(
        color[0], color[1], disparity[0, :, None], occluded[0][:, None], disparity[1, :, None], occluded[1][:, None]
    )


def render_scenes(
    count: int,
    size: tuple[int, int],
    *,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
    options: SceneOptions | None = None,
) -> SceneBatch:
    """Render random scenes.

    The same generator state, options, device and versions give the same bits.

    Args:
        count: number of scenes B.
        size: (height, width) in pixels.
        generator: source of all randomness but the texture bank's, which `options.bank_seed` fixes.
        device: where to render.
        options: what the scenes look like; defaults if None.

    Raises:
        UserError: photographs named in the options are missing or unreadable.
    """
    options = options or SceneOptions()
    bank = bank_for(options, torch.device(device))
    seed = torch.randint(0, 2**62, (2,), generator=generator, device=generator.device).tolist()
    world = compose(np.random.default_rng(seed), count, size, options, bank)
    batch = render_world(world, size, bank, supersample=options.supersample)
    if options.photometric:
        batch.left, batch.right = photometry(batch.left, batch.right, generator=generator)
    return batch
