"""Is the teacher worth it? One student, the same steps and images, taught in several ways, over some seeds.

    python benchmarks/distillation.py --out runs/distillation                      trains a small teacher first
    python benchmarks/distillation.py --out runs/distillation --teacher FILE       with FoundationStereo's weights
    python benchmarks/distillation.py --out runs/distillation --labels SET         half of each batch from a label set

The images are procedural scenes, whose truth is known, and frames of label sets where given. Printed, and written to
results.json: error on scenes that nothing was trained on, and on pairs with truth where given; mean and standard
deviation over the seeds; the time of a training as a share of the slowest; and the teacher's own error. Finished parts
are kept, a stopped run goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.config import DataOptions, LossOptions, OnlineTeacherOptions, OptimiserOptions, TrainConfig
from distill.networks import TrainedFoundationStereo
from distill.train import train
from distill.validation import mean_scores, validate, validation_scenes
from stereo.artifacts import commit, tool_versions, write_json
from stereo.benchmarks import load_pairs
from stereo.pair import StereoPair
from student.checkpoint import read_metadata
from teacher.checkpoints import load_foundation_stereo

# Whose labels give way to the teacher's.
NOBODY, EVERYBODY = "nothing", "everything"

# name → (what the teacher's labels replace, terms); None: no teacher at all.
VARIANTS: Mapping[str, tuple[Any, tuple[str, ...]] | None] = {
    "no teacher": None,
    "labels only": (EVERYBODY, ()),
    "labels + features": (EVERYBODY, ("features",)),
    "labels + volume": (EVERYBODY, ("volume",)),
    "labels + features + volume": (EVERYBODY, ("features", "volume")),
    "features + volume alone": (NOBODY, ("features", "volume")),
}


@dataclasses.dataclass(frozen=True)
class Setup:
    """What all trainings share.

    Args:
        out: folder.
        preset, max_disp, steps, batch_size, crop: of the student.
        labels: label sets for half of each batch.
        teacher: weights.
        iterations: of the teacher.
        weights: of the terms.
        temperature: of the volume term.
        pairs: folder of pairs with truth.
        workers: of the data.
    """

    out: Path
    preset: str
    max_disp: int
    steps: int
    batch_size: int
    crop: str
    labels: tuple[Path, ...]
    teacher: Path
    iterations: int
    weights: Mapping[str, float]
    temperature: float
    pairs: Path | None
    workers: int


def training(setup: Setup, variant: str, seed: int) -> TrainConfig:
    """The training of one variant."""
    taught = VARIANTS[variant]
    loss, teacher = LossOptions(), OnlineTeacherOptions()
    if taught is not None:
        replaces, terms = taught
        chosen: dict[str, Any] = {name: setup.weights[name] for name in terms}
        loss = LossOptions(**chosen, temperature=setup.temperature)
        teacher = OnlineTeacherOptions(str(setup.teacher), replaces, iterations=setup.iterations)
    folder = "_".join("".join(c if c.isalnum() else " " for c in variant).split())
    return TrainConfig(
        out=setup.out / f"seed_{seed}" / folder, preset=setup.preset, max_disp=setup.max_disp, steps=setup.steps,
        seed=seed, loss=loss, teacher=teacher, data=data_of(setup), validate_every=0, pairs=setup.pairs,
    )  # fmt: skip


def data_of(setup: Setup) -> DataOptions:
    """The same images for all."""
    return DataOptions(
        labels=list(setup.labels), batch_size=setup.batch_size, crop=setup.crop, workers=setup.workers
    )  # fmt: skip


def small_teacher(out: Path, *, steps: int, max_disp: int, crop: str, workers: int) -> Path:
    """A FoundationStereo of tiny size, trained on procedural scenes: a stand-in where there are no weights."""
    return train(
        TrainConfig(
            out=out, preset="foundation_stereo_tiny", max_disp=max_disp, iterations=4, steps=steps, validate_every=0,
            data=DataOptions(crop=crop, workers=workers), optimiser=OptimiserOptions(learning_rate=3e-3),
        )
    )  # fmt: skip


def groups_of(setup: Setup) -> dict[str, Sequence[StereoPair]]:
    """What `train` validates on at its end."""
    groups: dict[str, Sequence[StereoPair]] = {"scenes": validation_scenes(6, (256, 512), max_disp=setup.max_disp)}
    if setup.pairs is not None:
        groups["pairs"] = load_pairs(setup.pairs)
    return groups


def score_teacher(setup: Setup) -> dict[str, dict[str, float]]:
    """The teacher's own error on what the students are scored on."""
    network = load_foundation_stereo(setup.teacher, max_disp=setup.max_disp)
    trained = TrainedFoundationStereo(network, iterations=setup.iterations, freeze_batch_norm=True)
    found = {group: validate(trained.predict, pairs) for group, pairs in groups_of(setup).items()}
    return {group: mean_scores(scores, list(scores)) for group, scores in found.items()}


def run(setup: Setup, variants: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Train all, and gather what their files tell."""
    rows: dict[str, Any] = {}
    for variant in variants:
        records = [read_metadata(train(training(setup, variant, seed)))["training"] for seed in seeds]
        groups = [name for name in records[0]["validation"] if name != "step"]
        rows[variant] = {
            "seconds": statistics.median(record["seconds"] for record in records),
            **{group: [record["validation"][group]["mean"] for record in records] for group in groups},
        }
    return rows


def table(rows: Mapping[str, Any], teacher: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown: a line for each variant."""
    groups = list(teacher)
    head = ["variant", *(f"{group}: EPE px | {group}: bad-2 %" for group in groups), "time"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * (2 + 2 * len(groups))]
    slowest = max(row["seconds"] for row in rows.values())
    for variant, row in rows.items():
        cells = []
        for group in groups:
            for key, digits in (("epe_px", 2), ("bad2_pct", 1)):
                values = [seed[key] for seed in row[group]]
                spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
                cells.append(f"{statistics.mean(values):.{digits}f}{spread}")
        lines.append(f"| {variant} | {' | '.join(cells)} | {row['seconds'] / slowest:.2f} |")
    own = " | ".join(f"{teacher[group]['epe_px']:.2f} | {teacher[group]['bad2_pct']:.1f}" for group in groups)
    return "\n".join([*lines, f"| the teacher itself | {own} | |"])


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--max-disp", type=int, default=128)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="names, with commas between them")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--crop", default="192x384")
    parser.add_argument("--labels", type=Path, nargs="*", default=[])
    parser.add_argument("--pairs", type=Path, help="folder of pairs with truth")
    parser.add_argument("--teacher", type=Path, help="weights of FoundationStereo; a small one is trained without them")
    parser.add_argument("--teacher-steps", type=int, default=3000, help="of the small one")
    parser.add_argument("--iterations", type=int, default=4, help="of the teacher; 16 for the full one")
    parser.add_argument("--features", type=float, default=1.0, help="weight of feature distillation")
    parser.add_argument("--volume", type=float, default=1.0, help="weight of volume distillation")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--workers", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    """Train what is missing, print the table."""
    given = options()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    teacher = given.teacher or small_teacher(
        given.out / "teacher", steps=given.teacher_steps, max_disp=given.max_disp, crop=given.crop,
        workers=given.workers,
    )  # fmt: skip
    setup = Setup(
        given.out, given.preset, given.max_disp, given.steps, given.batch_size, given.crop, tuple(given.labels),
        teacher, given.iterations, {"features": given.features, "volume": given.volume}, given.temperature,
        given.pairs, given.workers,
    )  # fmt: skip
    variants, seeds = given.variants.split(","), [int(seed) for seed in given.seeds.split(",")]
    rows, own = run(setup, variants, seeds), score_teacher(setup)
    write_json(
        given.out / "results.json",
        {"setup": {key: str(value) for key, value in vars(given).items()}, "rows": rows, "teacher": own,
         "tools": tool_versions(), "commit": commit()},
    )  # fmt: skip
    print(table(rows, own))


if __name__ == "__main__":
    main()
