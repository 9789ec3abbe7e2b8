"""`stereodistill train`: a recipe → DIR/student.safetensors, or DIR/foundation_stereo.safetensors.

DIR/NAME.safetensors      the result
    train.json            the resolved configuration and what the run was made from
    last.ckpt             to resume; a run that was stopped continues where it was, with the batches it would have seen
    shards/               those fetched from packed label sets far away, until it is done
    log/, pictures/       metrics as CSV (TensorBoard too when it is installed), validation pictures
"""

from __future__ import annotations

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
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from deploy.device import device_name
from distill.callbacks import CHECKPOINT_NAME, Checkpoints, ProgressLine, Validation
from distill.config import TrainConfig
from distill.data import open_batches
from distill.module import LOG_EVERY, TrainingModule
from distill.networks import TrainedNetwork, build, result_name, source_files
from distill.packed import open_labels
from distill.validation import validation_scenes
from stereo.artifacts import commit, plain, read_json, sha256_file, tool_versions, write_json
from stereo.benchmarks import load_pairs
from stereo.errors import UserError
from stereo.pair import StereoPair

log = logging.getLogger(__name__)
RECORD_NAME = "train.json"
SPOOL_NAME = "shards"
# Settings that change how a run is carried out, not what it computes: they may differ when it is resumed.
FREE_ON_RESUME = {
    "out", "restart", "accelerator", "validate_every", "checkpoint_every", "pairs", "data.workers",
    "data.render_device", "data.cache_mb",
}  # fmt: skip


def train(config: TrainConfig) -> Path:
    """The verb `train`.

    Raises:
        UserError: a setting out of range, a label set that cannot be used, a resume with other settings, a loss that
            is not finite.
    """
    check(config)
    result = config.out / result_name(config)
    record = make_record(config)
    resume = prepare_folder(config, record)
    if resume and result.exists():
        log.info("%s is finished; --restart true trains it again", config.out)
        return result
    quiet_lightning()
    pl.seed_everything(config.seed, verbose=False)
    trained = build(config)
    start = checkpoint_step(config.out / CHECKPOINT_NAME) if resume else 0
    fit(trained, config, start=start, record=record)
    return result


def fit(trained: TrainedNetwork, config: TrainConfig, *, start: int, record: dict[str, Any]) -> None:
    """Run the training steps and save the result."""
    checkpoints = Checkpoints(config.out, config.checkpoint_every)
    validation = Validation(config, validation_groups(config, trained.max_disp))
    trainer = pl.Trainer(
        max_steps=config.steps,
        max_epochs=1,
        devices=config.devices,
        accelerator=config.accelerator,
        precision=choose_precision(config),
        gradient_clip_val=config.optimiser.clip,
        logger=loggers(config, start),
        callbacks=[ProgressLine(), validation, checkpoints],
        log_every_n_steps=LOG_EVERY,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=config.out,
    )
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
    began = time.monotonic()
    run_trainer(trainer, TrainingModule(trained, config), batches, config.out / CHECKPOINT_NAME if start else None)
    if trainer.global_step != config.steps:
        raise RuntimeError(f"training ended at step {trainer.global_step} of {config.steps}")
    training = {
        **record,
        "steps": config.steps,
        "samples": config.steps * config.data.batch_size * trainer.world_size,
        "seconds": round(checkpoints.elapsed_s + time.monotonic() - began, 1),
        "precision": str(trainer.precision),
        "device": training_device(trainer),
        "validation": validation.latest,
    }
    if trainer.is_global_zero:
        trained.save(config.out / result_name(config), training=training)
        shutil.rmtree(config.out / SPOOL_NAME, ignore_errors=True)


def training_device(trainer: pl.Trainer) -> str:
    """What the steps ran on, for the record: "2 × NVIDIA H100", or the processor's name."""
    root = trainer.strategy.root_device
    name = torch.cuda.get_device_name(root) if root.type == "cuda" else device_name()
    return f"{trainer.world_size} × {name}" if trainer.world_size > 1 else name


def run_trainer(trainer: pl.Trainer, module: TrainingModule, batches: Any, checkpoint: Path | None) -> None:
    """Fit, and let Ctrl-C leave as what it is: Lightning turns it into an exit with code 1."""
    try:
        trainer.fit(module, train_dataloaders=batches, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from stop
        raise


def check(config: TrainConfig) -> None:
    """Refuse settings that cannot work, before anything is written."""
    if config.steps < 1:
        raise UserError(f"steps {config.steps} is less than 1", where="--steps", fix="2000 is a short run")
    for name, value in (
        ("data.batch_size", config.data.batch_size),
        ("data.block", config.data.block),
        ("data.scene_reuse", config.data.scene_reuse),
        ("checkpoint_every", config.checkpoint_every),
        ("devices", config.devices),
    ):
        if value < 1:
            raise UserError(f"{value} is less than 1", where=f"--{name}", fix="leave it out for the default")
    if config.data.workers < 0:
        raise UserError(f"{config.data.workers} is negative", where="--data.workers", fix="0 or more")
    if not 0 <= config.optimiser.warmup_share <= 1:
        raise UserError(f"{config.optimiser.warmup_share} is not a share", where="--optimiser.warmup_share",
                        fix="between 0 and 1")  # fmt: skip
    if config.data.render_device != "cpu" and config.data.workers:
        raise UserError(f"scenes are rendered on {config.data.render_device}, which workers cannot use",
                        where="--data.render_device", fix="add --data.workers 0")  # fmt: skip


def make_record(config: TrainConfig) -> dict[str, Any]:
    """What the run is made from: configuration, checksums of its inputs, tools, commit."""
    # The journal lists every frame's checksums; the manifest is stamped anew whenever `label` looks at the set.
    spool = config.out / SPOOL_NAME
    made_from = {str(place): open_labels(place, spool).fingerprint() for place in config.data.labels}
    made_from |= {str(path): sha256_file(path) for path in source_files(config)}
    return {"config": plain(config), "made_from": made_from, "tools": tool_versions(), "commit": commit()}


def prepare_folder(config: TrainConfig, record: dict[str, Any]) -> bool:
    """Write the record of a new run, or check that an old one may go on. Returns whether there is one to resume.

    Raises:
        UserError: the folder holds a run with other settings or other data.
    """
    path = config.out / RECORD_NAME
    if path.exists() and not config.restart:
        old = read_json(path, what="training record")
        differing = [*differences(old["config"], record["config"]), *differences(old["made_from"], record["made_from"])]
        if differing:
            raise UserError(f"holds a run with other settings: {'; '.join(differing)}", where=config.out,
                            fix="give them as they were, another --out, or --restart true")  # fmt: skip
        if (config.out / CHECKPOINT_NAME).exists():
            return True
    for name in (CHECKPOINT_NAME, result_name(config)):
        (config.out / name).unlink(missing_ok=True)
    write_json(path, record)
    return False


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Settings that differ and matter, as "name was OLD, now NEW"."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        name, before, after = prefix + key, old.get(key), new.get(key)
        if name in FREE_ON_RESUME or before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f"{name}.")
        else:
            found.append(f"{name} was {before}, now {after}")
    return found


def checkpoint_step(path: Path) -> int:
    """Steps that a checkpoint has behind it."""
    try:
        return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"])
    except (RuntimeError, KeyError, EOFError, OSError) as error:
        raise UserError(f"is not a readable checkpoint: {error}", where=path, fix="--restart true") from error


def choose_precision(config: TrainConfig) -> Any:
    """The precision asked for; for auto, bf16-mixed where the device computes in it and float32 elsewhere."""
    if config.precision != "auto":
        return config.precision
    if config.accelerator != "cpu" and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    native = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "bf16-mixed" if native else "32-true"


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
