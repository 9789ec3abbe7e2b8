"""Visibility: which surface each pixel sees, and at what inverse depth.

Each item is evaluated on a window around it; windows of equal size go through torch together. The nearest fragment of
a pixel is found by one integer maximum: the bits of a positive float32 inverse depth order like integers, so a 64-bit
key (inverse depth, item) is reduced with a scatter. The maximum does not depend on the order, so it is deterministic.

Shape legend: I items, N items of one window size, V views, H height, W width.
"""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import torch

from distill.scene_fragments import (
    Coefficients,
    flat_fragments,
    plane_fragments,
    quadric_fragments,
    to_device,
    wavy_fragments,
)  # fmt: skip
from distill.scene_geometry import FLAT, QUADRIC, Items, Surfaces
from distill.scene_textures import Bank

SMALLEST_WINDOW = 16
# Which half of a 64-bit integer in memory is the less significant one.
LOW = 0 if sys.byteorder == "little" else 1


@dataclasses.dataclass
class Visible:
    """What each pixel sees.

    Args:
        inverse_depth: (V, H, W) float32, 0 where there is nothing.
        item: (V, H, W) int64 index of the item seen.
    """

    inverse_depth: torch.Tensor
    item: torch.Tensor


def chunk_pixels(device: torch.device) -> int:
    """Pixels per chunk: on a CPU the intermediate tensors stay in its cache, on a GPU launches are few."""
    return 1 << 16 if device.type == "cpu" else 1 << 23


def rounded_up(extent: np.ndarray, limit: int) -> np.ndarray:
    """Window sizes rounded up to powers of two, so that many windows share a size."""
    return np.minimum(2 ** np.ceil(np.log2(np.maximum(extent, SMALLEST_WINDOW))).astype(np.int64), limit)


def cast(
    items: Items, surfaces: Surfaces, bank: Bank, size: tuple[int, int], *, views: int, near: np.ndarray
) -> tuple[Visible, Coefficients]:
    """Find the nearest surface in every pixel of every view.

    Args:
        items: the surfaces as seen by the views; each view's first endless plane is its sky, behind all.
        surfaces: what the items refer to.
        bank: holds the silhouettes; its device is the render device.
        size: (height, width).
        views: number of views V.
        near: (V,) nearest depth that is drawn.
    """
    height, width = size
    device = bank.textures.device
    data = to_device(items, surfaces, near, device)
    endless = (items.kind == FLAT) & ~np.isfinite(surfaces.half[items.surface]).all(1)
    keys = torch.stack(
        [stage_keys(data, np.flatnonzero(endless & (items.view == view)), size) for view in range(views)]
    ).view(-1)
    x0, y0, x1, y1 = items.window.T
    shown = (x1 > x0) & (y1 > y0) & ~endless
    rows, columns = rounded_up(y1 - y0, height), rounded_up(x1 - x0, width)
    left, top = np.minimum(x0, width - columns), np.minimum(y0, height - rows)
    whole = surfaces.cut[items.surface] == 0
    groups = np.stack([rows, columns, items.kind, whole], 1)
    chunk = chunk_pixels(device)
    for group in np.unique(groups[shown], axis=0):
        members = np.flatnonzero((groups == group).all(1) & shown)
        window = int(group[0]), int(group[1])
        step = max(1, chunk // (window[0] * window[1]))
        for start in range(0, len(members), step):
            some = members[start : start + step]
            chosen, x, y = (torch.as_tensor(values, device=device) for values in (some, left[some], top[some]))
            x = x[:, None] + torch.arange(window[1], device=device)
            y = y[:, None] + torch.arange(window[0], device=device)
            depth = fragments(data, chosen, x.float(), y.float(), bank, kind=group[2], whole=group[3])
            place = ((data.view[chosen] * height)[:, None] + y).mul_(width)[:, :, None] + x[:, None, :]
            keys.scatter_reduce_(0, place.view(-1), as_keys(depth, chosen[:, None, None]).view(-1), "amax")
    halves = keys.view(torch.int32).view(views, height, width, 2)
    return Visible(halves[..., 1 - LOW].contiguous().view(torch.float32), halves[..., LOW].to(torch.int64)), data


def fragments(
    data: Coefficients, chosen: torch.Tensor, x: torch.Tensor, y: torch.Tensor, bank: Bank, *, kind: int, whole: bool
) -> torch.Tensor:
    """Inverse depths (N, H, W) of items of one kind; `whole` without silhouette."""
    if kind == QUADRIC:
        return quadric_fragments(data, chosen, x, y)
    patch = flat_fragments if kind == FLAT else wavy_fragments
    return patch(data, chosen, x, y, None if whole else bank)


def as_keys(inverse_depth: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
    """Keys that order by inverse depth and carry the item; what is not in front (0, -0 or below) never wins."""
    halves = torch.empty((*inverse_depth.shape, 2), dtype=torch.int32, device=inverse_depth.device)
    halves[..., LOW] = item
    halves[..., 1 - LOW] = inverse_depth.view(torch.int32)
    return halves.view(torch.int64)[..., 0]


def stage_keys(data: Coefficients, planes: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """Keys (H, W) of one view in which only its endless planes are seen; `planes` are their items, the sky first."""
    height, width = size
    device = data.rows.device
    x = torch.arange(width, device=device, dtype=torch.float32)[None]
    y = torch.arange(height, device=device, dtype=torch.float32)[None]
    nearest = torch.zeros(height, width, device=device)
    item = torch.full((height, width), int(planes[0]), dtype=torch.int32, device=device)
    for plane in planes.tolist():
        w = plane_fragments(data, torch.tensor([plane], device=device), x, y)[0]
        item.masked_fill_(w > nearest, plane)
        torch.maximum(nearest, w, out=nearest)
    return as_keys(nearest, item)
