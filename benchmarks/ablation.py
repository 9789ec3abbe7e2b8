"""FoundationStereo's ablations at tiny scale: train every recipe with several seeds, score all on the same scenes.

    OMP_NUM_THREADS=1 python benchmarks/ablation.py --out runs/ablation
    python benchmarks/ablation.py --out runs/ablation --table     the table alone, of what is finished

OUT/mono.safetensors             the monocular network that all variants start from
    features/KIND_seed_N.safetensors    the feature network that the variants with such features start from
    VARIANT/seed_N/              one run of `stereodistill train --config distill/recipes/ablation/VARIANT.yaml`
                  score.json     its errors on the held-out scenes
    table.md                     mean over seeds, and the lowest and highest seed

What is finished is not done again.

Two things stand in for what FoundationStereo starts from and a small machine cannot make. The monocular network, in
place of Depth Anything: it learns relative inverse depth from the left views of procedural scenes, with the
affine-invariant loss of MiDaS (arXiv 1907.01341); without it, freezing would mean nothing. The feature network, in
place of ImageNet's weights: it learns to tell the matching pixel among all those of the row, because in as few steps as
these runs have, the losses of a whole network that starts from random features teach it no matching at all.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from distill.batches import Batch
from distill.config import DataOptions
from distill.data import open_batches
from distill.foundation_stereo import MONO, build_foundation_stereo, save_parts
from distill.networks import TrainedFoundationStereo
from distill.validation import mean_scores, validate, validation_scenes
from stereo.artifacts import commit, read_json, write_json
from stereo.cli import parse_config
from stereo.metrics import errors_against_truth
from stereo.pair import StereoPair
from teacher.checkpoints import load_foundation_stereo
from teacher.dpt_head import resize_aligned
from teacher.foundation_stereo import MEAN, STD, FoundationStereo
from teacher.presets import PRESETS
from teacher.side_tuning import MonoBranch

RECIPES = Path(__file__).resolve().parent.parent / "distill" / "recipes" / "ablation"
VARIANTS = (
    "base", "cnn_only", "features_only", "mono_trainable", "no_transformer", "attention_heads", "apc_5", "apc_9",
    "apc_13", "no_apc",
)  # fmt: skip
PRESET = PRESETS["foundation_stereo_tiny"]
CROP = (96, 192)
HELD_OUT = 64
HELD_OUT_SIZE = CROP
MONO_STEPS = 2000
MONO_SEED = 1000
MONO_RATE = 1e-3
FEATURE_STEPS = 200
FEATURE_RATE = 2e-3
# Sharpness of the softmax over the pixels of a row; cosines are at most 1.
MATCHING_SCALE = 20.0
# Variants whose feature network is not the base's.
OWN_FEATURES = ("cnn_only", "features_only", "mono_trainable")


class RelativeDepth(nn.Module):
    """The monocular branch and a small head on the features that FoundationStereo takes from it.

    Input: (B, 3, H, W), RGB 0–255. Output: (B, 1, H/4, W/4), inverse depth up to scale and shift.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mono = MonoBranch(PRESET.config.vit)
        width = self.mono.channels
        self.head = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 1, 1))

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        height, width = images_BCHW.shape[2:]
        mean, std = (images_BCHW.new_tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
        normalised = (images_BCHW / 255 - mean) / std
        return self.head(resize_aligned(self.mono(normalised), (height // 4, width // 4)))


def standardised(maps_B1HW: torch.Tensor) -> torch.Tensor:
    """Each map minus its median, by its mean distance from it."""
    flat = maps_B1HW.flatten(1)
    centred = flat - flat.median(dim=1, keepdim=True).values
    return centred / centred.abs().mean(dim=1, keepdim=True).clamp(min=1e-2)


def explained(prediction_1HW: torch.Tensor, truth_1HW: torch.Tensor) -> float:
    """Share of the truth's variance that a prediction explains after the best scale and shift."""
    return float(torch.corrcoef(torch.stack([prediction_1HW.flatten(), truth_1HW.flatten()]))[0, 1] ** 2)


def batches(steps: int, *, seed: int, size: int) -> Iterator[Batch]:
    """Training batches of procedural scenes."""
    options = DataOptions(batch_size=size, crop=f"{CROP[0]}x{CROP[1]}", scene_reuse=4, block=8, workers=0)
    return iter(open_batches(options, max_disp=PRESET.config.max_disp, seed=seed, steps=steps))


def train_mono(path: Path, scenes: list[StereoPair]) -> None:
    """Train the monocular network and save it, with how much it explains of the held-out scenes."""
    torch.manual_seed(MONO_SEED)
    network = RelativeDepth()
    optimiser = torch.optim.AdamW(network.parameters(), lr=MONO_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, MONO_RATE, total_steps=MONO_STEPS + 1, pct_start=0.05)
    for step, batch in enumerate(batches(MONO_STEPS, seed=MONO_SEED, size=8)):
        with torch.autocast("cpu", torch.bfloat16):
            prediction = network(batch.left)
        truth = batch.disparity[:, :, 2::4, 2::4]
        loss = (standardised(prediction.float()) - standardised(truth)).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 100 == 0:
            print(f"mono: step {step}, loss {loss.item():.3f}", file=sys.stderr, flush=True)
    shares = mono_scores(network.eval(), scenes)
    print(f"mono: explained variance {shares}", file=sys.stderr, flush=True)
    save_parts(network.mono, path, prefix=MONO, training={name: f"{share:.3f}" for name, share in shares.items()})


def mono_scores(network: RelativeDepth, scenes: list[StereoPair]) -> dict[str, float]:
    """Mean explained variance of the network and of the row's number, which knows that the floor is near."""
    ours, rows = [], []
    for pair in scenes:
        assert pair.disparity is not None
        truth = torch.from_numpy(pair.disparity)[2::4, 2::4]
        with torch.no_grad():
            prediction = network(torch.from_numpy(pair.left).permute(2, 0, 1)[None].float())[0, 0]
        ours.append(explained(prediction, truth))
        rows.append(explained(torch.arange(len(truth)).float()[:, None].expand_as(truth), truth))
    return {"network": float(np.mean(ours)), "row": float(np.mean(rows))}


def matching_loss(features_BCHW: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Cross entropy of the matching pixel among those of the right row, by the cost volume's group-wise cosines."""
    groups = features_BCHW.float().unflatten(1, (PRESET.config.groups, -1))
    left, right = F.normalize(groups, dim=2).flatten(1, 2).chunk(2)
    scores = torch.einsum("bchx,bchy->bhxy", left, right) * (MATCHING_SCALE / PRESET.config.groups)
    place = torch.arange(scores.shape[-1]) - batch.disparity[:, 0, 2::4, 2::4] / 4
    below = place.floor().clamp(0, scores.shape[-1] - 2)
    share = (place - below).clamp(0, 1)
    log_shares = scores.log_softmax(-1)
    before, after = (log_shares.gather(-1, (below + step).long()[..., None])[..., 0] for step in (0, 1))
    return -(before * (1 - share) + after * share)[place >= 0].mean()


def train_features(kind: str, seed: int, mono: Path, path: Path) -> None:
    """Train the feature network of a variant to match, and save it."""
    parts = None if kind == "cnn_only" else mono
    config = parse_config("train", ["--config", str(RECIPES / f"{kind}.yaml"), "--out", "unused"])
    torch.manual_seed(seed)
    config.foundation_stereo.weights = parts
    network = build_foundation_stereo(config).train()
    learnt = [weight for weight in network.features.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(learnt, lr=FEATURE_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, FEATURE_RATE, total_steps=FEATURE_STEPS + 1, pct_start=0.05
    )
    for step, batch in enumerate(batches(FEATURE_STEPS, seed=MONO_SEED + 1 + seed, size=4)):
        images = network.normalised(torch.cat([batch.left, batch.right]))
        with torch.autocast("cpu", torch.bfloat16):
            features = network.features(images).quarter
        loss = matching_loss(features, batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 50 == 49:
            print(f"features {kind} {seed}: step {step}, loss {loss.item():.2f}", file=sys.stderr, flush=True)
    save_parts(network.features, path, prefix="features.", training={"kind": kind, "seed": str(seed)})


def run_variant(variant: str, seed: int, out: Path, scenes: list[StereoPair]) -> None:
    """Train one variant with one seed, as the command line does, and score it."""
    folder = out / variant / f"seed_{seed}"
    if (folder / "score.json").exists():
        return
    kind = variant if variant in OWN_FEATURES else "base"
    features = out / "features" / f"{kind}_seed_{seed}.safetensors"
    if not features.exists():
        train_features(kind, seed, out / "mono.safetensors", features)
    command = [sys.executable, "-m", "stereo.cli", "train", "--config", str(RECIPES / f"{variant}.yaml")]
    command += ["--seed", str(seed), "--out", str(folder), "--foundation_stereo.weights", str(features)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    network = load_foundation_stereo(folder / "foundation_stereo.safetensors")
    training = read_json(folder / "train.json", what="training record")
    iterations = training["config"]["iterations"]
    scores = validate(TrainedFoundationStereo(network, iterations, freeze_batch_norm=False).predict, scenes)
    facts = {**weights_and_work(network, iterations), "made_from": training["made_from"], "commit": commit()}
    write_json(folder / "score.json", {**mean_scores(scores, list(scores)), **facts, "images": scores})


def weights_and_work(network: FoundationStereo, iterations: int) -> dict[str, float]:
    """Parameters in all and trained, and multiply-accumulates of one pair at the training crop's size."""
    images = torch.zeros(1, 3, *CROP)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images, images, iterations=iterations)
    return {
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "trained": sum(weight.numel() for weight in network.parameters() if weight.requires_grad),
        "gmac": counter.get_total_flops() / 2e9,
    }


def constant_scores(scenes: list[StereoPair]) -> dict[str, float]:
    """Errors of the best that can be said without looking: the median disparity of all scenes, everywhere."""
    truths = [pair.disparity for pair in scenes if pair.disparity is not None]
    guess = np.full(HELD_OUT_SIZE, np.median(np.stack(truths)), np.float32)
    scores = {}
    for pair, truth in zip(scenes, truths, strict=True):
        errors = errors_against_truth(guess, truth, mask=pair.noc)
        assert errors.epe_px is not None
        scores[pair.name] = {"epe_px": errors.epe_px, "bad2_pct": errors.bad2_pct}
    return mean_scores(scores, list(scores))


def table(out: Path, seeds: list[int], scenes: list[StereoPair]) -> str:
    """The finished runs as a Markdown table."""
    constant = constant_scores(scenes)
    lines = [
        "| variant | trained / all parameters | GMAC | EPE px (lowest, highest) | bad-2 % (lowest, highest) |",
        "|---|---|---|---|---|",
    ]
    for variant in VARIANTS:
        paths = [out / variant / f"seed_{seed}" / "score.json" for seed in seeds]
        runs: list[dict[str, Any]] = [read_json(path, what="score") for path in paths if path.exists()]
        if not runs:
            continue
        missing = "" if len(runs) == len(seeds) else f", {len(runs)} seeds"
        lines.append(
            f"| {variant}{missing} | {runs[0]['trained']:,} / {runs[0]['parameters']:,} | {runs[0]['gmac']:.2f} "
            f"| {spread([run['epe_px'] for run in runs], 2)} | {spread([run['bad2_pct'] for run in runs], 1)} |"
        )
    lines.append(f"| one disparity everywhere | | | {constant['epe_px']:.2f} | {constant['bad2_pct']:.1f} |")
    return "\n".join(lines)


def spread(values: list[float], digits: int) -> str:
    """Mean, lowest and highest."""
    return f"{np.mean(values):.{digits}f} ({min(values):.{digits}f}, {max(values):.{digits}f})"


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--table", action="store_true", help="print the table of what is finished and train nothing")
    options = parser.parse_args()
    scenes = validation_scenes(HELD_OUT, HELD_OUT_SIZE, max_disp=PRESET.config.max_disp)
    if not options.table:
        options.out.mkdir(parents=True, exist_ok=True)
        if not (options.out / "mono.safetensors").exists():
            train_mono(options.out / "mono.safetensors", scenes)
        # Seed by seed, so that a run that is cut short has whole rounds.
        for seed in options.seeds:
            for variant in options.variants:
                run_variant(variant, seed, options.out, scenes)
    text = table(options.out, options.seeds, scenes)
    (options.out / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
