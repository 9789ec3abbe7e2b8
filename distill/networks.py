"""What `train` can train, behind one face: students, and FoundationStereo with its ablations.

The training loop knows `TrainedNetwork` alone: batches, resuming, progress, guards and validation are the same for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from distill.batches import Batch
from distill.config import LossOptions
from distill.distillation import Distillation
from distill.losses import Losses, foundation_stereo_loss, sequence_loss
from stereo.pair import Disparity, StereoPair
from student.checkpoint import save_student
from student.model import StudentPredictions, StudentStereo
from student.runner import predict_pair
from teacher.checkpoints import save_foundation_stereo
from teacher.foundation_stereo import FoundationStereo


class TrainedNetwork(Protocol):
    """A network and what its training needs to know of it."""

    @property
    def module(self) -> nn.Module:
        """What has the weights."""
        ...

    @property
    def distillation(self) -> Distillation | None:
        """What it learns from a teacher on line, with weights of its own."""
        ...

    @property
    def max_disp(self) -> int:
        """Disparity range in px."""
        ...

    def set_training(self) -> None:
        """Bring every layer into the mode it is trained in."""
        ...

    def compile(self) -> None:
        """Let torch.compile fuse what `losses` runs."""
        ...

    def losses(self, batch: Batch, options: LossOptions) -> Losses:
        """Run the network on a batch and compare."""
        ...

    def predict(self, pair: StereoPair) -> Disparity:
        """Disparity of a pair of any size, float32 H×W px; leaves the layers' modes as they were."""
        ...

    def save(self, path: Path, *, training: Mapping[str, Any]) -> Path:
        """Write the result, with what to remember of its training."""
        ...


def train_layers(module: nn.Module, *, freeze_batch_norm: bool) -> None:
    """Training mode for all layers; batch norm may go on with the statistics it has."""
    module.train()
    if freeze_batch_norm:
        for layer in module.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.eval()


@dataclass
class TrainedStudent:
    """A student; see `TrainedNetwork`.

    Args:
        module: the network.
        freeze_batch_norm: normalise with the statistics that the network has, and leave them as they are.
        distillation: the terms that need a teacher on line.
    """

    module: StudentStereo
    freeze_batch_norm: bool = False
    distillation: Distillation | None = None

    @property
    def max_disp(self) -> int:
        return self.module.config.max_disp

    def set_training(self) -> None:
        train_layers(self.module, freeze_batch_norm=self.freeze_batch_norm)
        on_cpu = next(self.module.parameters()).device.type == "cpu"
        self.module.set_apc_form("mixed" if on_cpu else "conv3d")

    def compile(self) -> None:
        self.module.predict_sequence = torch.compile(self.module.predict_sequence)

    def compare(self, batch: Batch, options: LossOptions) -> tuple[StudentPredictions, Losses]:
        """Run the network on a batch and compare with its labels."""
        predictions = self.module.predict_sequence(batch.left, batch.right)
        losses = sequence_loss(predictions, batch.disparity, batch.confidence, max_disp=self.max_disp, options=options)
        return predictions, losses

    def losses(self, batch: Batch, options: LossOptions) -> Losses:
        answer = None
        if self.distillation is not None:
            batch, answer = self.distillation.look(batch)
        predictions, losses = self.compare(batch, options)
        if self.distillation is None or answer is None:
            return losses
        terms = self.distillation.terms(predictions, answer)
        total = losses.total + sum(getattr(options, name) * value for name, value in terms.items())
        return losses._replace(total=total, **terms)

    def predict(self, pair: StereoPair) -> Disparity:
        return predict_pair(self.module, pair)

    def save(self, path: Path, *, training: Mapping[str, Any]) -> Path:
        return save_student(self.module, path, training=training)


@dataclass
class TrainedFoundationStereo:
    """FoundationStereo; see `TrainedNetwork`.

    Args:
        module: the network.
        iterations: refinement steps in training and validation.
        freeze_batch_norm: normalise with the statistics that the network has, and leave them as they are.
    """

    module: FoundationStereo
    iterations: int
    freeze_batch_norm: bool
    distillation: None = None

    @property
    def max_disp(self) -> int:
        return self.module.config.max_disp

    def set_training(self) -> None:
        train_layers(self.module, freeze_batch_norm=self.freeze_batch_norm)

    def compile(self) -> None:
        self.module.predict_sequence = torch.compile(self.module.predict_sequence)

    def losses(self, batch: Batch, options: LossOptions) -> Losses:
        predictions = self.module.predict_sequence(batch.left, batch.right, iterations=self.iterations)
        return foundation_stereo_loss(
            predictions, batch.disparity, batch.confidence, max_disp=self.max_disp, options=options
        )  # fmt: skip

    def predict(self, pair: StereoPair) -> Disparity:
        device = next(self.module.parameters()).device
        left, right = (
            torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float().to(device)
            for image in (pair.left, pair.right)
        )
        training = self.module.training
        self.module.eval()
        with torch.no_grad():
            disparity = self.module.predict(left, right, iterations=self.iterations)
        if training:
            self.set_training()
        return disparity[0, 0].float().cpu().numpy()

    def save(self, path: Path, *, training: Mapping[str, Any]) -> Path:
        return save_foundation_stereo(self.module, path, source=training)
