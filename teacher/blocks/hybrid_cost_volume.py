"""Hybrid cost volume: group-wise correlation beside concatenated features.

GwcNet (arXiv 1903.04025) and FoundationStereo (arXiv 2501.09898, section 3.2). Plane d compares left pixel x with right
pixel x - d; where x < d nothing is seen and the entry is 0.

Written for the exporter: a fixed number of nodes whatever the number of planes, no loop, no scatter, and valid also
when there are more planes than columns.

    B batch, C channels, G groups, D disparity planes, H height, W width
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from teacher.blocks.precision import full_precision

# Squared length added to every vector before it is normalised, so that a zero vector stays zero with a finite gradient.
# No smaller, because the exporter's optimiser drops an addition it takes for one of zero (below about 1e-8).
EXPORTABLE_FLOOR = 1e-6
# FoundationStereo's own (a length of 1e-12), for networks whose published weights were trained with it.
FOUNDATION_STEREO_FLOOR = 1e-24


def normalise_groups(features_BCHW: torch.Tensor, groups: int, *, floor: float = EXPORTABLE_FLOOR) -> torch.Tensor:
    """Scale the feature vector of every group to unit length, in float32: its square overflows float16.

    Returns: (B, G, C/G, H, W).
    """
    batch, channels, height, width = features_BCHW.shape
    grouped = full_precision(features_BCHW).reshape(batch, groups, channels // groups, height, width)
    return grouped * torch.rsqrt(grouped.square().sum(dim=2, keepdim=True) + floor)


def row_correlation(
    left_BCHW: torch.Tensor, right_BCHW: torch.Tensor, *, groups: int = 1, floor: float = EXPORTABLE_FLOOR
) -> torch.Tensor:
    """Cosine of every left pixel with every right pixel of its row, per group of channels.

    Returns: (B, G, H, W, W), float32 in [-1, 1]: left column, then right column.
    """
    left = normalise_groups(left_BCHW, groups, floor=floor).permute(0, 1, 3, 4, 2)
    right = normalise_groups(right_BCHW, groups, floor=floor).permute(0, 1, 3, 2, 4)
    with torch.autocast(left.device.type, enabled=False):
        return left @ right


def group_correlation(
    left_BCHW: torch.Tensor, right_BCHW: torch.Tensor, *, planes: int, groups: int, floor: float = EXPORTABLE_FLOOR
) -> torch.Tensor:
    """Group-wise correlation volume by one matrix product per row and a shear of the result.

    With the right columns reversed, plane d of left column x lies at column W-1-x+d of its product. Read with a row
    length one shorter, the flattened product has these entries aligned in columns: d becomes the column index.

    Returns: (B, G, D, H, W), float32.
    """
    batch, _, height, width = left_BCHW.shape
    backwards = torch.arange(width - 1, -1, -1, device=right_BCHW.device)
    products = row_correlation(left_BCHW, right_BCHW.index_select(3, backwards), groups=groups, floor=floor)
    row = width + planes
    flat = F.pad(products, (0, planes)).reshape(batch, groups, height, width * row)
    sheared = flat[..., width - 1 : width * row - 1].reshape(batch, groups, height, width, row - 1)
    return sheared[..., :planes].permute(0, 1, 4, 2, 3)


def shifted_planes(right_BCHW: torch.Tensor, planes: int) -> torch.Tensor:
    """Right features moved by d pixels to the right in plane d, zeros entering from the left.

    Returns: (B, C, D, H, W).
    """
    batch, channels, height, width = right_BCHW.shape
    columns = torch.arange(width, device=right_BCHW.device)[None, :]
    shifts = torch.arange(planes, device=right_BCHW.device)[:, None]
    index = (columns - shifts + planes).clamp(min=0).reshape(-1)  # column x - d of an image padded by D on the left
    padded = F.pad(right_BCHW, (planes, 0))
    return padded.index_select(3, index).reshape(batch, channels, height, planes, width).transpose(2, 3)


class HybridCostVolume(nn.Module):
    """Correlation in groups and projected features of both eyes, side by side.

    Args:
        channels: C of the input features.
        groups: groups of the correlation; divides C.
        concat_channels: width of the 1×1 projection whose two sides are concatenated; 0 leaves them out.
        floor: see `normalise_groups`.

    Input: left and right features, (B, C, H, W) each.
    Output: (B, groups + 2 * concat_channels, planes, H, W): correlation, left, right.
    """

    def __init__(
        self, channels: int, *, groups: int = 8, concat_channels: int = 12, floor: float = EXPORTABLE_FLOOR
    ) -> None:
        super().__init__()
        self.groups = groups
        self.floor = floor
        self.outputs = groups + 2 * concat_channels
        self.projection = nn.Conv2d(channels, concat_channels, 1) if concat_channels else None

    def forward(self, left_BCHW: torch.Tensor, right_BCHW: torch.Tensor, *, planes: int) -> torch.Tensor:
        correlation = group_correlation(left_BCHW, right_BCHW, planes=planes, groups=self.groups, floor=self.floor)
        if self.projection is None:
            return correlation
        # Both eyes in one call: one convolution in the graph, one set of activation statistics for INT8.
        left, right = self.projection(torch.cat([left_BCHW, right_BCHW])).split(
            [left_BCHW.shape[0], right_BCHW.shape[0]]
        )
        copies = left[:, :, None].expand(-1, -1, planes, -1, -1)
        return torch.cat([correlation.to(left.dtype), copies, shifted_planes(right, planes)], dim=1)
