"""What a CPU and a GPU want differently, in one place.

On a CPU, intermediate tensors should stay in the cache and rare pixels be gathered. On a GPU launches should be few and
nothing may wait: no count of pixels comes back to the host, and copies to the device go through pinned memory.

Shape legend: P pixels.
"""

from __future__ import annotations

import numpy as np
import torch


def chunk_pixels(device: torch.device) -> int:
    """Pixels that go through torch together."""
    return 1 << 17 if device.type == "cpu" else 1 << 23


def gathers(device: torch.device) -> bool:
    """Whether work on some pixels is done on those alone; else on all, and the others are thrown away."""
    return device.type == "cpu"


def send(values: np.ndarray, device: torch.device, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Copy an array to the render device without waiting for it."""
    tensor = torch.as_tensor(values, dtype=dtype)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


class Subset:
    """The pixels of a mask (P,): `take` their values, compute, `put` the results back."""

    def __init__(self, mask: torch.Tensor) -> None:
        self.mask = mask
        self.index = torch.nonzero(mask).view(-1) if gathers(mask.device) else None

    @property
    def empty(self) -> bool:
        """Whether there is certainly nothing to do."""
        return self.index is not None and not len(self.index)

    def take(self, values: torch.Tensor) -> torch.Tensor:
        """Their values, or all; the pixels are the last axis."""
        return values if self.index is None else values.index_select(-1, self.index)

    def put(self, values: torch.Tensor, new: torch.Tensor) -> None:
        """Replace their values, in place; the pixels are the last axis."""
        if self.index is None:
            values.copy_(torch.where(self.mask, new, values))
        else:
            values.index_copy_(-1, self.index, new)
