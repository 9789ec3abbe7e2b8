"""Visibility: which surface each pixel sees, and at what inverse depth.

Each item is evaluated on a window around it; windows of equal size go through torch together. The nearest fragment of
a pixel is found by one integer maximum: the bits of a positive float32 inverse depth order like integers, so a 64-bit
key (inverse depth, item) is reduced with a scatter. The maximum does not depend on the order, so it is deterministic.

Shape legend: I items, N items of one window size, V views, H height, W width.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from distill.scene_geometry import FLAT, Items, Surfaces
from distill.scene_textures import Bank

SMALLEST_WINDOW = 16


@dataclasses.dataclass
class Coefficients:
    """`Items` on the render device, float32; see there. `bend`, `cut` and `bounded` come from the surfaces."""

    view: torch.Tensor
    kind: torch.Tensor
    rows: torch.Tensor
    constants: torch.Tensor
    bend: torch.Tensor
    cut: torch.Tensor
    bounded: torch.Tensor
    inverse_near: torch.Tensor


@dataclasses.dataclass
class Visible:
    """What each pixel sees.

    Args:
        inverse_depth: (V, H, W) float32, 0 where there is nothing.
        item: (V, H, W) int64 index of the item seen.
    """

    inverse_depth: torch.Tensor
    item: torch.Tensor


def to_device(items: Items, surfaces: Surfaces, near: np.ndarray, device: torch.device) -> Coefficients:
    """Copy the coefficients to the render device."""
    own = items.surface
    arrays = (
        items.rows,
        items.constants,
        surfaces.bend[own],
        np.isfinite(surfaces.half[own]).all(1),
        1 / near[items.view],
    )
    rows, constants, bend, bounded, inverse_near = (
        torch.as_tensor(array, dtype=torch.float32, device=device) for array in arrays
    )
    view, kind = torch.as_tensor(items.view, device=device), torch.as_tensor(items.kind, device=device)
    cut = torch.as_tensor(surfaces.cut[own], dtype=torch.float32, device=device)
    return Coefficients(view, kind, rows, constants, bend, cut, bounded, inverse_near)


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
        items: the surfaces as seen by the views.
        surfaces: what the items refer to.
        bank: holds the silhouettes; its device is the render device.
        size: (height, width).
        views: number of views V.
        near: (V,) nearest depth that is drawn.
    """
    height, width = size
    device = bank.textures.device
    data = to_device(items, surfaces, near, device)
    keys = torch.zeros(views * height * width, dtype=torch.int64, device=device)
    x0, y0, x1, y1 = items.window.T
    shown = (x1 > x0) & (y1 > y0)
    rows, columns = rounded_up(y1 - y0, height), rounded_up(x1 - x0, width)
    left, top = np.minimum(x0, width - columns), np.minimum(y0, height - rows)
    simple = (items.kind == FLAT) & (surfaces.cut[items.surface] == 0)
    groups = np.stack([rows, columns, items.kind, simple], 1)
    chunk = chunk_pixels(device)
    for group in np.unique(groups[shown], axis=0):
        members = np.flatnonzero((groups == group).all(1) & shown)
        window = int(group[0]), int(group[1])
        step = max(1, chunk // (window[0] * window[1]))
        for start in range(0, len(members), step):
            some = members[start : start + step]
            chosen, first_x, first_y = (torch.as_tensor(a, device=device) for a in (some, left[some], top[some]))
            fragments = flat_fragments if group[2] == FLAT else quadric_fragments
            y = first_y[:, None] + torch.arange(window[0], device=device)
            x = first_x[:, None] + torch.arange(window[1], device=device)
            depth = fragments(data, chosen, x.float(), y.float(), bank if not group[3] else None)
            place = (data.view[chosen] * height)[:, None, None] + y[:, :, None]
            place = place * width + x[:, None, :]
            key = (depth.view(torch.int32).to(torch.int64) << 32) | chosen[:, None, None]
            key = key * (depth > 0)
            keys.scatter_reduce_(0, place.view(-1), key.view(-1), "amax")
    keys = keys.view(views, height, width)
    return Visible((keys >> 32).to(torch.int32).view(torch.float32), keys & 0xFFFFFFFF), data


def affine(row: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Evaluate (N, 3) affine functions on N windows: (N, H, W) from pixel columns (N, W) and rows (N, H)."""
    across = row[:, 0, None] * x + row[:, 2, None]
    return across[:, None, :] + (row[:, 1, None] * y)[:, :, None]


def flat_fragments(
    data: Coefficients, chosen: torch.Tensor, x: torch.Tensor, y: torch.Tensor, bank: Bank | None
) -> torch.Tensor:
    """Inverse depth (N, H, W) of flat patches, 0 or less outside; `bank` None where no silhouette is cut."""
    rows, constants = data.rows[chosen], data.constants[chosen]
    w = affine(rows[:, 2], x, y)
    inverse = w.reciprocal()
    u = affine(rows[:, 0], x, y).mul_(inverse).add_(constants[:, 0, None, None])
    v = affine(rows[:, 1], x, y).mul_(inverse).add_(constants[:, 1, None, None])
    outside = torch.maximum(u.abs(), v.abs()).mul_(data.bounded[chosen, None, None])
    keep = (outside <= 1) & (w <= data.inverse_near[chosen, None, None]) & (w > 0)
    if bank is not None:
        keep &= bank.inside(data.cut[chosen, None, None], u, v) > 0
    return w * keep


def quadric_fragments(
    data: Coefficients, chosen: torch.Tensor, x: torch.Tensor, y: torch.Tensor, bank: Bank | None
) -> torch.Tensor:
    """Inverse depth (N, H, W) of quadrics, 0 outside.

    With p = eye + q / w the quadric p1² + p2² + m p3² + l p3 = 1 becomes C w² + 2 B w + A = 0.
    """
    rows = data.rows[chosen]
    e1, e2, e3 = data.constants[chosen, :, None, None].unbind(1)
    m, slope = data.bend[chosen, :, None, None].unbind(1)
    q1, q2, q3 = (affine(rows[:, axis], x, y) for axis in range(3))
    a = q1 * q1 + q2 * q2 + m * q3 * q3
    b = e1 * q1 + e2 * q2 + (m * e3 + 0.5 * slope) * q3
    c = e1 * e1 + e2 * e2 + m * e3 * e3 + slope * e3 - 1
    root = (b * b - a * c).clamp_(min=0).sqrt_()
    hit = b * b >= a * c
    first, second = (root - b) / c, (-root - b) / c
    near, far = torch.maximum(first, second), torch.minimum(first, second)
    limit = data.inverse_near[chosen, None, None]
    result = torch.zeros_like(near)
    for w in (far, near):
        height = e3 + q3 / w
        keep = hit & (height.abs() <= 1) & (w > 0) & (w <= limit)
        result = torch.where(keep, w, result)
    return result
