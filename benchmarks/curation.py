"""Does curation find labels that are wrong? A procedural set whose truth is known, a known share of it damaged.

    python benchmarks/curation.py --out runs/curation                 5, 10 and 20 % damaged, one seed
    python benchmarks/curation.py --out runs/curation --shares 0.1 --seeds 0,1,2

Damage, in equal parts: the right view of another frame, the label shifted by 8 px, glare over the right view. A student
is trained on the damaged set, frames that it disagrees with are dropped (one round of `curate`), and a second student
is trained on what is left. Printed: precision and recall of the dropping, by kind of damage, and the error of students
trained on the damaged, the curated and the undamaged set, on scenes that none of them saw. Finished parts are kept.
With fresh weights and the default number of steps a student still disagrees with many good frames: give --init a
student that has learnt on other scenes, or train for longer.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
from collections import Counter
from collections.abc import Container
from pathlib import Path

import cv2
import numpy as np
import torch

from distill.config import DataOptions, TrainConfig
from distill.curation import curate
from distill.curation_config import CurateConfig
from distill.scenes import render_scenes
from distill.scenes_config import SceneOptions
from distill.train import train
from distill.validation import mean_scores, validate, validation_scenes
from stereo.journal import read_journal
from stereo.label_set import LabelledFrame, LabelSet
from stereo.label_set_writer import LabelSetWriter
from student.checkpoint import load_student
from student.runner import predict_pair

SIZE = (224, 352)
MAX_DISP = 64
SHIFT_PX = 8.0
STUDENTS = ("on_damaged", "on_curated", "on_clean")
KINDS = ("wrong pair", "shifted label", "glare")
THRESHOLDS = (40, 50, 60, 70, 80)


def rendered(count: int, seed: int) -> list[LabelledFrame]:
    """Frames with exact disparity; confidence 1 where the right view sees the pixel."""
    generator = torch.Generator().manual_seed(1_000_003 * seed + 17)
    options = SceneOptions(max_disp=float(MAX_DISP))
    frames = []
    for first in range(0, count, 8):
        scenes = render_scenes(min(8, count - first), SIZE, generator=generator, device="cpu", options=options)
        for index in range(scenes.left.shape[0]):
            left, right = (
                view[index].round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
                for view in (scenes.left, scenes.right)
            )
            confidence = (~scenes.occluded[index, 0]).float().numpy()
            frames.append(
                LabelledFrame(f"{first + index:06d}", left, right, scenes.disparity[index, 0].numpy(), confidence)
            )
    return frames


def damaged(frames: list[LabelledFrame], share: float, seed: int) -> tuple[list[LabelledFrame], dict[str, str]]:
    """A copy in which a share of the frames is spoilt, and which ones: name → kind."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(frames))[: round(share * len(frames))]
    out, kinds = list(frames), {}
    for order, place in enumerate(chosen):
        kind, frame = KINDS[order % len(KINDS)], frames[place]
        kinds[frame.name] = kind
        if kind == "wrong pair":
            other = frames[(place + 1 + rng.integers(len(frames) - 1)) % len(frames)]
            out[place] = dataclasses.replace(frame, right=other.right)
        elif kind == "shifted label":
            out[place] = dataclasses.replace(frame, disparity=(frame.disparity + SHIFT_PX).astype(np.float32))
        else:
            out[place] = dataclasses.replace(frame, right=with_glare(frame.right, rng))
    return out, kinds


def with_glare(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A low sun in the lens: white at its place, veiled around it."""
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.float32)
    centre = (int(rng.uniform(0.3, 0.7) * width), int(rng.uniform(0.3, 0.7) * height))
    cv2.circle(mask, centre, int(0.45 * width), 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 0.08 * width)[:, :, None]
    return np.rint(image * (1 - mask) + 255 * mask).astype(np.uint8)


def write_set(path: Path, frames: list[LabelledFrame]) -> Path:
    """A label set of these frames; one that is finished stays."""
    identity = {"source": {"kind": "procedural"}, "teacher": {"name": "truth", "max_disp": MAX_DISP}}
    writer = LabelSetWriter(path, identity=identity, max_disp=MAX_DISP + SHIFT_PX)
    for index, frame in enumerate(frames):
        if index not in writer.done:
            writer.add(index, frame)
    return writer.finish()


def training(out: Path, steps: int, seed: int, labels: Path, crop: str, init: str | None) -> TrainConfig:
    """The training of every student here: label sets alone, no scenes."""
    data = DataOptions(labels=[labels], scene_share=0.0, crop=crop)
    return TrainConfig(
        out=out, preset="nano", init=init, max_disp=96, steps=steps, seed=seed, data=data, validate_every=0
    )


def error_of(student: Path) -> dict[str, float]:
    """EPE and bad-2 of a student on scenes of its own kind that it never saw."""
    pairs = validation_scenes(16, SIZE, max_disp=MAX_DISP)
    network = load_student(student)
    scores = validate(lambda pair: predict_pair(network, pair), pairs)
    return mean_scores(scores, [pair.name for pair in pairs])


def by_threshold(scores: Path, wrong: Container[str]) -> dict[str, tuple[float | None, float]]:
    """Precision and recall that other thresholds would have had, from the scores of a round."""
    shares = {line["name"]: line["bad_pct"] for line in read_journal(scores) if "name" in line}
    damaged_frames = sum(name in wrong for name in shares)
    table: dict[str, tuple[float | None, float]] = {}
    for threshold in THRESHOLDS:
        dropped = [name for name, share in shares.items() if share > threshold]
        found = sum(name in wrong for name in dropped)
        table[f"{threshold}"] = (found / len(dropped) if dropped else None, found / damaged_frames)
    return table


def run(
    out: Path,
    *,
    share: float,
    seed: int,
    frames: int,
    steps: int,
    threshold: float,
    crop: str,
    init: str | None,
) -> dict[str, object]:
    """One cell of the table; its result is kept in a file."""
    folder = out / f"share_{share:g}_seed_{seed}"
    kept = folder / "result.json"
    if kept.exists():
        return json.loads(kept.read_text())
    clean = rendered(frames, seed)
    spoilt, kinds = damaged(clean, share, seed)
    labels = write_set(folder / "damaged", spoilt)
    base = training(folder / "unused", steps, seed, labels, crop, init)
    curated = curate(CurateConfig(labels=labels, out=folder / "curation", rounds=1, threshold=threshold, train=base))
    left = set(LabelSet.open(curated).names)
    dropped = {frame.name for frame in clean} - left
    on_curated = train(training(folder / "on_curated", steps, seed, curated, crop, init))
    clean_folder = out / f"clean_seed_{seed}"
    on_clean = train(
        training(clean_folder / "student", steps, seed, write_set(clean_folder / "labels", clean), crop, init)
    )
    found = dropped & kinds.keys()
    result = {
        "share": share, "seed": seed, "frames": frames, "damaged": len(kinds), "dropped": len(dropped),
        "precision": len(found) / len(dropped) if dropped else None, "recall": len(found) / len(kinds),
        "found": Counter(kinds[name] for name in found), "of": Counter(kinds.values()),
        "by_threshold": by_threshold(folder / "curation" / "round_1" / "scores.jsonl", kinds),
        "on_damaged": error_of(folder / "curation" / "round_1" / "student" / "student.safetensors"),
        "on_curated": error_of(on_curated), "on_clean": error_of(on_clean),
    }  # fmt: skip
    kept.write_text(json.dumps(result, indent=1))
    return result


def main() -> None:
    """Print a row per share and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shares", default="0.05,0.1,0.2")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--frames", type=int, default=96)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--threshold", type=float, default=60.0)
    parser.add_argument("--crop", default="160x256")
    parser.add_argument("--init", help="a student that all of them start from; fresh weights when left out")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print("| damaged | seed | dropped | precision | recall | by kind | on damaged | on curated | on undamaged |")
    print("|---|---|---|---|---|---|---|---|---|")
    for seed in map(int, options.seeds.split(",")):
        for share in map(float, options.shares.split(",")):
            row = run(
                options.out, share=share, seed=seed, frames=options.frames, steps=options.steps,
                threshold=options.threshold, crop=options.crop, init=options.init,
            )  # fmt: skip
            errors = [
                f"{row[key]['epe_px']:.2f} / {row[key]['bad2_pct']:.1f}"
                for key in ("on_damaged", "on_curated", "on_clean")
            ]
            kinds = ", ".join(f"{kind} {row['found'].get(kind, 0)}/{count}" for kind, count in row["of"].items())
            precision = "–" if row["precision"] is None else f"{row['precision']:.2f}"
            print(f"| {share:.0%} ({row['damaged']} of {row['frames']}) | {seed} | {row['dropped']} | {precision} "
                  f"| {row['recall']:.2f} | {kinds} | {' | '.join(errors)} |", flush=True)  # fmt: skip
            for threshold, (precise, recall) in row["by_threshold"].items():
                told = "–" if precise is None else f"{precise:.2f}"
                print(f"  above {threshold} %: precision {told}, recall {recall:.2f}", file=sys.stderr)


if __name__ == "__main__":
    main()
