"""`stereodistill train`: a recipe → DIR/student.safetensors, or DIR/foundation_stereo.safetensors.

DIR/NAME.safetensors      the result
    train.json            the resolved configuration and what the run was made from
    last.ckpt             to resume; a run that was stopped continues where it was, with the batches it would have seen
    shards/               those fetched from packed label sets far away, until it is done
    log/, pictures/       metrics as CSV (TensorBoard too when it is installed), validation pictures
"""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import shutil
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from deploy.device import precision_hints
from distill.build import build, check_teacher, is_foundation_stereo_preset, result_name
from distill.callbacks import CHECKPOINT_NAME, Checkpoints, ProgressLine, Validation
from distill.config import TrainConfig
from distill.curriculum import Curriculum
from distill.data import open_batches
from distill.module import LOG_EVERY, TrainingModule
from distill.networks import TrainedNetwork
from distill.processes import decided_by_first, device_of, launch, processes
from distill.qat import check_graphs, check_qat
from distill.run_record import (
    RECORD_NAME,
    SPOOL_NAME,
    checkpoint_step,
    make_record,
    prepare_folder,
    run_precision,
)  # fmt: skip
from distill.validation import score_groups, validation_scenes
from stereo.artifacts import read_json
from stereo.benchmarks import load_pairs
from stereo.errors import UserError
from stereo.pair import StereoPair
from teacher.labelling import launched_processes

log = logging.getLogger(__name__)


def train(config: TrainConfig) -> Path:
    """The verb `train`. Returns in the first process alone; the others have nothing left to do, and end.

    Raises:
        UserError: a setting out of range, a label set that cannot be used, a resume with other settings, a loss that
            is not finite.
    """
    config = resolved(config)
    check(config)
    if config.finish:
        return finish(config)
    quiet_lightning()
    trainer = make_trainer(config)
    return launch(trainer, lambda: train_here(trainer, config))


def resolved(config: TrainConfig) -> TrainConfig:
    """The configuration with what depends on the number of processes filled in."""
    devices, nodes = processes(config.trainer)
    return dataclasses.replace(
        config,
        trainer=dataclasses.replace(config.trainer, devices=devices, num_nodes=nodes),
        data=dataclasses.replace(config.data, lanes=config.data.lanes or devices * nodes),
    )


def make_trainer(config: TrainConfig) -> pl.Trainer:
    """Lightning's trainer, without the callbacks of a run."""
    options = config.trainer
    several = (options.devices or 1) * (options.num_nodes or 1) > 1
    try:
        return pl.Trainer(
            max_steps=config.steps,
            max_epochs=1,
            devices=options.devices or 1,
            num_nodes=options.num_nodes or 1,
            accelerator=options.accelerator,
            strategy="ddp" if several or options.strategy == "ddp" else "auto",
            sync_batchnorm=config.batch_norm == "sync",
            precision=choose_precision(config),
            gradient_clip_val=config.optimiser.clip,
            logger=False,
            log_every_n_steps=LOG_EVERY,
            enable_progress_bar=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=config.out,
        )
    except MisconfigurationException as error:  # more devices than there are
        raise UserError(" ".join(str(error).split()), where="--trainer", fix="fewer --trainer.devices") from error


def train_here(trainer: pl.Trainer, config: TrainConfig) -> Path:
    """What every process does."""
    result = config.out / result_name(config)
    record, start = decided_by_first(trainer, lambda: begin(config))
    if start is None:
        log.info("%s is finished; --restart true trains it again", config.out)
    else:
        pl.seed_everything(config.seed, verbose=False)
        fit(trainer, build(config), config, start=start, record=record)
    if not trainer.is_global_zero:
        raise SystemExit(0)
    return result


def begin(config: TrainConfig) -> tuple[dict[str, Any], int | None]:
    """The record of the run, and the step it goes on from; None when it is finished.

    Raises:
        UserError: inputs that do not fit, told before anything is written; or the folder holds another run.
    """
    record = make_record(config)
    check_graphs(config)
    resume = prepare_folder(config, record)
    step = checkpoint_step(config.out / CHECKPOINT_NAME, config) if resume else 0
    if step == config.steps and (config.out / result_name(config)).exists():
        return record, None
    return record, step


def finish(config: TrainConfig) -> Path:
    """Make the result of a run that was stopped from its last checkpoint: its weights as they were then.

    In one process, on the CPU. The learning rate of a run is planned for all its steps; what is stopped in the middle
    is worse than a run that was planned to be as long, unless its weights are averaged (`--optimiser.ema`).

    Raises:
        UserError: there is nothing to finish, the run had other settings, or several processes were started.
    """
    if launched_processes() != (1, 1):
        raise UserError("--finish needs no second process", fix="start it without torchrun and srun")
    if config.restart:
        raise UserError("--finish keeps what --restart throws away", fix="one of them")
    if not all((config.out / name).exists() for name in (CHECKPOINT_NAME, RECORD_NAME)):
        raise UserError("no run has been stopped here", where=config.out, fix="leave --finish out to start one")
    result = config.out / result_name(config)
    _, step = begin(config)
    if step is None:
        log.info("%s is finished", config.out)
        return result
    module = TrainingModule(build(config), config)
    checkpoint = torch.load(config.out / CHECKPOINT_NAME, map_location="cpu", weights_only=True)
    module.load_state_dict(checkpoint["state_dict"])
    module.on_load_checkpoint(checkpoint)
    trained = module.trained
    groups = validation_groups(config, trained.max_disp)
    with module.result_weights():
        found = score_groups(trained.predict, groups, pictures=config.out / "pictures" / f"step_{step:07d}")
        training = {
            **read_json(config.out / RECORD_NAME, what="training record"),  # of what trained, not of what finishes
            "steps": step,
            "planned_steps": config.steps,
            "samples": Curriculum(config.data, steps=config.steps).pairs(step),
            "seconds": round(checkpoint["callbacks"][Checkpoints.__qualname__]["elapsed_s"], 1),
            # Checkpoints of earlier versions do not say these two.
            "precision": checkpoint.get("precision", str(choose_precision(config))),
            "device": checkpoint.get("device"),
            "validation": {"step": step, **found},
        }
        trained.save(result, training=training)
    log.info("made from step %d of %d", step, config.steps)
    return result


def fit(
    trainer: pl.Trainer, trained: TrainedNetwork, config: TrainConfig, *, start: int, record: dict[str, Any]
) -> None:
    """Run the training steps and save the result."""
    checkpoints = Checkpoints(config.out, config.checkpoint_every)
    groups = validation_groups(config, trained.max_disp) if trainer.is_global_zero else {}
    validation = Validation(config, groups)
    # Lightning sets this list in a way that type checkers cannot see.
    trainer.callbacks += [ProgressLine(), validation, checkpoints]  # pyright: ignore[reportAttributeAccessIssue]
    trainer.loggers = loggers(config, start)
    if start:
        log.info("resuming at step %d of %d", start, config.steps)
    batches = open_batches(
        config.data,
        max_disp=trained.max_disp,
        seed=config.seed,
        steps=config.steps,
        start=start,
        rank=trainer.global_rank,
        world=trainer.world_size,
        spool=config.out / SPOOL_NAME,
    )
    if config.trainer.compile:
        trained.compile()
    module = TrainingModule(trained, config)
    began = time.monotonic()
    checkpoint = config.out / CHECKPOINT_NAME if start else None
    trainer.fit(module, train_dataloaders=batches, ckpt_path=checkpoint, weights_only=True)
    if trainer.global_step != config.steps:
        raise RuntimeError(f"training ended at step {trainer.global_step} of {config.steps}")
    training = {
        **record,
        "steps": config.steps,
        "samples": batches.blocks.curriculum.pairs(config.steps),
        "seconds": round(checkpoints.elapsed_s + time.monotonic() - began, 1),
        "precision": str(trainer.precision),
        "device": device_of(trainer),
        "validation": validation.latest,
    }
    if trainer.is_global_zero:
        with module.result_weights():
            trained.save(config.out / result_name(config), training=training)
        shutil.rmtree(config.out / SPOOL_NAME, ignore_errors=True)


def check(config: TrainConfig) -> None:
    """Refuse settings that cannot work, before anything is written."""
    if config.steps < 1:
        raise UserError(f"steps {config.steps} is less than 1", where="--steps", fix="2000 is a short run")
    for name, value in (
        ("data.batch_size", config.data.batch_size),
        ("data.block", config.data.block),
        ("data.scene_reuse", config.data.scene_reuse),
        ("checkpoint_every", config.checkpoint_every),
    ):
        if value < 1:
            raise UserError(f"{value} is less than 1", where=f"--{name}", fix="leave it out for the default")
    if not 0 <= config.data.occluded_weight <= 1:
        raise UserError(f"{config.data.occluded_weight} is no weight", where="--data.occluded_weight", fix="0 to 1")
    if config.data.workers < 0:
        raise UserError(f"{config.data.workers} is negative", where="--data.workers", fix="0 or more")
    if not 0 <= config.optimiser.warmup_share <= 1:
        raise UserError(f"{config.optimiser.warmup_share} is not a share", where="--optimiser.warmup_share",
                        fix="between 0 and 1")  # fmt: skip
    if not 0 <= config.optimiser.ema < 1:
        raise UserError(f"{config.optimiser.ema} is not a decay", where="--optimiser.ema",
                        fix="0 for none, or a little less than 1, such as 0.999")  # fmt: skip
    on_cpu = config.trainer.accelerator == "cpu" or not torch.cuda.is_available()
    if config.batch_norm == "sync" and on_cpu:
        raise UserError("batch statistics are shared between GPUs alone", where="--batch_norm",
                        fix="train or freeze on a CPU")  # fmt: skip
    if config.data.render_device != "cpu" and config.data.workers:
        raise UserError(f"scenes are rendered on {config.data.render_device}, which workers cannot use",
                        where="--data.render_device", fix="add --data.workers 0")  # fmt: skip
    if on_cpu and config.precision == "bf16-mixed" and trains_long_3d(config):
        raise UserError("PyTorch's bf16 gradients of 3-D convolutions longer than their axis are wrong on a CPU",
                        where="--precision", fix="32-true")  # fmt: skip
    check_teacher(config)
    check_qat(config)


def trains_long_3d(config: TrainConfig) -> bool:
    """Whether axial convolutions stay 3-D in training on a CPU, where ordinary students compute them in 2-D.

    PyTorch's bf16 gradients of those whose kernel is longer than the axis hold memory that nobody wrote (2.13: up to
    1e35, NaN): FoundationStereo's 17 planes at a coarse level of 13, and the quantisers' that the 2-D form goes past.
    """
    return config.qat.graphs is not None or is_foundation_stereo_preset(config)


def choose_precision(config: TrainConfig) -> Any:
    """The precision asked for; for auto, that of the run that goes on, else what the device is fast in.

    That is bf16-mixed where the device computes in bf16, and float32 elsewhere.
    """
    if config.precision != "auto":
        return config.precision
    if before := run_precision(config):
        return before
    if config.trainer.accelerator != "cpu" and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    # PyTorch calls bf16 supported on every AVX-512 processor; emulated, it takes more than twice the time of float32.
    return "bf16-mixed" if "bf16" in precision_hints() and not trains_long_3d(config) else "32-true"


def validation_groups(config: TrainConfig, max_disp: int) -> dict[str, Sequence[StereoPair]]:
    """What the network is scored on while it trains."""
    groups: dict[str, Sequence[StereoPair]] = {"scenes": validation_scenes(6, (256, 512), max_disp=max_disp)}
    if config.pairs is not None:
        groups["pairs"] = load_pairs(config.pairs)
    return groups


def loggers(config: TrainConfig, start: int) -> list[Logger]:
    """CSV always; each resume gets a folder of its own, because Lightning would delete the older file."""
    chosen: list[Logger] = [CSVLogger(config.out / "log", name="", version=f"from_step_{start}")]
    if importlib.util.find_spec("tensorboard") is not None:
        chosen.append(TensorBoardLogger(config.out / "tensorboard", name="", version=f"from_step_{start}"))
    return chosen


def quiet_lightning() -> None:
    """Leave the terminal to our own progress line."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
    # One epoch of known length: Lightning's advice on workers and logging intervals does not apply.
    warnings.filterwarnings("ignore", message=".*(does not have many workers|logging interval).*")
