"""The verb `label`: run a teacher over a stereo source into a label set.

One process runs the plain loop here; several run the same loop under Lightning, see `teacher.labelling_ranks`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stereo.artifacts import sha256_file
from stereo.errors import UserError
from stereo.label_set_writer import LabelSetWriter, full_identity
from stereo.pair import Rig
from stereo.progress import progress
from stereo.rectification import Rectifier
from stereo.sources import StereoSource, open_source
from teacher.config import LabelConfig
from teacher.labelling_input import check_input, open_rectifier
from teacher.labelling_loop import Labelling, Share, Timing, ahead, prepared_frames
from teacher.labelling_preview import preview_frames
from teacher.labelling_steps import Steps
from teacher.protocol import Teacher
from teacher.registry import open_teacher
from teacher.run_options import RunOptions
from teacher.trust import weights_of
from teacher.trust_options import check_trust

log = logging.getLogger(__name__)


def chosen_frames(config: LabelConfig, count: int) -> range:
    """Frame numbers that stride and limit leave of `count`.

    Raises:
        UserError: stride or limit below 1, or a threshold that is no confidence.
    """
    for option, value in (("stride", config.stride), ("limit", config.limit)):
        if value is not None and value < 1:
            raise UserError(f"{value} is below 1", where=f"--{option}")
    if not 0 <= config.keep_threshold <= 1:
        raise UserError(f"{config.keep_threshold} is not a confidence", where="--keep_threshold", fix="from 0 to 1")
    chosen = range(0, count, config.stride)
    return chosen[: config.limit]


@dataclass
class Task:
    """What a process needs to label its part of a source.

    Args:
        config: the options.
        source: opened.
        indexes: the frames to label, of all processes.
        teacher: opened.
        steps: what is done to a frame.
        rectifier: what rectifies the images, None when they are rectified.
        checked: what the check of the source found, None when nothing was checked.
    """

    config: LabelConfig
    source: StereoSource
    indexes: Sequence[int]
    teacher: Teacher
    steps: Steps
    rectifier: Rectifier | None
    checked: dict[str, Any] | None

    @classmethod
    def open(cls, config: LabelConfig) -> Task:
        """Open source and teacher, and check the source.

        Raises:
            UserError: no such source or teacher, options out of range, or images that cannot be labelled.
        """
        check_trust(config.trust)
        source = open_source(config.source, right=config.right, kind=config.kind, options=config.reading)
        indexes = chosen_frames(config, len(source))
        rectifier = open_rectifier(config, source, indexes)
        checked = check_input(config, source, indexes, rectifier)
        teacher = open_teacher(config.teacher)
        steps = Steps(
            teacher, trust=config.trust, keep_threshold=config.keep_threshold, select=config.select, rectifier=rectifier
        )
        return cls(config, source, indexes, teacher, steps, rectifier, checked)

    @property
    def rig(self) -> Rig | None:
        """The cameras of the labelled pairs."""
        return self.source.rig if self.rectifier is None else self.rectifier.rig

    def share(self, rank: int = 0, world: int = 1) -> Share:
        """What falls to one of `world` processes."""
        return Share(self.indexes, self.steps.block, rank, world)

    @property
    def description(self) -> dict[str, Any]:
        """What the labels depend on."""
        return {
            "source": self.source.describe(),
            "rectification": None if self.rectifier is None else self.rectifier.describe(),
            "selection": asdict(self.config.select),
            "teacher": self.teacher.describe(),
            "trust": {**asdict(self.config.trust), "weights": weights_of(self.config.trust)},
        }

    @property
    def identity(self) -> dict[str, Any]:
        """What the labels depend on, with what follows from it for the files."""
        return full_identity(
            self.description,
            max_disp=self.teacher.max_disp,
            keep_threshold=self.config.keep_threshold,
            rig=self.rig,
        )

    def make_set(self, *, verify: bool) -> LabelSetWriter:
        """Make or resume the label set.

        Args:
            verify: check every checksum of it.

        Raises:
            UserError: a set with other settings, or one that another process is writing.
        """
        description = self.description
        writer = LabelSetWriter(
            self.config.out,
            identity=description,
            max_disp=self.teacher.max_disp,
            keep_threshold=self.config.keep_threshold,
            made_from={"teacher weights": description["teacher"].get("weights_sha256")},
            config=self.config,
            rig=self.rig,
        )
        if verify:
            writer.verify()
        todo = self.share().count_todo(writer.states)
        if todo < len(self.indexes):
            done = len(self.indexes) - todo
            log.info("%s: %d of %d frames are done, going on", self.config.out, done, len(self.indexes))
        return writer


def launched_processes() -> tuple[int, int]:
    """(processes on each machine, machines) that torchrun or srun started; (1, 1) without either."""
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment:
        world, local = int(environment["WORLD_SIZE"]), int(environment["LOCAL_WORLD_SIZE"])
        return local, world // local
    # As Lightning recognises srun: in an interactive shell the number of tasks is there, but nobody started them.
    if "SLURM_NTASKS" in environment and environment.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        nodes = int(environment.get("SLURM_NNODES", 1))
        return int(environment["SLURM_NTASKS"]) // nodes, nodes
    return 1, 1


def processes(run: RunOptions) -> tuple[int, int]:
    """(processes on each machine, machines) of a run.

    Raises:
        UserError: out of range, or not what the launcher started.
    """
    launched = launched_processes()
    for option, value, started in (("devices", run.devices, launched[0]), ("nodes", run.nodes, launched[1])):
        if value is not None and value < 1:
            raise UserError(f"{value} is below 1", where=f"--{option}")
        if value is not None and value != started and launched != (1, 1):
            raise UserError(f"{value}, but the launcher started {started}", where=f"--{option}", fix="leave it out")
    if (run.nodes or 1) > launched[1]:
        raise UserError(f"{run.nodes} machines cannot be started from here", where="--nodes",
                        fix="start each with torchrun or srun; the number is found then")  # fmt: skip
    return (run.devices or 1, 1) if launched == (1, 1) else launched


def label(config: LabelConfig, run: RunOptions | None = None) -> Path | None:
    """Label a source; see `LabelConfig`.

    Returns:
        The label set's folder; None in a process that works for another one.

    Raises:
        UserError: no such source or teacher, a set with other settings, a full disk, or not one usable frame.
    """
    run = run or config.run
    devices, nodes = processes(run)
    if devices * nodes > 1:
        from teacher.labelling_ranks import label_on_ranks

        return label_on_ranks(config, devices=devices, nodes=nodes, verify=run.verify)
    return label_here(Task.open(config), verify=run.verify)


def label_here(task: Task, *, verify: bool = False) -> Path:
    """Label in this process alone; see `label`.

    Args:
        task: what to do; its source is closed afterwards.
        verify: compare every checksum of what is there first.
    """
    share = task.share()
    with closing(task.source), closing(task.make_set(verify=verify)) as writer:
        frames = prepared_frames(task.source, task.steps, share.blocks(), writer.states)
        with (
            closing(ahead(frames)) as stream,
            progress(f"label with {task.teacher.name}", share.count_todo(writer.states)) as ticker,
            Labelling(
                writer,
                task.steps,
                links=task.config.links,
                previews=preview_frames(task.indexes, task.config.pictures),
                ticker=ticker,
            ) as labelling,
        ):
            for frame in stream:
                labelling.take(frame)
        return finish(writer, task, [labelling.timing])


def finish(writer: LabelSetWriter, task: Task, timings: Sequence[Timing]) -> Path:
    """Close the set and say what is in it.

    Args:
        writer: of the set.
        task: what was labelled.
        timings: of every process.

    Raises:
        UserError: every frame was skipped.
    """
    totals = writer.totals()
    for group in ("skipped", "dropped", "untrusted"):
        for reason, counted in totals[group].items():
            log.warning("%s %d frames: %s", group, counted["count"], reason)
    if not totals["frames"]:
        raise UserError(
            f"not one frame could be labelled; the first one: {writer.first_problem() or 'the source is empty'}",
            where=task.source.paths()[0],
            fix="check the source",
        )
    videos = {str(path): sha256_file(path) for path in task.source.paths() if path.is_file()}
    content = {
        "source_frames": len(task.source),
        "check": task.checked,
        "timing": [timing.record() for timing in timings],
    }
    path = writer.finish(content, made_from=videos, totals=totals)
    for timing in timings:
        if timing.idle_pct is not None:
            log.info(
                "process %d: %d frames in %.1f s; the teacher was idle %.1f %% of that",
                timing.rank, timing.frames, timing.wall_s, timing.idle_pct,
            )  # fmt: skip
    log.info(
        "%s: %d frames, %.1f %% of pixels have a disparity, %.1f %% are kept (confidence >= %g)",
        path, totals["frames"], totals["valid_pct"], totals["kept_pct"], writer.keep_threshold,
    )  # fmt: skip
    return path
