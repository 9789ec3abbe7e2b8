"""What every line of the tables in `calibration.precision` buys: each is left out once, all else as `quantize` does it.

    OMP_NUM_THREADS=1 python benchmarks/precision_prices.py STUDENT --frames LABELSET --truth PAIRS --out OUT
        [--size 480x640] [--frame-count 128]

KEEP_FP32: FP16 graphs in which the nodes of one line compute in half precision. KEEP_FLOAT: graphs in which the
convolutions of one line are quantised as well, all from one calibration, with float32 for the rest. Scored in
onnxruntime, which computes half precision in float32 and rounds what comes out: sums that overflow on a GPU do not
here. Scores are kept in OUT/scores.json; a stopped run goes on. Prints two Markdown tables.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import onnx

from calibration.frames import choose_frames
from calibration.integer_graph import integer_graph
from calibration.judge import Judge
from calibration.partial import quantise_only
from calibration.precision import KEEP_FLOAT, KEEP_FP32, convolutions_kept_float, nodes_kept_fp32, quantised_nodes
from deploy.multiply_adds import multiply_adds
from stereo.benchmarks import load_pairs
from stereo.label_set import LabelSet
from stereo.options import parse_size
from student.checkpoint import find_student, load_student
from student.export import export_student
from student.model import SIZE_MULTIPLE

# modelopt changes onnxruntime in the process it runs in.
CONVERT = "import json, sys; from calibration.modelopt_worker import to_fp16; to_fp16(*json.loads(sys.argv[1]))"
HEAD = "| {} | nodes | {} EPE px | bad-2 % | max error px | moved px | moved max px | moved > 3 px, % |"


def half(fp32: Path, target: Path, kept: list[str]) -> onnx.ModelProto:
    """The FP16 graph in which the named nodes stay in float32, with the metadata of the original."""
    job = json.dumps([str(fp32), str(target), kept])
    subprocess.run([sys.executable, "-c", CONVERT, job], check=True, capture_output=True, cwd=target.parent)
    model = onnx.load(target)
    del model.metadata_props[:]
    model.metadata_props.extend(onnx.load(fp32).metadata_props)
    return model


def line(name: str, nodes: int | str, extra: str, score: Any) -> str:
    """A row of a table."""
    return (
        f"| {name} | {nodes} | {extra}{score.epe_px:.4f} | {score.bad2_pct:.3f} | {score.max_error_px:.1f} | "
        f"{score.moved_px:.5f} | {score.moved_max_px:.2f} | {score.moved_far_pct:.4f} |"
    )


def half_precision(fp32: Path, folder: Path, judge: Judge) -> list[str]:
    """The table of KEEP_FP32."""
    original = onnx.load(fp32)
    lines = [HEAD.format("FP16, without the line", ""), "|---" * 8 + "|", line("FP32", "", "", judge.score(original))]
    lines.append(
        line("(FP16 as it ships)", "", "", judge.score(half(fp32, folder / "h.onnx", nodes_kept_fp32(original))))
    )
    for rule in KEEP_FP32:
        kept = nodes_kept_fp32(original, [other for other in KEEP_FP32 if other is not rule])
        count = len(nodes_kept_fp32(original)) - len(kept)
        lines.append(line(rule.name, count, "", judge.score(half(fp32, folder / "h.onnx", kept))))
    return [*lines, line("(all lines)", "", "", judge.score(half(fp32, folder / "h.onnx", [])))]


def integers(fp32: Path, everything: onnx.ModelProto, judge: Judge) -> list[str]:
    """The table of KEEP_FLOAT."""
    original = onnx.load(fp32)
    work, names = multiply_adds(original), quantised_nodes(everything)
    kept = set(convolutions_kept_float(original))
    default = [name for name in names if name not in kept]
    total = sum(work.values())

    def score(quantised: list[str], name: str, nodes: int | str) -> str:
        share = f"{100 * sum(work[node] for node in quantised) / total:.1f} | "
        return line(name, nodes, share, judge.score(quantise_only(everything, original, quantised)))

    lines = [HEAD.format("INT8, without the line", "% of MACs in INT8 |"), "|---" * 9 + "|"]
    lines.append(score(default, "(INT8 as it ships)", ""))
    for rule in KEEP_FLOAT:
        own = [name for name in names if rule.matches(name)]
        if own:
            lines.append(score([name for name in names if name in {*default, *own}], rule.name, len(own)))
        else:
            lines.append(f"| {rule.name} | 0 | modelopt leaves these in float by itself | | | | | | |")
    return [*lines, score(names, "(all lines)", "")]


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("student")
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", default="480x640")
    parser.add_argument("--frame-count", type=int, default=128)
    given = parser.parse_args()
    labels, size = LabelSet.open(given.frames), parse_size(given.size, multiple=SIZE_MULTIPLE)
    path = find_student(given.student)
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        fp32 = export_student(load_student(path), folder / "fp32.onnx", size=size, source_sha256="of no file")
        judge = Judge(
            load_pairs(given.truth), folder, runtime="onnxruntime", threads=1, kept=given.out / "scores.json",
            identity=str(given.truth.resolve()),
        )  # fmt: skip
        lines = half_precision(fp32, folder, judge)
        chosen = choose_frames(labels, given.frame_count, selection="coverage", seed=0).indices
        everything, _ = integer_graph(
            fp32, folder, labels=labels, frames=chosen, size=size, method="max", keep_float=[]
        )  # fmt: skip
        lines += ["", *integers(fp32, everything, judge)]
    (given.out / "prices.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
