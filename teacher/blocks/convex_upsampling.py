"""Convex upsampling: every fine pixel is a convex combination of its 3×3 coarse neighbours (RAFT, arXiv 2003.12039).

B batch, H height, W width, s scale
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from teacher.blocks.precision import full_precision


def convex_upsample(disparity_B1HW: torch.Tensor, logits: torch.Tensor, *, scale: int) -> torch.Tensor:
    """Enlarge a disparity map with learnt weights.

    The softmax over nine neighbours is two sums and a division in float32, the fine pixels leave by a pixel shuffle:
    no 6-D tensor, no softmax over a middle axis. Borders are replicated, so that no zero mixes into border pixels.

    Args:
        disparity_B1HW: disparity in coarse pixels.
        logits: (B, 9 * s², H, W), neighbour major: s² fine pixels for the first neighbour, and so on.
        scale: s.

    Returns: (B, 1, s*H, s*W), float32 disparity in fine pixels.
    """
    _, _, height, width = disparity_B1HW.shape
    fine = scale * scale
    logits = full_precision(logits)
    neighbours = logits.split(fine, dim=1)
    peak = neighbours[0].detach()  # keeps exp in range and cancels in the ratio: no gradient
    for other in neighbours[1:]:
        peak = torch.maximum(peak, other.detach())
    padded = F.pad(full_precision(disparity_B1HW) * scale, (1, 1, 1, 1), mode="replicate")
    weights = [torch.exp(neighbour - peak) for neighbour in neighbours]
    windows = [padded[:, :, row : row + height, column : column + width] for row in range(3) for column in range(3)]
    # Sums without a start of zeros, which the exporter would write out as a constant of the map's size.
    total, weighted = weights[0], weights[0] * windows[0]
    for weight, window in zip(weights[1:], windows[1:], strict=True):
        total = total + weight
        weighted = weighted + weight * window
    return F.pixel_shuffle(weighted / total, scale)


def superpixel_upsample(disparity_B1HW: torch.Tensor, logits: torch.Tensor, *, scale: int = 4) -> torch.Tensor:
    """Enlarge a disparity map with weights predicted at the fine resolution, as FoundationStereo does.

    Beyond the border the map counts as 0, which the published weights were trained with: a border pixel mixes it in.

    Args:
        disparity_B1HW: disparity in coarse pixels.
        logits: (B, 9, s*H, s*W), one per coarse neighbour, row by row.
        scale: s.

    Returns: (B, 1, s*H, s*W), float32 (float64 stays) disparity in fine pixels.
    """
    batch, _, height, width = disparity_B1HW.shape
    weights = torch.softmax(full_precision(logits), dim=1).reshape(batch, 9, height, scale, width, scale)
    neighbours = F.unfold(full_precision(disparity_B1HW) * scale, 3, padding=1)
    neighbours = neighbours.reshape(batch, 9, height, 1, width, 1)
    return (weights * neighbours).sum(dim=1).reshape(batch, 1, height * scale, width * scale)
