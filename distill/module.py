"""The Lightning module around a network: wiring only. Losses, data and the network live elsewhere."""

from __future__ import annotations

import contextlib
import time
from typing import Any, NoReturn

import numpy as np
import pytorch_lightning as pl
import torch

from distill.batches import Batch
from distill.collectives import mean_over_processes, of_all_processes
from distill.config import TrainConfig
from distill.networks import TrainedNetwork
from distill.processes import device_of, fail_together
from distill.weight_average import WeightAverage
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
        self.distillation = trained.distillation
        self.config = config
        ema = config.optimiser.ema
        self.weight_average = WeightAverage(self.network, ema) if ema else None
        self._idle_since: float | None = None
        self._wait_s, self._busy_s, self._pairs = 0.0, 0.0, 0
        self._beyond_pct: list[torch.Tensor] = []
        self._started = 0.0
        self._names: list[str] = []

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch.to(device)

    def on_train_start(self) -> None:
        self.trained.set_training()

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        losses = self.trained.losses(batch, self.config.loss)
        self._names = batch.names
        parts = losses.parts()
        parts = dict(zip(parts, mean_over_processes(torch.stack(list(parts.values()))), strict=True))
        # The mean is not finite in any process as soon as one part of it is not: all of them end here.
        if not torch.isfinite(parts["loss"]):
            self._fail("loss", parts["loss"].item(), guilty=not torch.isfinite(losses.total).item())
        # Far pixels are rare: one step in ten, as the other values are logged, would miss them.
        self._beyond_pct.append(parts.pop("beyond_max_disp_pct"))
        self.log_dict(parts)
        return losses.total

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Stop before a bad gradient reaches the weights, or the next batch would get the blame."""
        gradients = [weight.grad for weight in self.parameters() if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        # 16-mixed scales the loss, finds infinite gradients itself and leaves such a step out.
        if not torch.isfinite(norm) and self.trainer.precision != "16-mixed":
            self._fail("gradient", norm.item(), guilty=True)

    def _fail(self, what: str, value: float, *, guilty: bool) -> NoReturn:
        """Stop all processes, naming the frames of those that found something."""
        names = of_all_processes(self._names if guilty else [])
        error = UserError(
            f"the {what} is {value} at step {self.global_step}",
            where=", ".join(name for part in names for name in part),
            fix="look at these frames; if they are sound, use --precision 32-true or a lower --optimiser.learning_rate",
        )
        fail_together(self.trainer, error)

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        super().optimizer_step(*arguments, **named)
        if self.weight_average is not None:
            self.weight_average.update()

    def result_weights(self) -> contextlib.AbstractContextManager[None]:
        """The network as it is validated and saved, within a `with` block: with averaged weights where there are."""
        return contextlib.nullcontext() if self.weight_average is None else self.weight_average.swapped()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # What is needed beside the weights to make the result of a run that was stopped.
        checkpoint |= {
            "preset": self.config.preset,
            "precision": str(self.trainer.precision),
            "device": device_of(self.trainer),
        }
        if self.weight_average is not None:
            checkpoint["weight_average"] = self.weight_average.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.weight_average is not None:
            self.weight_average.load_state_dict(checkpoint["weight_average"])

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
        self._pairs += len(batch.names)
        if self.global_step % LOG_EVERY == 0:
            total = self._busy_s + self._wait_s
            samples = self._pairs * self.trainer.world_size
            self.log_dict(
                {
                    "data_wait_share": self._wait_s / total,
                    "samples_per_s": samples / total,
                    "beyond_max_disp_pct": torch.stack(self._beyond_pct).mean(),
                }
            )
            self._wait_s, self._busy_s, self._pairs = 0.0, 0.0, 0
            self._beyond_pct.clear()

    def configure_optimizers(self) -> Any:
        options = self.config.optimiser
        learnt = [weight for weight in self.parameters() if weight.requires_grad]
        optimiser = torch.optim.AdamW(learnt, lr=options.learning_rate, weight_decay=options.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser,
            max_lr=options.learning_rate,
            total_steps=max(self.config.steps, 2) + 1,
            pct_start=options.warmup_share,
            cycle_momentum=False,
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
