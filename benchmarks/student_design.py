"""What each choice in the design of a student costs, and what it brings after an equal short training.

    OMP_NUM_THREADS=1 python benchmarks/student_design.py cost  --preset nano [--int8]
    OMP_NUM_THREADS=1 python benchmarks/student_design.py error --preset nano --steps 400 --seeds 0 1 2
    python benchmarks/student_design.py table --preset nano

A variant is the preset with one thing changed (`VARIANTS`). `cost` exports it with fresh weights and times it beside
the preset in the same rounds, on one thread: ratios are the median over rounds. OpenVINO gets the 3-D form of the
axial-planar convolution and onnxruntime the 2-D one, which suit them. `error` trains every variant, and the preset with
other losses and data (`TEACHING`), on the same procedural scenes for the same steps and scores it on held-out scenes,
and on pairs with truth where given.

OUT/PRESET/VARIANT/cost.json, seed_N/score.json     what is finished is not done again
           table.md
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from calibration.quantize import quantize_student
from deploy.measure import Timing, time_rounds
from deploy.runners.registry import open_runner
from deploy.textured_pair import textured_pair
from distill.config import DataOptions, LossOptions, TrainConfig
from distill.train import train
from distill.validation import mean_scores, validate, validation_scenes
from stereo.artifacts import commit, tool_versions, write_json
from stereo.benchmarks import load_pairs
from stereo.label_set import LabelledFrame, LabelSet
from stereo.label_set_writer import LabelSetWriter
from stereo.options import parse_size
from stereo.pair import StereoPair
from student.activation_memory import activation_memory_mb
from student.checkpoint import load_student, save_student
from student.config import ApcForm
from student.export import export_student
from student.model import StudentConfig, StudentStereo
from student.presets import PRESETS
from student.runner import predict_pair
from student.summary import count_macs

# For each block of the network, what could be otherwise.
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "nano": {
        "base": {},
        "narrow encoder": {"widths": (16, 24, 48, 96)},
        "wide encoder": {"widths": (16, 32, 64, 128)},
        "deeper encoder": {"blocks": (2, 2, 3)},
        "groups 4": {"groups": 4},
        "groups 16": {"groups": 16},
        "no concatenation": {"concat_channels": 0},
        "APC kernel 5": {"disparity_kernel": 5},
        "APC kernel 17": {"disparity_kernel": 17},
        "two-level hourglass": {"volume_widths": (16, 32)},
        "wide volume": {"volume_widths": (32, 48, 64)},
        "no DT": {"transformer_layers": 0},
        "DT 4 layers": {"transformer_layers": 4},
        "DT 1 layer, patch 4": {"transformer_layers": 1, "transformer_patch": 4},
        "two levels, DT 1 layer, patch 4": {
            "volume_widths": (16, 32),
            "transformer_layers": 1,
            "transformer_patch": 4,
        },
        "lookup radius 2": {"lookup_radius": 2},
        "1 iteration": {"iterations": 1},
        "3 iterations": {"iterations": 3},
        "GRU 48": {"hidden": 48},
        "GRU 24": {"hidden": 24},
    },
    "small": {
        "base": {},
        "narrow encoder": {"widths": (24, 48, 64, 96)},
        "deeper encoder, GRU 48": {"blocks": (2, 2, 3), "hidden": 48},
        "APC kernel 5": {"disparity_kernel": 5},
        "APC kernel 17": {"disparity_kernel": 17},
        "volume 16": {"volume_widths": (16, 32, 64)},
        "no DT": {"transformer_layers": 0},
        "1 iteration": {"iterations": 1},
        "3 iterations, GRU 48": {"iterations": 3, "hidden": 48},
    },
}
# For what it learns from, with the preset's own network: options of the loss and of the data.
TEACHING: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain L1": ({"robust_px": 0.0}, {}),
    "no plane term": ({"planes": 0.0}, {}),
    "hidden pixels in full": ({}, {"occluded_weight": 1.0}),
    "none of the three": ({"robust_px": 0.0, "planes": 0.0}, {"occluded_weight": 1.0}),
}
RUNTIMES: tuple[tuple[str, ApcForm], ...] = (("onnxruntime", "conv2d"), ("openvino", "conv3d"))
CALIBRATION_FRAMES = 4
HELD_OUT = 32


def folder_of(out: Path, preset: str, variant: str) -> Path:
    """Where the results of a variant are."""
    return out / preset / variant.replace(" ", "_").replace(",", "")


def variant_config(preset: str, variant: str) -> StudentConfig:
    """The configuration of a variant."""
    return dataclasses.replace(PRESETS[preset], **VARIANTS[preset].get(variant, {}))


def fresh(config: StudentConfig) -> StudentStereo:
    """A student with weights of seed 0."""
    torch.manual_seed(0)
    return StudentStereo(config).eval()


def calibration_set(folder: Path, size: tuple[int, int]) -> LabelSet:
    """A few textured pairs as a label set; fresh weights need no better ones."""
    identity = {"source": {"kind": "made up"}, "teacher": {"name": "none"}}
    writer = LabelSetWriter(folder, identity=identity, max_disp=192)
    for index in range(CALIBRATION_FRAMES):
        pair = textured_pair(*size)
        right = np.roll(pair.right, 8 * index, axis=1)
        disparity = np.full(size, 16, np.float32)
        writer.add(index, LabelledFrame(f"{index:06d}", pair.left, right, disparity, np.ones_like(disparity)))
    return LabelSet.open(writer.finish())


def graphs(config: StudentConfig, folder: Path, size: tuple[int, int], *, int8: bool) -> dict[str, tuple[str, Path]]:
    """Name of a timing → (runtime, ONNX file) of a student with fresh weights."""
    found = {}
    for runtime, form in RUNTIMES:
        path = export_student(fresh(config), folder / f"{form}.onnx", size=size, source_sha256="", apc_form=form)
        found[f"{runtime} fp32"] = (runtime, path)
    if int8:
        weights = save_student(fresh(config), folder / "student.safetensors", training={})
        frames = calibration_set(folder / "frames", size)
        made = quantize_student(weights, frames, size=size, out=folder / "int8", frame_count=CALIBRATION_FRAMES)
        found["openvino int8"] = ("openvino", made / "int8.onnx")
    return found


def measure_cost(preset: str, variant: str, size: tuple[int, int], *, timing: Timing, int8: bool) -> dict[str, Any]:
    """Operations, size, memory and times of a variant, and its times by those of the preset in the same rounds."""
    config = variant_config(preset, variant)
    network = fresh(config)
    pair = textured_pair(*size)
    left, right = (np.ascontiguousarray(view.transpose(2, 0, 1)[None].astype(np.float32))
                   for view in (pair.left, pair.right))  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        mine = graphs(config, Path(scratch) / "variant", size, int8=int8)
        base = graphs(PRESETS[preset], Path(scratch) / "base", size, int8=int8)
        nodes = len(onnx.load(mine["openvino fp32"][1], load_external_data=False).graph.node)
        times, ratios = {}, {}
        for name in mine:
            runners = [open_runner(path, runtime) for runtime, path in (mine[name], base[name])]
            steps = [lambda runner=runner: runner.run(left, right) for runner in runners]
            table = time_rounds(steps, timing)
            times[name] = float(np.median(table[:, 0]))
            ratios[name] = float(np.median(table[:, 0] / table[:, 1]))
    return {
        "gmac": count_macs(network, size)["total"],
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "activations_mb": activation_memory_mb(network, *torch.zeros(2, 1, 3, *size))["total"],
        "nodes": nodes, "size": list(size), "time_ms": times, "time_ratio": ratios,
        "rounds": timing.runs, "tools": tool_versions(), "commit": commit(),
    }  # fmt: skip


def train_variant(preset: str, variant: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train a variant and score it on scenes, and on pairs, that no variant was trained on."""
    folder = folder_of(options.out, preset, variant) / f"seed_{seed}"
    name = f"{preset}: {variant}"
    PRESETS[name] = dataclasses.replace(variant_config(preset, variant), preset=name)
    loss, taught_on = TEACHING.get(variant, ({}, {}))
    data = DataOptions(crop=options.crop, textures=options.textures, scene_reuse=options.scene_reuse, **taught_on)
    config = TrainConfig(
        out=folder, preset=name, steps=options.steps, seed=seed, data=data, loss=LossOptions(**loss), validate_every=0
    )  # fmt: skip
    network = load_student(train(config))
    groups: dict[str, list[StereoPair]] = {
        "scenes": validation_scenes(HELD_OUT, parse_size(options.crop, multiple=32), max_disp=network.config.max_disp)
    }
    if options.pairs:
        groups["pairs"] = load_pairs(options.pairs)
    result: dict[str, Any] = {"seed": seed, "steps": options.steps, "crop": options.crop, "commit": commit()}
    for group, pairs in groups.items():
        scores = validate(lambda pair: predict_pair(network, pair), pairs)
        result[group] = {**mean_scores(scores, list(scores)), "images": scores}
    return result


def spread(values: list[float], digits: int) -> str:
    """Mean, lowest and highest."""
    middle = f"{np.mean(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f}, {max(values):.{digits}f})"


def table(out: Path, preset: str) -> str:
    """What is finished, as a Markdown table."""
    heads = ["variant", "GMAC", "parameters k", "activations MB", "nodes", "time / base, onnxruntime", "OpenVINO",
             "OpenVINO INT8", "seeds", "scenes EPE px", "bad-2 %", "pairs EPE px", "bad-2 %"]  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for variant in [*VARIANTS[preset], *TEACHING]:
        folder = folder_of(out, preset, variant)
        cells = [""] * 7
        if (folder / "cost.json").exists():
            cost = json.loads((folder / "cost.json").read_text())
            ratios = [cost["time_ratio"].get(key) for key in ("onnxruntime fp32", "openvino fp32", "openvino int8")]
            cells = [f"{cost['gmac']:.2f}", f"{cost['parameters'] / 1e3:.0f}", f"{cost['activations_mb']:.0f}",
                     str(cost["nodes"]), *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios)]  # fmt: skip
        runs = [json.loads(path.read_text()) for path in sorted(folder.glob("seed_*/score.json"))]
        cells.append(str(len(runs)) if runs else "")
        for group in ("scenes", "pairs"):
            scored = [run[group] for run in runs if group in run]
            cells += [spread([score[key] for score in scored], digits) if scored else ""
                      for key, digits in (("epe_px", 2), ("bad2_pct", 1))]  # fmt: skip
        if any(cells):
            lines.append(f"| {variant} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Do what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("cost", "error", "table"))
    parser.add_argument("--preset", choices=list(VARIANTS), default="nano")
    parser.add_argument("--variants", nargs="+", help="some of them; all when left out")
    parser.add_argument("--out", type=Path, default=Path("runs/design"))
    parser.add_argument("--size", default="480x640", help="cost: of the graphs")
    parser.add_argument("--rounds", type=int, default=15, help="cost: timed runs of each graph")
    parser.add_argument("--int8", action="store_true", help="cost: time the INT8 graph in OpenVINO too")
    parser.add_argument("--steps", type=int, default=400, help="error: training steps of 4 pairs")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--crop", default="192x384", help="error: of the training and of the held-out scenes")
    parser.add_argument("--scene-reuse", type=int, default=2, help="error: crops of each rendered scene")
    parser.add_argument("--textures", type=Path, help="error: photographs for the scenes")
    parser.add_argument("--pairs", type=Path, help="error: pairs with truth to score on as well")
    options = parser.parse_args()
    known = [*VARIANTS[options.preset], *(TEACHING if options.what != "cost" else ())]
    chosen = options.variants or known
    if unknown := set(chosen) - set(known):
        parser.error(f"no variant {sorted(unknown)} of {options.preset}")
    if options.what == "cost":
        timing = Timing(options.rounds, seconds=600, warmup=2)
        for variant in chosen:
            path = folder_of(options.out, options.preset, variant) / "cost.json"
            if not path.exists():
                size = parse_size(options.size, multiple=32)
                write_json(path, measure_cost(options.preset, variant, size, timing=timing, int8=options.int8))
                print(f"{variant}: done", flush=True)
    if options.what == "error":
        # Seed by seed, so that a run that is cut short has whole rounds.
        for seed in options.seeds:
            for variant in chosen:
                path = folder_of(options.out, options.preset, variant) / f"seed_{seed}" / "score.json"
                if not path.exists():
                    write_json(path, train_variant(options.preset, variant, seed, options))
    text = table(options.out, options.preset)
    (options.out / options.preset).mkdir(parents=True, exist_ok=True)
    (options.out / options.preset / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
