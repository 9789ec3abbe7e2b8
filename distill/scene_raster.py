"""Visibility: which surface each pixel sees, and at what inverse depth.

Each item is evaluated on a window around it; windows of equal size go through torch together. The nearest fragment of
a pixel is found by one integer maximum: the bits of a positive float32 inverse depth order like integers, so a 64-bit
key (inverse depth, item) is reduced with a scatter. The maximum does not depend on the order, so it is deterministic.

Shape legend: I items, N items of one window size, V views, H height, W width.
"""

from __future__ import annotations

import dataclasses
import sys
from itertools import pairwise

import numpy as np
import torch

from distill.scene_device import chunk_pixels, send
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
# Above this extent a window's pixels cost more than another group of windows does.
FINE_WINDOW = 64
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


@dataclasses.dataclass
class Cast:
    """What the views see.

    Args:
        front: the nearest surfaces.
        behind: the nearest that cannot be seen through, where some can.
        data: the coefficients of the items.
    """

    front: Visible
    behind: Visible | None
    data: Coefficients


def rounded_up(extent: np.ndarray, limit: int) -> np.ndarray:
    """Window sizes rounded up to powers of two, large ones to 1.5 times those too: many windows share a size."""
    power = 2 ** np.ceil(np.log2(np.maximum(extent, SMALLEST_WINDOW))).astype(np.int64)
    less = power * 3 // 4
    return np.minimum(np.where((extent <= less) & (less > FINE_WINDOW), less, power), limit)


def cast(
    items: Items, surfaces: Surfaces, bank: Bank, size: tuple[int, int], *, views: int, near: np.ndarray,
    clear: np.ndarray | None = None,
) -> Cast:  # fmt: skip
    """Find the nearest surface in every pixel of every view.

    Args:
        items: the surfaces as seen by the views; each view's first endless plane is its sky, behind all.
        surfaces: what the items refer to.
        bank: holds the silhouettes; its device is the render device.
        size: (height, width).
        views: number of views V.
        near: (V,) nearest depth that is drawn.
        clear: (S,) surfaces that are seen through, if any; never an endless one.
    """
    device = bank.textures.device
    data = to_device(items, surfaces, near, device)
    endless = (items.kind == FLAT) & ~np.isfinite(surfaces.half[items.surface]).all(1)
    keys = stage_keys(data, planes_of(items, endless, views), size)
    through = np.zeros(len(items.view), np.bool_) if clear is None else clear[items.surface]
    draw(keys, data, items, surfaces, bank, size, ~endless & ~through)
    opaque = None
    if through.any():
        opaque = as_visible(keys, views, size)
        # What is seen is a view of the keys.
        keys = keys.clone()
        draw(keys, data, items, surfaces, bank, size, through)
    return Cast(as_visible(keys, views, size), opaque, data)


def as_visible(keys: torch.Tensor, views: int, size: tuple[int, int]) -> Visible:
    """Take keys apart."""
    halves = keys.view(torch.int32).view(views, *size, 2)
    return Visible(halves[..., 1 - LOW].contiguous().view(torch.float32), halves[..., LOW].to(torch.int64))


def draw(
    keys: torch.Tensor, data: Coefficients, items: Items, surfaces: Surfaces, bank: Bank, size: tuple[int, int],
    chosen: np.ndarray,
) -> None:  # fmt: skip
    """Put the `chosen` items (I,) into the keys (V · H · W), in place."""
    height, width = size
    x0, y0, x1, y1 = items.window.T
    chosen = chosen & (x1 > x0) & (y1 > y0)
    rows, columns = rounded_up(y1 - y0, height), rounded_up(x1 - x0, width)
    left, top = np.minimum(x0, width - columns), np.minimum(y0, height - rows)
    whole = surfaces.cut[items.surface] == 0
    groups = np.stack([rows, columns, items.kind, whole], 1)
    members = np.flatnonzero(chosen)
    members = members[np.lexsort(groups[members].T[::-1])]
    device = keys.device
    order, lefts, tops = (send(values[members], device, torch.int64) for values in (np.arange(len(rows)), left, top))
    bounds = np.flatnonzero(np.any(np.diff(groups[members], axis=0, prepend=-1, append=-1), axis=1))
    for first, last in pairwise(bounds):
        window_rows, window_columns, kind, full = groups[members[first]]
        across, down = torch.arange(window_columns, device=device), torch.arange(window_rows, device=device)
        step = max(1, chunk_pixels(device) // (window_rows * window_columns))
        for start in range(first, last, step):
            some = slice(start, min(start + step, last))
            x, y = lefts[some, None] + across, tops[some, None] + down
            depth = fragments(data, order[some], x.float(), y.float(), bank, kind=kind, whole=full)
            place = ((data.view[order[some]] * height)[:, None] + y).mul_(width)[:, :, None] + x[:, None, :]
            keys.scatter_reduce_(0, place.view(-1), as_keys(depth, order[some, None, None]).view(-1), "amax")


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


def planes_of(items: Items, endless: np.ndarray, views: int) -> np.ndarray:
    """The endless planes (K, V) of each view, its sky first and again where it has fewer than another."""
    own = [np.flatnonzero(endless & (items.view == view)) for view in range(views)]
    most = max(map(len, own))
    return np.stack([np.concatenate([planes, np.full(most - len(planes), planes[0])]) for planes in own], 1)


def stage_keys(data: Coefficients, planes: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """Keys (V · H · W) of views in which only their endless planes (K, V), the sky first, are seen."""
    height, width = size
    device = data.rows.device
    views = planes.shape[1]
    chosen = send(planes, device, torch.int64)
    x = torch.arange(width, device=device, dtype=torch.float32)[None]
    y = torch.arange(height, device=device, dtype=torch.float32)[None]
    keys = torch.empty(views, height, width, dtype=torch.int64, device=device)
    step = max(1, chunk_pixels(device) // (height * width))
    for first in range(0, views, step):
        some = slice(first, min(first + step, views))
        nearest = torch.zeros(some.stop - some.start, height, width, device=device)
        item = chosen[0, some].int()[:, None, None].expand_as(nearest)
        # A view with fewer planes is padded with its sky: that changes nothing.
        for index, planes_here in enumerate(planes[:, some]):
            if index and (planes_here == planes[0, some]).all():
                break
            w = plane_fragments(data, chosen[index, some], x, y)
            item = torch.where(w > nearest, chosen[index, some].int()[:, None, None], item)
            torch.maximum(nearest, w, out=nearest)
        keys[some] = as_keys(nearest, item)
    return keys.view(-1)
