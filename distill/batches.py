"""A training batch, and how batches are joined and taken apart.

B batch, H height, W width
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

# What names of procedural samples begin with.
SCENE_NAME = "scene of block"


@dataclasses.dataclass
class Batch:
    """One training batch.

    Args:
        left, right: (B, 3, H, W) float32, RGB 0–255.
        disparity: (B, 1, H, W) float32 px, NaN invalid.
        confidence: (B, 1, H, W) float32, 0 to 1.
        names: where each sample came from.
    """

    left: torch.Tensor
    right: torch.Tensor
    disparity: torch.Tensor
    confidence: torch.Tensor
    names: list[str]

    @property
    def of_scenes(self) -> list[bool]:
        """Which samples are procedural scenes, whose disparity is exact."""
        return [name.startswith(SCENE_NAME) for name in self.names]

    def to(self, device: torch.device) -> Batch:
        """The batch on another device."""
        tensors = (getattr(self, name).to(device, non_blocking=True) for name in TENSORS)
        return Batch(*tensors, names=self.names)


TENSORS = ("left", "right", "disparity", "confidence")


def join(batches: Sequence[Batch]) -> Batch:
    """Concatenate batches."""
    tensors = (torch.cat([getattr(batch, name) for batch in batches]) for name in TENSORS)
    return Batch(*tensors, names=[name for batch in batches for name in batch.names])


def take(batch: Batch, index: Sequence[int]) -> Batch:
    """Some samples of a batch."""
    tensors = (getattr(batch, name)[list(index)] for name in TENSORS)
    return Batch(*tensors, names=[batch.names[position] for position in index])
