"""The labelling loop in several processes, on one machine or many, under Lightning's `Trainer.predict`.

Lightning starts the processes, or finds those of torchrun or srun, and gives each its device and its batches; what is
done to a frame is the plain loop's (`teacher.labelling_loop`). Process 0 owns the label set. Every process takes fixed
blocks of frames and writes them through a journal of its own, so that nothing is sent between them but a few words at
the start and at the end; process 0 then merges the journals.
"""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from stereo.errors import UserError
from stereo.label_set_writer import LabelSetWriter, RankWriter
from stereo.progress import progress
from teacher.config import LabelConfig
from teacher.labelling import Task, finish
from teacher.labelling_loop import Labelling, Share, Timing, ahead, prepared_frames
from teacher.labelling_preview import preview_frames
from teacher.labelling_steps import Prepared

# A process that has done its share waits for the slowest; nothing else is ever waited for.
PATIENCE = timedelta(days=30)

log = logging.getLogger(__name__)


def terminated(number: int, frame: FrameType | None) -> NoReturn:
    """End as on Ctrl-C when the launcher ends this process: what is written enters the journal."""
    raise SystemExit(128 + number)


class RankLabelling(pl.LightningModule):
    """What Lightning runs: `predict_step` takes one frame.

    Args:
        config: the options.
        verify: whether the owner checks every checksum first.
        stack: closes what is opened here, also when Lightning gives up.

    Attributes:
        made: the finished set's folder, in process 0.
        interrupted: whether Ctrl-C ended it.
    """

    def __init__(self, config: LabelConfig, *, verify: bool, stack: ExitStack) -> None:
        super().__init__()
        self._config, self._verify, self._stack = config, verify, stack
        self._owner: LabelSetWriter | None = None
        self.made: Path | None = None
        self.interrupted = False

    def setup(self, stage: str) -> None:
        """Open everything; the other processes wait until process 0 has made or resumed the set.

        Raises:
            UserError: in every process, whatever process 0 could not do.
        """
        if torch.cuda.is_available() and self.trainer.strategy.root_device.type == "cuda":
            torch.cuda.set_device(self.trainer.strategy.root_device)
        self._task = Task.open(self._config)
        self._stack.enter_context(closing(self._task.source))
        problem: UserError | None = None
        if self.global_rank == 0:
            try:
                self._owner = self._stack.enter_context(closing(self._task.make_set(verify=self._verify)))
            except UserError as error:
                problem = error
        problem = self.trainer.strategy.broadcast(problem)
        if problem is not None:
            raise problem
        writer = RankWriter(Path(self._config.out), self.global_rank, identity=self._task.identity)
        self._writer = self._stack.enter_context(closing(writer))

    @property
    def _share(self) -> Share:
        return self._task.share(self.global_rank, self.trainer.world_size)

    def predict_dataloader(self) -> Frames:
        """This process's frames, read ahead."""
        blocks = self._share.blocks()
        frames = ahead(prepared_frames(self._task.source, self._task.steps, blocks, self._writer.states))
        return Frames(self._stack.enter_context(closing(frames)))

    def transfer_batch_to_device(self, batch: Prepared, device: torch.device, dataloader_idx: int) -> Prepared:
        """Frames stay where they are; the teacher moves what it needs."""
        return batch

    def on_predict_start(self) -> None:
        """Begin to count the time."""
        # Lightning's own handler talks to the other processes first, which may be gone already.
        signal.signal(signal.SIGTERM, terminated)
        todo = self._share.count_todo(self._writer.states)
        title = f"label with {self._task.teacher.name}, process {self.global_rank} of {self.trainer.world_size}"
        labelling = Labelling(
            self._writer,
            self._task.steps,
            links=self._config.links,
            previews=preview_frames(self._task.indexes, self._config.pictures),
            ticker=self._stack.enter_context(progress(title, todo)),
            rank=self.global_rank,
        )
        self._labelling = self._stack.enter_context(labelling)

    def predict_step(self, batch: Prepared, batch_idx: int) -> int:
        """Label one frame; returns its number."""
        self._labelling.take(batch)
        return batch.frame.index

    def on_predict_end(self) -> None:
        """Wait for every process; then process 0 closes the set.

        Raises:
            UserError: not one usable frame, or a full disk.
        """
        self._labelling.drain()
        self._writer.close()
        timings = gathered(self._labelling.timing)
        if self._owner is not None:
            self.made = finish(self._owner, self._task, timings)

    def on_exception(self, exception: BaseException) -> None:
        """Remember Ctrl-C, which Lightning turns into an exit."""
        self.interrupted = isinstance(exception, KeyboardInterrupt)


class Frames:
    """An iterable for Lightning, which asks for no length: shares differ."""

    def __init__(self, frames: Iterator[Prepared]) -> None:
        self._frames = frames

    def __iter__(self) -> Iterator[Prepared]:
        return self._frames


def gathered(timing: Timing) -> list[Timing]:
    """The timings of all processes, in their order."""
    if not torch.distributed.is_initialized():
        return [timing]
    timings: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(timings, timing)
    return timings


def accelerator_for(config: LabelConfig) -> str:
    """Which devices the processes get: a GPU each where the teacher will use one."""
    uses_gpu = config.teacher.name == "foundation_stereo" and config.teacher.device != "cpu"
    return "gpu" if uses_gpu and torch.cuda.is_available() else "cpu"


def label_on_ranks(config: LabelConfig, *, devices: int, nodes: int, verify: bool) -> Path | None:
    """Label a source in `devices` × `nodes` processes, this being one of them.

    Returns:
        The label set's folder in process 0; None in the others.

    Raises:
        UserError: as `teacher.labelling.label`, or fewer GPUs than processes.
    """
    accelerator = accelerator_for(config)
    if accelerator == "gpu" and devices > torch.cuda.device_count():
        raise UserError(f"{devices} processes, but {torch.cuda.device_count()} GPUs", where="--devices",
                        fix="one process per GPU")  # fmt: skip
    quiet_lightning()
    # A few words at the start and the end are all that is sent; gloo takes them on any machine.
    strategy = DDPStrategy(process_group_backend="gloo", timeout=PATIENCE)
    trainer = pl.Trainer(
        accelerator=accelerator, devices=devices, num_nodes=nodes, strategy=strategy, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False,
    )  # fmt: skip
    with ExitStack() as stack:
        module = RankLabelling(config, verify=verify, stack=stack)
        try:
            trainer.predict(module, return_predictions=False)
        except BaseException as error:
            end_children(trainer)
            if isinstance(error, SystemExit) and module.interrupted:
                raise KeyboardInterrupt from error
            raise
    return module.made


def quiet_lightning() -> None:
    """Keep Lightning's advice about GPUs, loggers and its own use of torch out of the output."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")


def end_children(trainer: pl.Trainer) -> None:
    """End the processes that Lightning started from this one; they would go on alone."""
    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        launcher.kill(signal.SIGTERM)
