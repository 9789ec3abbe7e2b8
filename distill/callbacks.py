"""What happens around the training steps: progress, checkpoints, validation."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from distill.config import TrainConfig
from distill.validation import score_groups
from stereo.artifacts import disk_error, sync_and_rename
from stereo.pair import StereoPair
from stereo.progress import Ticker, progress

CHECKPOINT_NAME = "last.ckpt"
log = logging.getLogger(__name__)


class ProgressLine(pl.Callback):
    """The project's own progress display in place of Lightning's, which writes to stdout."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._ticker: Ticker | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            left = trainer.max_steps - trainer.global_step
            self._ticker = self._stack.enter_context(progress("train", left, unit="steps"))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self._ticker is not None:
            metrics = trainer.callback_metrics
            names = [name for name in ("loss", "epe") if name in metrics]
            self._ticker.advance(note=" ".join(f"{name} {metrics[name].item():.3f}" for name in names))

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._stack.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stack.close()  # Lightning tears callbacks down only after a run that ended well


class Checkpoints(pl.Callback):
    """Keep one resumable checkpoint: every so many steps, at the end, and on Ctrl-C.

    The file is complete and on the disk before it takes its name, so that a kill or a power cut at any moment leaves
    the previous one. Ctrl-C waits for the running step: half a step has moved batch statistics but not
    weights, and a checkpoint of that would not resume to the same result. A second Ctrl-C does not wait.

    Args:
        out: folder of the run.
        every: steps between checkpoints.
    """

    def __init__(self, out: Path, every: int) -> None:
        self.path, self.every = out / CHECKPOINT_NAME, every
        self.elapsed_s = 0.0
        self._since = time.monotonic()
        self._interrupted = False
        self._previous_handler: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._since = time.monotonic()
        # Python delivers signals to the main thread alone; elsewhere Ctrl-C is somebody else's to handle.
        if threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGINT, self._on_interrupt)

    def _on_interrupt(self, number: int, frame: Any) -> None:
        if self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = True

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        # Ctrl-C reaches several processes at different steps, or only one of them; they must end at the same one.
        interrupted = trainer.strategy.reduce_boolean_decision(self._interrupted, all=False)
        if interrupted or trainer.global_step % self.every == 0 or trainer.global_step == trainer.max_steps:
            self.save(trainer)
        if interrupted:
            raise KeyboardInterrupt

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._restore_handler()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._restore_handler()

    def _restore_handler(self) -> None:
        if self._previous_handler is not None:
            signal.signal(signal.SIGINT, self._previous_handler)
            self._previous_handler = None

    def state_dict(self) -> dict[str, float]:
        return {"elapsed_s": self.elapsed_s + time.monotonic() - self._since}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self.elapsed_s = state_dict["elapsed_s"]

    def save(self, trainer: pl.Trainer) -> None:
        """Write the checkpoint; every rank takes part, the first one names the file."""
        part = self.path.with_suffix(".part")
        try:
            trainer.save_checkpoint(part)
            if trainer.is_global_zero:
                sync_and_rename(part, self.path)
        except OSError as error:
            raise disk_error(error, self.path) from error


class Validation(pl.Callback):
    """Score the network on fixed pairs while it trains, with pictures, into the run's own logs.

    Args:
        config: of the run.
        groups: name of a group → its pairs.
    """

    def __init__(self, config: TrainConfig, groups: dict[str, Sequence[StereoPair]]) -> None:
        self.config, self.groups = config, groups
        self.latest: dict[str, Any] = {}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        step, every = trainer.global_step, self.config.validate_every
        due = step == trainer.max_steps or (every > 0 and step % every == 0)
        if not due or not trainer.is_global_zero or self.latest.get("step") == step:
            return
        pictures = self.config.out / "pictures" / f"step_{step:07d}"
        with pl_module.result_weights():
            found = score_groups(pl_module.trained.predict, self.groups, pictures=pictures)
        self.latest = {"step": step, **found}
        for group, scores in found.items():
            mean = scores["mean"]
            for logger in trainer.loggers:
                logger.log_metrics({f"{group}_{name}": value for name, value in mean.items()}, step)
            log.info("step %d, %s: EPE %.2f px, bad-2 %.1f %%", step, group, mean["epe_px"], mean["bad2_pct"])
