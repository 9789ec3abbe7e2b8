"""Soft-argmin: disparity as the expectation over matching scores (GC-Net, arXiv 1703.04309, eq. 1).

B batch, D disparity planes, H height, W width
"""

from __future__ import annotations

import torch

from teacher.blocks.precision import full_precision


def soft_argmin(scores_BDHW: torch.Tensor) -> torch.Tensor:
    """Regress disparity from matching scores, higher being better.

    Two sums and one division instead of a softmax over a middle axis, which CPU runtimes transpose for. Float32: the
    sum over planes loses sub-pixel precision in half types.

    Returns: (B, 1, H, W), float32 (float64 stays) disparity in pixels of the volume's resolution, in [0, D-1].
    """
    scores = full_precision(scores_BDHW)
    # The maximum only keeps exp in range and cancels in the ratio, so it needs no gradient.
    weights = torch.exp(scores - scores.detach().amax(dim=1, keepdim=True))
    planes = torch.arange(scores.shape[1], device=scores.device, dtype=scores.dtype)[None, :, None, None]
    return (weights * planes).sum(dim=1, keepdim=True) / weights.sum(dim=1, keepdim=True)
