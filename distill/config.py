"""Options of the training verbs, without importing torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal

from distill.scenes_config import ScenesConfig
from teacher.config import TeacherOptions

__all__ = [
    "DataOptions", "DemoConfig", "FoundationStereoOptions", "LossOptions", "OnlineTeacherOptions",
    "OptimiserOptions", "QatOptions", "ScenesConfig", "Stage", "TrainConfig", "TrainerOptions",
]  # fmt: skip


@dataclasses.dataclass
class Stage:
    """A part of the training with crops and batches of its own.

    Args:
        start: share of the steps after which it begins, 0 to 1; in effect at the next block of batches.
        crop: size of its training crops, HEIGHTxWIDTH, multiples of 32.
        batch_size: its pairs per step; that of the stage before when left out.
    """

    start: float
    crop: str
    batch_size: int | None = None


@dataclasses.dataclass
class DataOptions:
    """What a batch is made of.

    Args:
        labels: label sets to train on; none trains on procedural scenes alone. Packed sets too: a folder of shards, its
            http(s):// or s3:// address, or a pattern of shards such as DIR/shard-00000*.tar.
        scene_share: share of procedural scenes in each batch, 0 to 1; the rest comes from the label sets.
        textures: folder of photographs to put on procedural surfaces; none uses procedural textures alone.
        batch_size: pairs per step, over all processes.
        crop: size of the training crops, HEIGHTxWIDTH, multiples of 32.
        stages: later parts of the training with other crops and batch sizes, in order.
        lanes: parts of every batch that are prepared independently; any number of processes that divides it trains on
            the same pairs. One per process when left out.
        min_confidence: label pixels below this confidence are not trained on.
        occluded_weight: weight of pixels of scenes that the crop's right view does not show, 0 to 1; 1 is full weight.
        scene_reuse: crops taken from each rendered scene before it is thrown away.
        block: batches prepared at once by one worker.
        workers: processes that prepare data; 0 prepares it in the training process.
        render_device: where scenes are rendered; a GPU needs workers 0.
        cache_mb: memory each worker may keep decoded label frames in.
    """

    labels: list[str | Path] = dataclasses.field(default_factory=list)
    scene_share: float = 0.5
    textures: Path | None = None
    batch_size: int = 4
    crop: str = "192x384"
    stages: list[Stage] = dataclasses.field(default_factory=list)
    lanes: int | None = None
    min_confidence: float = 0.2
    occluded_weight: float = 0.2
    scene_reuse: int = 2
    block: int = 8
    workers: int = 1
    render_device: str = "cpu"
    cache_mb: int = 1024


@dataclasses.dataclass
class LossOptions:
    """Weights of the loss terms; 0 leaves a term out.

    Args:
        gamma: weight ratio of one refinement step to the next; for FoundationStereo, of one of 16 steps to the next,
            however many there are.
        sequence: weight of the L1 loss on every refinement step, weighted by the labels' confidence.
        initial: weight of the smooth-L1 loss on the initial disparity.
        planes: students: weight of the cross-entropy between the initial disparity's distribution and the label's.
        robust_px: students: an error e of a disparity counts as this times log(1 + e / this), so that what is far off
            does not outweigh what can be learnt; 0 is plain L1.
        features: students with a teacher on line: weight of the difference between the teacher's features and the
            student's after a linear projection.
        volume: students with a teacher on line: weight of the KL divergence between the teacher's distribution over
            disparities and the student's.
        temperature: both distributions are flattened by this before they are compared.
    """

    gamma: float = 0.9
    sequence: float = 1.0
    initial: float = 1.0
    planes: float = 1.0
    robust_px: float = 4.0
    features: float = 0.0
    volume: float = 0.0
    temperature: float = 1.0


@dataclasses.dataclass
class OnlineTeacherOptions:
    """A FoundationStereo that looks at every batch while a student trains; none without a checkpoint.

    Args:
        checkpoint: its weights: a published model_best_bp2.pth, or a .safetensors of convert-teacher or of train.
        replaces: whose labels give way to the teacher's own disparity and confidence: those of label frames (labels),
            those of procedural scenes too (everything), or none (nothing: it teaches features and volumes alone).
        max_disp: its disparity range in pixels, a multiple of 32; the checkpoint's own when left out.
        iterations: refinement steps of its disparity.
        precision: auto is fp16 on a GPU and fp32 on a CPU.
        device: auto is the student's; or cpu, cuda:1 and so on.
    """

    checkpoint: str | None = None
    replaces: Literal["labels", "everything", "nothing"] = "labels"
    max_disp: int | None = None
    iterations: int = 16
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: str = "auto"


@dataclasses.dataclass
class OptimiserOptions:
    """AdamW under a one-cycle schedule.

    Args:
        learning_rate: peak learning rate.
        weight_decay: decoupled weight decay.
        warmup_share: share of the steps in which the learning rate rises.
        clip: largest norm of the gradient.
        ema: decay per step of an exponential moving average of the weights, which is then what is validated and saved,
            such as 0.999; 0 for none, because the one-cycle schedule ends at a learning rate of 0 and averages already.
    """

    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    warmup_share: float = 0.05
    clip: float = 1.0
    ema: float = 0.0


@dataclasses.dataclass
class TrainerOptions:
    """Where a run is carried out: from a laptop to a cluster.

    Args:
        devices: processes on each machine, a device each; 1, or what torchrun or srun started, when left out.
        num_nodes: machines; 1, or what torchrun or srun started, when left out.
        accelerator: cpu, gpu or auto.
        strategy: how several processes train one network; auto takes ddp for more than one.
        compile: let torch.compile fuse the network, which takes some minutes first; whether it pays was not measured.
    """

    devices: int | None = None
    num_nodes: int | None = None
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    strategy: Literal["auto", "ddp"] = "auto"
    compile: bool = False


@dataclasses.dataclass
class QatOptions:
    """Training with fake quantisation (QAT), so that a student's weights sit well on the integer grid.

    Args:
        graphs: folder that `quantize` made of the student that --init names: which convolutions are rounded, and the
            frames that their ranges come from; without it, the training is one in float.
        frames: the label set that those frames are of.
        difference: weight of the difference from the student's own float disparity, in px.
    """

    graphs: Path | None = None
    frames: Path | None = None
    difference: float = 1.0


@dataclasses.dataclass
class FoundationStereoOptions:
    """How a FoundationStereo is trained, and how it differs from its preset; what is left out stays as it is.

    Args:
        mono: how the monocular network takes part: side_tuned, beside the CNN, as published; features_only, its
            features instead of the CNN's; none, the CNN alone.
        mono_trainable: train the monocular network too.
        weights: .safetensors with weights of some of its parts, such as the monocular network; the rest starts fresh.
        transformer_layers: depth of the disparity transformer; 0 leaves it out.
        attention_axis: what the disparity transformer attends over.
        filter_kind: axial-planar convolutions in the volume's filter (apc), or plain ones (3x3x3).
        disparity_kernel: planes that an axial-planar convolution sees, odd.
    """

    mono: Literal["side_tuned", "features_only", "none"] | None = None
    mono_trainable: bool | None = None
    weights: Path | None = None
    transformer_layers: int | None = None
    attention_axis: Literal["disparity", "heads"] | None = None
    filter_kind: Literal["apc", "3x3x3"] | None = None
    disparity_kernel: int | None = None


@dataclasses.dataclass
class TrainConfig:
    """Options of `train`.

    Args:
        out: folder for the network, checkpoints, logs and pictures.
        preset: which network: a student, or foundation_stereo_vitl, foundation_stereo_vits, foundation_stereo_tiny.
        init: what to start from: a student (a shipped name or a .safetensors file), or FoundationStereo's weights
            (a published .pth or a .safetensors file); fresh weights when left out.
        max_disp: disparity range in pixels, a multiple of 32; the preset's when left out.
        iterations: refinement steps; the preset's when left out.
        steps: optimiser steps.
        seed: of weights, data order and augmentation.
        precision: bf16-mixed, 32-true or 16-mixed; auto takes bf16-mixed where the device computes in it, and what a
            run began in when it goes on.
        batch_norm: train computes statistics from each process's pairs; sync from those of all processes (GPUs only),
            for few pairs in each; freeze uses those of the weights it starts from; auto is train, but freeze for a
            FoundationStereo with --init: the statistics of a few crops are worse than those of its first training.
        trainer: where the run is carried out.
        data: what a batch is made of.
        loss: weights of the loss terms.
        teacher: students only: a teacher on line.
        optimiser: learning rate and its schedule.
        qat: students only: fine-tuning with fake quantisation.
        foundation_stereo: presets foundation_stereo_* only: their ablations and how they are trained.
        validate_every: steps between validations; 0 validates at the end alone.
        checkpoint_every: steps between checkpoints.
        pairs: folder of pairs with truth to validate on as well (see `evaluate`).
        restart: throw away what the folder holds of an earlier run; by default a run that was stopped is resumed.
        finish: make the result from the last checkpoint of a run that was stopped, without training on.
    """

    out: Path = dataclasses.field(kw_only=True)
    preset: str = "nano"
    init: str | None = None
    max_disp: int | None = None
    iterations: int | None = None
    steps: int = 2000
    seed: int = 0
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    batch_norm: Literal["auto", "train", "sync", "freeze"] = "auto"
    trainer: TrainerOptions = dataclasses.field(default_factory=TrainerOptions)
    data: DataOptions = dataclasses.field(default_factory=DataOptions)
    loss: LossOptions = dataclasses.field(default_factory=LossOptions)
    teacher: OnlineTeacherOptions = dataclasses.field(default_factory=OnlineTeacherOptions)
    optimiser: OptimiserOptions = dataclasses.field(default_factory=OptimiserOptions)
    qat: QatOptions = dataclasses.field(default_factory=QatOptions)
    foundation_stereo: FoundationStereoOptions = dataclasses.field(default_factory=FoundationStereoOptions)
    validate_every: int = 500
    checkpoint_every: int = 100
    pairs: Path | None = None
    restart: bool = False
    finish: bool = False


@dataclasses.dataclass
class DemoConfig:
    """Options of `demo`.

    Args:
        out: folder for everything the demo makes.
        video: stereo footage of your own (any source that `label` takes); a rendered clip when left out.
        truth: pairs with true disparity to score on; the rendered clip's and Middlebury's Motorcycle when left out.
        teacher: name and model of the teacher, as for `label`.
        preset: which student.
        init: what it starts from: auto takes the student of that name that ships with this version, and fresh weights
            where there is none; fresh; or a .safetensors file.
        steps: training steps.
        frames: frames of the rendered clip.
        calibration_frames: label frames that INT8 ranges are measured on.
        size: image size of the student's graphs.
        threads: threads of the measured runtimes.
        seed: of everything random.
    """

    shorthands: ClassVar[dict[str, str]] = {"teacher": "teacher.name"}

    out: Path = dataclasses.field(default=Path("runs/demo"), kw_only=True)
    video: str | None = None
    truth: Path | None = None
    preset: str = "nano"
    init: str = "auto"
    steps: int = 450
    frames: int = 24
    calibration_frames: int = 16
    teacher: TeacherOptions = dataclasses.field(default_factory=TeacherOptions)
    size: str = "384x640"
    threads: int = 1
    seed: int = 0
