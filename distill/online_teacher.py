"""A FoundationStereo that looks at every training batch: pseudo-labels, features and scores, made in the loop.

No gradient, evaluation mode, a device and a precision of its own. Where its labels replace those of a batch, their
confidence is the left-right check of `teacher.consistency`; its two views share their features (see
`teacher.inference.predict_both`).

    B batch, C channels, D disparity planes, H height, W width
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from distill.batches import Batch
from distill.config import OnlineTeacherOptions
from stereo.errors import UserError
from teacher.checkpoints import load_foundation_stereo
from teacher.consistency import LARGEST_DIFFERENCE_PX, TOLERANCE_PX
from teacher.foundation_stereo import FoundationStereo
from teacher.foundation_teacher import HALF_TYPES, RIGHT_ITERATIONS, choose_precision
from teacher.inference import BothViews, predict_both


class TeacherAnswer(NamedTuple):
    """What the teacher was asked for; on the batch's device."""

    features: Mapping[str, torch.Tensor]  # level → (2B, C, H/s, W/s), left eyes first; empty when not asked for
    scores: torch.Tensor | None  # (B, D, H/4, W/4), planes 4 px apart


def left_right_confidence(left_B1HW: torch.Tensor, right_B1HW: torch.Tensor) -> torch.Tensor:
    """Confidence of a left view's disparity by the left-right check; `teacher.consistency` on a device and in a batch.

    Args:
        left_B1HW: px.
        right_B1HW: px of the right view, x_left = x_right + d.

    Returns: (B, 1, H, W), 0 to 1; 0 where the point is outside the right view or either is NaN.
    """
    width = left_B1HW.shape[-1]
    columns = torch.arange(width, device=left_B1HW.device, dtype=left_B1HW.dtype)
    seen_at = (columns - left_B1HW).round()
    inside = (seen_at >= 0) & (seen_at < width)  # False for NaN
    there = right_B1HW.gather(3, torch.where(inside, seen_at, 0).long())
    difference = (left_B1HW - there).abs()
    confidence = torch.exp(-((difference / TOLERANCE_PX) ** 2))
    return torch.where(inside & (difference <= LARGEST_DIFFERENCE_PX), confidence, 0)


class OnlineTeacher:
    """The teacher in the loop.

    Args:
        network: with its weights.
        options: how it is run, and which labels it replaces.
        min_confidence: pixels that it trusts less have weight 0.
    """

    def __init__(self, network: FoundationStereo, options: OnlineTeacherOptions, *, min_confidence: float) -> None:
        self.network = network.eval().requires_grad_(False)
        self.options, self.min_confidence = options, min_confidence

    @property
    def channels(self) -> dict[str, int]:
        """Channels of the features by level."""
        return dict(
            zip(("quarter", "eighth", "sixteenth", "thirtysecond"), self.network.features.channels, strict=True)
        )

    @torch.no_grad()
    def look(self, batch: Batch, *, features: bool, scores: bool) -> tuple[Batch, TeacherAnswer]:
        """Look at a batch.

        Returns: the batch, with the teacher's labels where it replaces others, and what else was asked for.
        """
        home = batch.left.device
        device = home if self.options.device == "auto" else torch.device(self.options.device)
        if next(self.network.parameters()).device != device:
            self.network.to(device)
        left, right = batch.left.to(device), batch.right.to(device)
        replaced = self._replaced(batch)
        seen: dict[str, Any] = {}
        with self._watched(seen), self._autocast(device):
            both = self._run(left, right, labels=any(replaced), scores=scores)
        maps: dict[str, torch.Tensor] = {}
        if features:
            maps = {level: getattr(seen["features"], level).float().to(home) for level in self.channels}
        volume = seen["scores"][: len(left), 0].float().to(home) if scores else None
        if both is not None:
            batch = self._relabelled(batch, BothViews(*(view.float().to(home) for view in both)), replaced)
        return batch, TeacherAnswer(maps, volume)

    def _replaced(self, batch: Batch) -> list[bool]:
        return {
            "nothing": [False] * len(batch.names),
            "labels": [not scene for scene in batch.of_scenes],
            "everything": [True] * len(batch.names),
        }[self.options.replaces]

    def _run(self, left: torch.Tensor, right: torch.Tensor, *, labels: bool, scores: bool) -> BothViews | None:
        """As much of the network as is needed; what the hooks see is kept by them."""
        if labels:
            iterations = self.options.iterations
            return predict_both(
                self.network, left, right, iterations=iterations, right_iterations=min(iterations, RIGHT_ITERATIONS)
            )
        left_features, right_features = self.network.features(
            self.network.normalised(torch.cat([left, right]))
        ).halves()  # fmt: skip
        if scores:
            filtering = self.network.filtering
            filtering.classifier(filtering(left_features, right_features, planes=self.network.planes))
        return None

    @contextlib.contextmanager
    def _watched(self, seen: dict[str, Any]) -> Any:
        def watch(name: str) -> Any:
            return lambda _module, _inputs, output: seen.update({name: output})

        handles = [
            self.network.features.register_forward_hook(watch("features")),
            self.network.filtering.classifier.register_forward_hook(watch("scores")),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _autocast(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        # Inside a training step in bf16-mixed, the teacher's own precision must be said even where it is float32.
        half = HALF_TYPES.get(choose_precision(self.options.precision, device))
        return torch.autocast(device.type, dtype=half or torch.bfloat16, enabled=half is not None)

    def _relabelled(self, batch: Batch, both: BothViews, replaced: list[bool]) -> Batch:
        usable = (both.left >= 0) & (both.left < self.network.config.max_disp)
        disparity = torch.where(usable, both.left, torch.nan)
        confidence = left_right_confidence(disparity, both.right)
        confidence = torch.where(confidence < self.min_confidence, 0, confidence)
        chosen = torch.tensor(replaced, device=disparity.device)[:, None, None, None]
        return dataclasses.replace(
            batch,
            disparity=torch.where(chosen, disparity, batch.disparity),
            confidence=torch.where(chosen, confidence, batch.confidence),
        )


def open_online_teacher(options: OnlineTeacherOptions, *, min_confidence: float) -> OnlineTeacher:
    """The teacher of a run.

    Raises:
        UserError: no weights there, or not FoundationStereo's; a device that is not there.
    """
    assert options.checkpoint is not None
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError("there is no CUDA device that PyTorch can use", where="--teacher.device",
                        fix="leave it out: the student's device")  # fmt: skip
    network = load_foundation_stereo(Path(options.checkpoint), max_disp=options.max_disp)
    return OnlineTeacher(network, options, min_confidence=min_confidence)
