"""Frames of label sets on their way into a batch: decoded once, zoomed and cropped.

B batch, C channels, H height, W width
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch

from distill.batches import Batch
from stereo.errors import UserError
from stereo.label_set import LabelledFrame, LabelSet
from stereo.packed_set import PackedSet

RESCALE = (0.75, 1.5)  # range of the random zoom on label frames, where they are large enough


def check_trusted(sets: Sequence[LabelSet | PackedSet]) -> None:
    """Refuse label sets that teach nothing.

    Raises:
        UserError: a set has no trusted pixel at all.
    """
    for labels in sets:
        kept = labels.manifest.get("kept_pct")
        if kept == 0:
            raise UserError(
                "the label set has no trusted pixel", where=labels.path, fix="label it with another teacher"
            )


class FrameCache:
    """Label frames decoded once and kept while they fit.

    Args:
        sets: label sets, read as one long sequence.
        limit_mb: memory for decoded frames.
    """

    def __init__(self, sets: Sequence[LabelSet | PackedSet], limit_mb: float) -> None:
        self._sets, self._limit = sets, limit_mb * 1e6
        self._kept: OrderedDict[int, tuple[LabelledFrame, int]] = OrderedDict()
        self._bytes = 0
        self._ends = list(itertools.accumulate(len(labels) for labels in sets))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def read(self, index: int) -> LabelledFrame:
        """Decode a frame, or take it from memory."""
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index][0]
        which = bisect.bisect_right(self._ends, index)
        frame = self._sets[which].read(index - (self._ends[which - 1] if which else 0))
        frame = dataclasses.replace(frame, name=f"{self._sets[which].path}/{frame.name}")
        size = frame.left.nbytes + frame.right.nbytes + frame.disparity.nbytes + frame.confidence.nbytes
        self._kept[index] = (frame, size)
        self._bytes += size
        while self._bytes > self._limit and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1][1]
        return frame


def crop_labels(frame: LabelledFrame, size: tuple[int, int], generator: torch.Generator) -> Batch:
    """Zoom a frame by a random factor and cut a random window, the same in both eyes.

    The disparity is zoomed by nearest neighbour (interpolation would invent values between two surfaces) and scaled.

    Returns: a batch of one.
    """
    height, width = frame.disparity.shape
    smallest = max(size[0] / height, size[1] / width)
    low = max(RESCALE[0], smallest)
    high = max(RESCALE[1], low)
    zoom = low * (high / low) ** torch.rand((), generator=generator).item()
    window_height, window_width = min(round(size[0] / zoom), height), min(round(size[1] / zoom), width)
    top = int(torch.randint(height - window_height + 1, (), generator=generator))
    left = int(torch.randint(width - window_width + 1, (), generator=generator))
    window = (slice(top, top + window_height), slice(left, left + window_width))

    def image(pixels: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(pixels[window])).permute(2, 0, 1)[None].float()
        return resize(tensor, size, "bilinear").clamp(0, 255)

    def map_(values: np.ndarray) -> torch.Tensor:
        return resize(torch.from_numpy(np.ascontiguousarray(values[window]))[None, None], size, "nearest")

    disparity = map_(frame.disparity) * (size[1] / window_width)
    return Batch(image(frame.left), image(frame.right), disparity, map_(frame.confidence), [frame.name])


def resize(tensor: torch.Tensor, size: tuple[int, int], mode: str) -> torch.Tensor:
    """Resize (B, C, H, W), smoothing when it shrinks."""
    if tuple(tensor.shape[-2:]) == size:
        return tensor
    if mode == "nearest":
        return torch.nn.functional.interpolate(tensor, size=size, mode="nearest-exact")
    return torch.nn.functional.interpolate(tensor, size=size, mode="bilinear", align_corners=False, antialias=True)
