"""Lookup: read a cost row around the current disparity of every pixel.

RAFT-Stereo (arXiv 2109.07547) and IGEV (arXiv 2303.06615); FoundationStereo section 3.4. Positions outside the row
contribute 0, each neighbour on its own, as a zero-padded bilinear sampler with aligned corners would give.

All taps of a pixel share one fractional part, so 2r+2 neighbouring entries and one interpolation give 2r+1 taps: one
gather, no grid_sample.

    B batch, C channels, D disparity planes, H height, W width, T taps = 2 * radius + 1
"""

from __future__ import annotations

import torch

from teacher.blocks.precision import full_precision


def sample_rows(rows: torch.Tensor, centre: torch.Tensor, *, radius: int, axis: int) -> torch.Tensor:
    """Sample every row linearly at centre - radius, ..., centre + radius.

    Args:
        rows: any shape; the rows lie along `axis`.
        centre: same number of axes, size 1 along `axis`, size 1 or equal elsewhere; in entries, may lie outside.
        radius: taps on each side.

    Returns: like `rows` with T taps along `axis`, float32.
    """
    length = rows.shape[axis]
    reach = radius + 1
    # Beyond the reach of the row every tap is 0 whatever the centre; clamping keeps the index small for integer casts.
    centre = full_precision(centre).clamp(-float(reach), float(length - 1 + reach))
    start = torch.floor(centre)
    fraction = centre - start
    shape = [1] * rows.dim()
    shape[axis] = 2 * radius + 2
    index = start.long() + torch.arange(-radius, reach + 1, device=centre.device).reshape(shape)
    inside = (index >= 0) & (index < length)
    full = list(rows.shape)
    full[axis] = 2 * radius + 2
    entries = torch.gather(full_precision(rows), axis, index.clamp(0, length - 1).expand(full))
    entries = torch.where(inside, entries, torch.zeros((), device=entries.device, dtype=entries.dtype))
    lower, upper = entries.narrow(axis, 0, 2 * radius + 1), entries.narrow(axis, 1, 2 * radius + 1)
    return lower + fraction * (upper - lower)


def lookup_volume(volume_BCDHW: torch.Tensor, disparity_B1HW: torch.Tensor, *, radius: int) -> torch.Tensor:
    """Sample a cost volume around the current disparity.

    Args:
        disparity_B1HW: disparity in planes of the volume.

    Returns: (B, C * T, H, W), float32, channel major, tap minor.
    """
    taps = sample_rows(volume_BCDHW, disparity_B1HW[:, :, None], radius=radius, axis=2)
    return taps.flatten(1, 2)


def lookup_correlation(
    correlation_B1HWW: torch.Tensor, disparity_B1HW: torch.Tensor, *, radius: int, stride: int = 1
) -> torch.Tensor:
    """Sample an all-pairs row correlation at right columns x - d - radius, ..., x - d + radius.

    Args:
        correlation_B1HWW: left column, then right column (see `hybrid_cost_volume.row_correlation`).
        disparity_B1HW: disparity in pixels of the left columns' resolution.
        stride: left columns per right column, where the right columns were pooled.

    Returns: (B, T, H, W), float32.
    """
    disparity_B1HW = full_precision(disparity_B1HW)
    columns = torch.arange(disparity_B1HW.shape[3], device=disparity_B1HW.device, dtype=disparity_B1HW.dtype)
    centre = (columns - disparity_B1HW)[..., None]
    return sample_rows(correlation_B1HWW, centre / stride, radius=radius, axis=4)[:, 0].permute(0, 3, 1, 2)
