"""How sure FoundationStereo's volume is: the entropy of its scores over the disparity planes.

The initial disparity is the expectation of a softmax over the planes. Where that has one peak, the volume has one
answer; where it is broad or has several, the expectation lies between answers.

    B batch, D disparity planes, H height, W width, h and w those of the volume
"""

from __future__ import annotations

import math
from types import TracebackType

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from teacher.inference import Padding

VOLUME_STEP = 4


def normalised_entropy(scores_BDHW: torch.Tensor) -> torch.Tensor:
    """Entropy of softmax(scores) over the planes by its largest value, log D.

    Returns: (B, H, W) float32, 0 (one plane has it all) to 1 (all planes alike).
    """
    log_share = torch.log_softmax(scores_BDHW.float(), dim=1)
    entropy = -(log_share.exp() * log_share).sum(dim=1)
    return (entropy / math.log(scores_BDHW.shape[1])).clamp(0, 1)


class EntropyWatch:
    """Keeps the entropy of what a classifier last gave for the first image of its batch, within a `with` block.

    Args:
        classifier: gives scores (B, 1, D, h, w).
    """

    def __init__(self, classifier: nn.Module) -> None:
        self._classifier = classifier
        self._entropy_hw: torch.Tensor | None = None

    def __enter__(self) -> EntropyWatch:
        self._handle = self._classifier.register_forward_hook(self._see)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.remove()

    def _see(self, _module: nn.Module, _inputs: object, scores_B1Dhw: torch.Tensor) -> None:
        self._entropy_hw = normalised_entropy(scores_B1Dhw[:1, 0])[0]

    def plane(self, *, padding: Padding, size: tuple[int, int]) -> npt.NDArray[np.float32] | None:
        """The entropy at an image's size, float32 H×W; None when the classifier did not run.

        Args:
            padding: of the images that the volume was made of, cut off again.
            size: (W, H) of the image.
        """
        if self._entropy_hw is None:
            return None
        small = self._entropy_hw.cpu().numpy()
        padded = cv2.resize(small, None, fx=VOLUME_STEP, fy=VOLUME_STEP, interpolation=cv2.INTER_LINEAR)
        height, width = padded.shape
        plane = padded[padding.top : height - padding.bottom, padding.left : width - padding.right]
        if plane.shape[::-1] != size:
            plane = cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR)
        return np.ascontiguousarray(plane, dtype=np.float32)
