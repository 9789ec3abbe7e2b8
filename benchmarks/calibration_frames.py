"""Which frames, how many, and which method: what the calibration of a student is worth.

    OMP_NUM_THREADS=1 python benchmarks/calibration_frames.py STUDENT --frames LABELSET --truth PAIRS [--size 480x640]
        [--counts 16 64 128] [--selections coverage stratified random consecutive] [--methods max entropy] [--seeds 0]

Every combination calibrates the student anew (default table of `calibration.precision`, float32 for the rest) and is
scored as `sensitivity` scores: errors on pairs with truth, and how far the map moves from FP32. Coverage has no seed:
it runs once. Finished combinations are kept in OUT/results.json; a stopped run goes on. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import onnx

from calibration.config import CalibrationMethod, Selection
from calibration.frames import choose_frames
from calibration.integer_graph import integer_graph
from calibration.judge import Judge
from calibration.precision import convolutions_kept_float
from stereo.artifacts import commit, sha256_file, tool_versions, write_json
from stereo.benchmarks import load_pairs
from stereo.label_set import LabelSet
from stereo.options import parse_size
from student.checkpoint import find_student, load_student
from student.export import export_student
from student.model import SIZE_MULTIPLE


def combinations(options: argparse.Namespace, total: int) -> list[tuple[CalibrationMethod, int, Selection, int]]:
    """Method, frames, selection and seed of every calibration; a selection means nothing when all frames are taken."""
    found: dict[tuple[CalibrationMethod, int, Selection, int], None] = {}
    for method, count, selection, seed in itertools.product(
        options.methods, options.counts, options.selections, options.seeds
    ):
        if count >= total:
            found[(method, total, "coverage", 0)] = None
        else:
            found[(method, count, selection, 0 if selection == "coverage" else seed)] = None
    return list(found)


def table(results: dict[str, Any]) -> str:
    """Markdown: a line for each calibration."""
    lines = ["| method | frames | selection | seed | EPE px | bad-2 % | max error px | moved px | moved > 3 px, % |",
             "|---" * 9 + "|"]  # fmt: skip
    for name, score in results["scores"].items():
        method, count, selection, seed = name.split(" ") if name != "fp32" else ("FP32", "", "", "")
        lines.append(
            f"| {method} | {count} | {selection} | {seed} | {score['epe_px']:.4f} | {score['bad2_pct']:.3f} | "
            f"{score['max_error_px']:.1f} | {score['moved_px']:.4f} | {score['moved_far_pct']:.4f} |"
        )
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("student", help="a shipped student's name or a .safetensors file")
    parser.add_argument("--frames", type=Path, required=True, help="label set")
    parser.add_argument("--truth", type=Path, required=True, help="pairs with truth")
    parser.add_argument("--out", type=Path, default=Path("runs/calibration_frames"))
    parser.add_argument("--size", default="480x640")
    parser.add_argument("--counts", type=int, nargs="+", default=[16, 64, 128])
    parser.add_argument("--selections", nargs="+", default=list(get_args(Selection)), choices=get_args(Selection))
    parser.add_argument("--methods", nargs="+", default=["max"], choices=get_args(CalibrationMethod))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    return parser.parse_args()


def main() -> None:
    """Do what is missing and print the table."""
    options = arguments()
    size = parse_size(options.size, multiple=SIZE_MULTIPLE)
    source = find_student(options.student)
    labels, path = LabelSet.open(options.frames), options.out / "results.json"
    setup = {"student": sha256_file(source), "labels": labels.fingerprint(), "size": options.size}
    results: dict[str, Any] = {"setup": setup, "scores": {}}
    if path.exists():
        results = json.loads(path.read_text())
        if results["setup"] != setup:
            raise SystemExit(f"{path} is of another student, label set or size: give another --out")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fp32 = export_student(load_student(source), folder / "fp32.onnx", size=size, source_sha256=setup["student"])
        judge = Judge(load_pairs(options.truth), folder, runtime="onnxruntime", threads=1)
        original = onnx.load(fp32)
        kept = convolutions_kept_float(original)
        results["scores"]["fp32"] = asdict(judge.score(original))
        for method, count, selection, seed in combinations(options, len(labels)):
            key = f"{method} {count} {selection} {seed}"
            if key not in results["scores"]:
                chosen = choose_frames(labels, count, selection=selection, seed=seed).indices
                made, _ = integer_graph(
                    fp32, folder, labels=labels, frames=chosen, size=size, method=method, keep_float=kept
                )  # fmt: skip
                results["scores"][key] = asdict(judge.score(made))
                write_json(path, {**results, "tools": tool_versions(), "commit": commit()})
                print(f"{key}: done", flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
