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

from distill.config import FoundationStereoOptions, LossOptions, TrainConfig
from distill.data import Batch
from distill.foundation_stereo import build_foundation_stereo
from distill.losses import Losses, foundation_stereo_loss, sequence_loss
from stereo.errors import UserError
from stereo.pair import Disparity, StereoPair
from student.checkpoint import find_student, load_student, save_student
from student.model import StudentStereo
from student.presets import PRESETS as STUDENT_PRESETS
from student.presets import build_student
from student.runner import predict_pair
from teacher.checkpoints import OBTAIN, save_foundation_stereo
from teacher.foundation_stereo import FoundationStereo
from teacher.presets import PRESETS as FOUNDATION_STEREO_PRESETS


class TrainedNetwork(Protocol):
    """A network and what its training needs to know of it."""

    @property
    def module(self) -> nn.Module:
        """What has the weights."""
        ...

    @property
    def max_disp(self) -> int:
        """Disparity range in px."""
        ...

    def set_training(self) -> None:
        """Bring every layer into the mode it is trained in."""
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


@dataclass
class TrainedStudent:
    """A student; see `TrainedNetwork`."""

    module: StudentStereo

    @property
    def max_disp(self) -> int:
        return self.module.config.max_disp

    def set_training(self) -> None:
        self.module.train()
        on_cpu = next(self.module.parameters()).device.type == "cpu"
        self.module.set_apc_form("mixed" if on_cpu else "conv3d")

    def losses(self, batch: Batch, options: LossOptions) -> Losses:
        predictions = self.module.predict_sequence(batch.left, batch.right)
        return sequence_loss(
            predictions, batch.disparity, batch.confidence, max_disp=self.max_disp, options=options
        )  # fmt: skip

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

    @property
    def max_disp(self) -> int:
        return self.module.config.max_disp

    def set_training(self) -> None:
        self.module.train()
        if self.freeze_batch_norm:
            for layer in self.module.modules():
                if isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm3d)):
                    layer.eval()

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


def is_foundation_stereo_preset(config: TrainConfig) -> bool:
    """Whether the run trains a FoundationStereo.

    Raises:
        UserError: the preset is neither that nor a student.
    """
    if config.preset not in FOUNDATION_STEREO_PRESETS and config.preset not in STUDENT_PRESETS:
        known = ", ".join([*STUDENT_PRESETS, *FOUNDATION_STEREO_PRESETS])
        raise UserError(f"no preset '{config.preset}'", where="--preset", fix=f"one of: {known}")
    return config.preset in FOUNDATION_STEREO_PRESETS


def result_name(config: TrainConfig) -> str:
    """Name of the file that the run makes."""
    return "foundation_stereo.safetensors" if is_foundation_stereo_preset(config) else "student.safetensors"


def source_files(config: TrainConfig) -> list[Path]:
    """Files of weights that the run starts from.

    Raises:
        UserError: one that is not there.
    """
    files = []
    if parts := config.foundation_stereo.weights:
        require_file(parts, "benchmarks/ablation.py makes some for the tiny network")
        files.append(parts)
    if config.init is not None and is_foundation_stereo_preset(config):
        require_file(Path(config.init), OBTAIN)
        files.append(Path(config.init))
    elif config.init is not None:
        files.append(find_student(config.init))
    return files


def require_file(path: Path, fix: str) -> None:
    """Refuse a path without a file."""
    if not path.is_file():
        raise UserError("no such file", where=path, fix=fix)


def build(config: TrainConfig) -> TrainedNetwork:
    """The network of a run, with fresh weights or with those of a file.

    Raises:
        UserError: unknown preset, or settings that do not fit it or the file.
    """
    if is_foundation_stereo_preset(config):
        iterations = config.iterations or FOUNDATION_STEREO_PRESETS[config.preset].iterations
        chosen = config.foundation_stereo.batch_norm
        freeze = config.init is not None if chosen == "auto" else chosen == "freeze"
        return TrainedFoundationStereo(build_foundation_stereo(config), iterations, freeze)
    if config.foundation_stereo != FoundationStereoOptions():
        raise UserError(f"'{config.preset}' is a student", where="--foundation_stereo",
                        fix="leave these options out, or take a preset foundation_stereo_*")  # fmt: skip
    return TrainedStudent(build_trained_student(config))


def build_trained_student(config: TrainConfig) -> StudentStereo:
    """A student with fresh weights, or with those of another."""
    if config.init is None:
        return build_student(config.preset, max_disp=config.max_disp, iterations=config.iterations)
    student = load_student(config.init, max_disp=config.max_disp, iterations=config.iterations)
    if student.config.preset != config.preset:
        raise UserError(f"is a '{student.config.preset}', not a '{config.preset}'", where=config.init,
                        fix=f"--preset {student.config.preset}")  # fmt: skip
    return student
