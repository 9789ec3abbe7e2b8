"""What `train` can train, behind one face: students, and FoundationStereo with its ablations.

The training loop knows `TrainedNetwork` alone: batches, resuming, progress, guards and validation are the same for all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from distill.batches import Batch
from distill.config import FoundationStereoOptions, LossOptions, OnlineTeacherOptions, TrainConfig
from distill.distillation import Distillation
from distill.foundation_stereo import build_foundation_stereo
from distill.losses import Losses, foundation_stereo_loss, sequence_loss
from distill.online_teacher import open_online_teacher
from stereo.errors import UserError
from stereo.pair import Disparity, StereoPair
from student.checkpoint import find_student, load_student, save_student
from student.model import StudentStereo
from student.presets import PRESETS as STUDENT_PRESETS
from student.presets import build_student
from student.runner import predict_pair
from teacher.checkpoints import OBTAIN, check_max_disp, save_foundation_stereo
from teacher.foundation_stereo import FoundationStereo
from teacher.presets import PRESETS as FOUNDATION_STEREO_PRESETS


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

    def losses(self, batch: Batch, options: LossOptions) -> Losses:
        answer = None
        if self.distillation is not None:
            batch, answer = self.distillation.look(batch)
        predictions = self.module.predict_sequence(batch.left, batch.right)
        losses = sequence_loss(
            predictions, batch.disparity, batch.confidence, max_disp=self.max_disp, options=options
        )  # fmt: skip
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
    if config.teacher.checkpoint is not None:
        require_file(Path(config.teacher.checkpoint), OBTAIN)
        files.append(Path(config.teacher.checkpoint))
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
        freeze = config.init is not None if config.batch_norm == "auto" else config.batch_norm == "freeze"
        return TrainedFoundationStereo(build_foundation_stereo(config), iterations, freeze)
    if config.foundation_stereo != FoundationStereoOptions():
        raise UserError(f"'{config.preset}' is a student", where="--foundation_stereo",
                        fix="leave these options out, or take a preset foundation_stereo_*")  # fmt: skip
    student = build_trained_student(config)
    distillation = None
    if config.teacher.checkpoint is not None:
        teacher = open_online_teacher(config.teacher, min_confidence=config.data.min_confidence)
        distillation = Distillation(student, teacher, config.loss)
    return TrainedStudent(student, config.batch_norm == "freeze", distillation)


def check_teacher(config: TrainConfig) -> None:
    """Refuse a teacher on line that cannot teach, and terms without one.

    Raises:
        UserError: see there.
    """
    loss, teacher = config.loss, config.teacher
    for name in ("gamma", "sequence", "initial", "planes", "robust_px", "features", "volume"):
        if not 0 <= getattr(loss, name) < math.inf:
            raise UserError(f"{getattr(loss, name)} is out of range", where=f"--loss.{name}", fix="0 or more")
    if not 0 < loss.temperature < math.inf:
        raise UserError(f"{loss.temperature} is no temperature", where="--loss.temperature", fix="1 leaves it out")
    if teacher.checkpoint is None:
        for name in ("features", "volume"):
            if getattr(loss, name):
                raise UserError(f"--loss.{name} needs a teacher on line", where="--teacher.checkpoint", fix=OBTAIN)
        if teacher != OnlineTeacherOptions():
            raise UserError("the teacher on line needs weights", where="--teacher.checkpoint", fix=OBTAIN)
        return
    if is_foundation_stereo_preset(config):
        raise UserError(f"'{config.preset}' is no student", where="--teacher.checkpoint", fix="leave it out")
    if teacher.replaces == "nothing" and not (loss.features or loss.volume):
        raise UserError("the teacher has nothing to teach", where="--teacher.replaces",
                        fix="labels or everything, or weights for --loss.features and --loss.volume")  # fmt: skip
    if teacher.iterations < 1:
        raise UserError(f"{teacher.iterations} is less than 1", where="--teacher.iterations", fix="16 is usual here")
    if teacher.max_disp is not None:
        check_max_disp(teacher.max_disp)


def build_trained_student(config: TrainConfig) -> StudentStereo:
    """A student with fresh weights, or with those of another."""
    if config.init is None:
        return build_student(config.preset, max_disp=config.max_disp, iterations=config.iterations)
    student = load_student(config.init, max_disp=config.max_disp, iterations=config.iterations)
    if student.config.preset != config.preset:
        raise UserError(f"is a '{student.config.preset}', not a '{config.preset}'", where=config.init,
                        fix=f"--preset {student.config.preset}")  # fmt: skip
    return student
