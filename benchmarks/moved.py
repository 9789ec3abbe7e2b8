"""How far each variant of `quantize` moves the map from FP32, and its errors: every folder against its own fp32.onnx.

    OMP_NUM_THREADS=1 python benchmarks/moved.py PAIRS VARIANTS [VARIANTS …] [--runtime onnxruntime]

Scored as `sensitivity` scores: errors are means over the pairs, movement is over all pixels with truth or without.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import onnx

from calibration.judge import Judge
from stereo.benchmarks import load_pairs


def main() -> None:
    """Score all and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("variants", type=Path, nargs="+", help="folders that quantize wrote")
    parser.add_argument("--runtime", default="onnxruntime", choices=("onnxruntime", "openvino"))
    options = parser.parse_args()
    pairs = load_pairs(options.pairs)
    print("| graph | EPE px | bad-2 % | moved px | moved max px | moved > 3 px, % |\n|---|---|---|---|---|---|")
    for folder in options.variants:
        with tempfile.TemporaryDirectory() as work:
            judge = Judge(pairs, Path(work), runtime=options.runtime, threads=1)
            for path in sorted(folder.glob("*.onnx"), key=lambda path: path.stem != "fp32"):
                score = judge.score(onnx.load(path))
                print(
                    f"| {folder.name} {path.stem} | {score.epe_px:.4f} | {score.bad2_pct:.3f} | {score.moved_px:.3f} | "
                    f"{score.moved_max_px:.1f} | {score.moved_far_pct:.3f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
