"""Several processes that train one network: how they start, agree and end.

Lightning starts them, or finds those of torchrun or srun. All of them run the same code from the first line on, so
whatever only one of them may do (files) or decide (whether to resume) is done by the first, which tells the others.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn, TypeVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from deploy.device import device_name
from distill.config import TrainerOptions
from stereo.errors import UserError
from teacher.labelling import launched_processes

Answer = TypeVar("Answer")


def processes(options: TrainerOptions) -> tuple[int, int]:
    """(processes on each machine, machines) of a run.

    Raises:
        UserError: out of range, or not what the launcher started.
    """
    launched = launched_processes()
    asked = (options.devices, options.num_nodes)
    for name, value, started in zip(("devices", "num_nodes"), asked, launched, strict=True):
        if value is not None and value < 1:
            raise UserError(f"{value} is less than 1", where=f"--trainer.{name}", fix="leave it out for the default")
        if value is not None and value != started and launched != (1, 1):
            raise UserError(f"{value}, but the launcher started {started}", where=f"--trainer.{name}",
                            fix="leave it out")  # fmt: skip
    return (options.devices or 1, options.num_nodes or 1) if launched == (1, 1) else launched


def require_one_process(verb: str, options: TrainerOptions) -> None:
    """Refuse several processes for a verb that does other work beside the training, which all of them would do.

    Raises:
        UserError: more than one was asked for, or started.
    """
    if processes(options) != (1, 1):
        raise UserError(f"`{verb}` runs in one process", where="--train.trainer.devices",
                        fix="leave it out and start it without torchrun or srun; `train` takes several")  # fmt: skip


def launch(trainer: pl.Trainer, work: Callable[[], Answer]) -> Answer:
    """Start the other processes, connect with them, and do the work in each.

    Lightning would start them within `fit`, when what they must agree on is already decided.

    Raises:
        KeyboardInterrupt: Ctrl-C, which Lightning turns into an exit with code 1.
    """
    launcher = trainer.strategy.launcher

    def connected() -> Answer:
        trainer.strategy.setup_environment()
        if not trainer.is_global_zero:
            # Lightning's own handler talks to the other processes first, which may be gone already.
            signal.signal(signal.SIGTERM, terminated)
        return work()

    try:
        return connected() if launcher is None else launcher.launch(connected, trainer=trainer)
    except BaseException as error:
        if isinstance(launcher, _SubprocessScriptLauncher):
            launcher.kill(signal.SIGTERM)  # they would wait for this one
        if isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        raise


def terminated(number: int, frame: FrameType | None) -> NoReturn:
    """End when the first process says so, without a word: nothing is written here, and Python may be ending already."""
    os._exit(128 + number)


def decided_by_first(trainer: pl.Trainer, decide: Callable[[], Answer]) -> Answer:
    """What the first process decides, in every process.

    Raises:
        UserError: what the first process could not do; the others leave quietly.
    """
    answer: Any = None
    if trainer.is_global_zero:
        try:
            answer = decide()
        except UserError as error:
            answer = error
    answer = trainer.strategy.broadcast(answer)
    if isinstance(answer, UserError):
        fail_together(trainer, answer)
    return answer


def fail_together(trainer: pl.Trainer, error: UserError) -> NoReturn:
    """End all processes with an error that all of them know, told once."""
    if trainer.is_global_zero:
        raise error
    raise SystemExit(2)


def device_of(trainer: pl.Trainer) -> str:
    """What the steps ran on, for the record: "2 × NVIDIA H100", or the processor's name."""
    root = trainer.strategy.root_device
    name = torch.cuda.get_device_name(root) if root.type == "cuda" else device_name()
    return f"{trainer.world_size} × {name}" if trainer.world_size > 1 else name
