"""The Lightning module around a network: wiring only. Losses, data and the network live elsewhere."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from distill.config import TrainConfig
from distill.data import Batch
from distill.networks import TrainedNetwork
from stereo.errors import UserError

# Steps between two lines of the log.
LOG_EVERY = 10


class TrainingModule(pl.LightningModule):
    """Train a network on batches of `distill.data`.

    Args:
        trained: the network.
        config: of the run.
    """

    def __init__(self, trained: TrainedNetwork, config: TrainConfig) -> None:
        super().__init__()
        self.trained = trained
        self.network = trained.module
        self.config = config
        self._idle_since: float | None = None
        self._wait_s, self._busy_s = 0.0, 0.0
        self._started = 0.0
        self._names: list[str] = []

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch.to(device)

    def on_train_start(self) -> None:
        self.trained.set_training()

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        losses = self.trained.losses(batch, self.config.loss)
        self._names = batch.names
        if not torch.isfinite(losses.total):
            raise self._not_finite("loss", losses.total.item())
        self.log_dict({"loss": losses.total, "sequence": losses.sequence, "initial": losses.initial, "epe": losses.epe})
        return losses.total

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Stop before a bad gradient reaches the weights, or the next batch would get the blame."""
        gradients = [weight.grad for weight in self.network.parameters() if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        # 16-mixed scales the loss, finds infinite gradients itself and leaves such a step out.
        if not torch.isfinite(norm) and self.trainer.precision != "16-mixed":
            raise self._not_finite("gradient", norm.item())

    def _not_finite(self, what: str, value: float) -> UserError:
        return UserError(
            f"the {what} is {value} at step {self.global_step}",
            where=", ".join(self._names),
            fix="look at these frames; if they are sound, use --precision 32-true or a lower --optimiser.learning_rate",
        )

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Dropout is a function of the step, as the data are: a resumed run draws what an unbroken one would have.
        entropy = np.random.SeedSequence([self.config.seed, self.global_rank, self.global_step])
        torch.manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> 1))
        self._started = time.perf_counter()
        if self._idle_since is not None:
            self._wait_s += self._started - self._idle_since

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        self._idle_since = time.perf_counter()
        self._busy_s += self._idle_since - self._started
        if self.global_step % LOG_EVERY == 0 and self._busy_s:
            total = self._busy_s + self._wait_s
            samples = LOG_EVERY * len(batch.names)
            self.log_dict({"data_wait_share": self._wait_s / total, "samples_per_s": samples / total})
            self._wait_s, self._busy_s = 0.0, 0.0

    def configure_optimizers(self) -> Any:
        options = self.config.optimiser
        learnt = [weight for weight in self.network.parameters() if weight.requires_grad]
        optimiser = torch.optim.AdamW(learnt, lr=options.learning_rate, weight_decay=options.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser,
            max_lr=options.learning_rate,
            total_steps=max(self.config.steps, 2) + 1,
            pct_start=options.warmup_share,
            cycle_momentum=False,
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
