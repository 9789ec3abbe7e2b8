"""Where the rays of a window of pixels meet a surface: the closed forms of `distill.scene_geometry`, with torch.

Each function returns the inverse depth (N, H, W), not positive where the ray misses.

Shape legend: N items of one window size, H, W the window.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from distill.scene_device import send
from distill.scene_geometry import FLAT, Items, Surfaces
from distill.scene_textures import Bank

# Newton's method doubles the digits: from waves within a few percent of the depth, to float32's precision with the one
# step of a chord that follows.
NEWTON_STEPS = 2


@dataclasses.dataclass
class Coefficients:
    """`Items` and the surfaces they refer to on the render device, float32 and (I, ...); see there.

    The first two rows of FLAT items differ: they are local coordinates times inverse depth, see `by_inverse_depth`.
    """

    view: torch.Tensor
    kind: torch.Tensor
    rows: torch.Tensor
    constants: torch.Tensor
    bend: torch.Tensor
    waves: torch.Tensor
    cut: torch.Tensor
    bounded: torch.Tensor
    inverse_near: torch.Tensor


def to_device(items: Items, surfaces: Surfaces, near: np.ndarray, device: torch.device) -> Coefficients:
    """Copy the coefficients to the render device; `near` (V,) is the nearest depth drawn."""
    own = items.surface
    arrays = {
        "rows": by_inverse_depth(items),
        "constants": items.constants,
        "bend": surfaces.bend[own],
        "waves": surfaces.waves[own],
        "cut": surfaces.cut[own],
        "bounded": np.isfinite(surfaces.half[own]).all(1),
        "inverse_near": 1 / near[items.view],
    }
    floats = {name: send(array, device) for name, array in arrays.items()}
    view, kind = (send(values, device, torch.int64) for values in (items.view, items.kind))
    return Coefficients(view=view, kind=kind, **floats)


def by_inverse_depth(items: Items) -> np.ndarray:
    """Rows (I, 3, 3) of which a flat patch's first two are w p1 and w p2, which are affine in the pixel as w is."""
    rows = items.rows.copy()
    flat = items.kind == FLAT
    rows[flat, :2] += items.constants[flat, :2, None] * rows[flat, 2:]
    return rows


def affine(row: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Evaluate (N, 3) affine functions on N windows: (N, H, W) from pixel columns (N, W) and rows (N, H)."""
    across = row[:, 0, None] * x + row[:, 2, None]
    return across[:, None, :] + (row[:, 1, None] * y)[:, :, None]


def plane_fragments(data: Coefficients, chosen: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Unbounded planes."""
    w = affine(data.rows[chosen, 2], x, y)
    return w * (w <= data.inverse_near[chosen, None, None])


def flat_fragments(
    data: Coefficients, chosen: torch.Tensor, x: torch.Tensor, y: torch.Tensor, bank: Bank | None
) -> torch.Tensor:
    """Flat patches; `bank` is None where no silhouette is cut."""
    rows = data.rows[chosen]
    w = affine(rows[:, 2], x, y)
    u, v = affine(rows[:, 0], x, y), affine(rows[:, 1], x, y)
    # |p1| <= 1 and |p2| <= 1, times w.
    keep = (torch.maximum(u.abs(), v.abs()) <= w) & (w <= data.inverse_near[chosen, None, None])
    if bank is not None:
        inverse = w.reciprocal()
        keep &= bank.inside(data.cut[chosen, None, None], u.mul_(inverse), v.mul_(inverse)) > 0
    return w * keep


def relief(waves: torch.Tensor, u: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Height of the waves at u, v and its derivatives; `waves` broadcasts to u's shape after its first two axes."""
    height, along_u, along_v = torch.zeros_like(u), torch.zeros_like(u), torch.zeros_like(u)
    for k_u, k_v, phase, amplitude in waves:
        angle = (k_u * u).addcmul_(k_v.expand_as(u), v).add_(phase)
        slope = angle.cos().mul_(amplitude)
        height.addcmul_(angle.sin_(), amplitude.expand_as(u))
        along_u.addcmul_(slope, k_u.expand_as(u))
        along_v.addcmul_(slope, k_v.expand_as(u))
    return height, along_u, along_v


def heights(waves: torch.Tensor, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Height of the waves alone; see `relief`."""
    height = torch.zeros_like(u)
    for k_u, k_v, phase, amplitude in waves:
        height.addcmul_((k_u * u).addcmul_(k_v.expand_as(u), v).add_(phase).sin_(), amplitude.expand_as(u))
    return height


def wavy_fragments(
    data: Coefficients, chosen: torch.Tensor, x: torch.Tensor, y: torch.Tensor, bank: Bank | None
) -> torch.Tensor:
    """Patches with waves: depth solves z = z_plane (1 + h(u, v) / distance), u and v themselves being affine in z."""
    rows, (e1, e2, e3) = data.rows[chosen], data.constants[chosen, :, None, None].unbind(1)
    waves = data.waves[chosen].permute(1, 2, 0)[..., None, None]
    flat_depth = affine(rows[:, 2], x, y).reciprocal_()
    q1, q2 = affine(rows[:, 0], x, y), affine(rows[:, 1], x, y)
    scale = -flat_depth / e3
    depth, rise = flat_depth, torch.ones_like(flat_depth)
    for _ in range(NEWTON_STEPS):
        height, along_u, along_v = relief(waves, q1 * depth + e1, q2 * depth + e2)
        error = (depth - flat_depth).addcmul_(scale, height, value=-1)
        rise = along_u.mul_(q1).addcmul_(along_v, q2).mul_(scale).neg_().add_(1)
        depth = depth - error.div_(rise)
    # So near the end the last slope serves once more.
    error = (depth - flat_depth).addcmul_(scale, heights(waves, q1 * depth + e1, q2 * depth + e2), value=-1)
    depth = depth - error / rise
    u, v = q1 * depth + e1, q2 * depth + e2
    outside = torch.maximum(u.abs(), v.abs()).mul_(data.bounded[chosen, None, None])
    w = depth.reciprocal()
    # Where the relief is too steep for the view (rise near 0) the nearest crossing is not certain: nothing is drawn.
    settled = (rise > 0.1) & (error.abs() < 1e-3 * depth)
    keep = settled & (outside <= 1) & (w <= data.inverse_near[chosen, None, None])
    if bank is not None:
        keep &= bank.inside(data.cut[chosen, None, None], u, v) > 0
    return torch.where(keep, w, 0.0)


def quadric_fragments(data: Coefficients, chosen: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Quadrics: with p = e + q / w, p1² + p2² + m p3² + l p3 = k becomes c w² + 2 b w + a = 0."""
    rows = data.rows[chosen]
    e1, e2, e3 = data.constants[chosen, :, None, None].unbind(1)
    m, slope, level = data.bend[chosen, :, None, None].unbind(1)
    q1, q2, q3 = (affine(rows[:, axis], x, y) for axis in range(3))
    a = (q1 * q1).addcmul_(q2, q2).addcmul_(q3 * m, q3)
    b = (e1 * q1).addcmul_(e2.expand_as(q2), q2).add_((m * e3 + 0.5 * slope) * q3)
    c = e1 * e1 + e2 * e2 + m * e3 * e3 + slope * e3 - level
    square = (b * b).addcmul_(a, c.expand_as(a), value=-1)
    root = square.clamp(min=0).sqrt_()
    first, second = (root - b) / c, (-root - b) / c
    limit = data.inverse_near[chosen, None, None]
    result = torch.zeros_like(first)
    for w in (torch.minimum(first, second), torch.maximum(first, second)):
        height = (q3 / w).add_(e3).abs_()
        keep = (height <= 1) & (w > 0) & (w <= limit)
        result = torch.where(keep, w, result)
    return result * (square >= 0)
