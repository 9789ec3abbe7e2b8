"""Is the same graph the same network everywhere? Each variant of `quantize` in onnxruntime, OpenVINO and TensorRT-RTX.

    OMP_NUM_THREADS=1 python benchmarks/cross_runtime.py VARIANTS PAIRS [--precision-hints f32,bf16]

VARIANTS is a folder that `stereodistill quantize` wrote. On every pair the disparity of OpenVINO is compared with
onnxruntime's on the same file, over all pixels, and with the truth; TensorRT-RTX parses and builds it ahead of time
(compute capability 8.6), which says that it is valid there and nothing about its numbers. "integer" counts the
convolutions and matrix products that the runtime compiled to integer kernels: a Q/DQ graph with 0 there runs in float.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from pathlib import Path

import numpy as np

from deploy.config import BuildConfig
from deploy.device import device_name, has_byte_dot_products
from deploy.engine import build
from deploy.run_pair import run_pair
from deploy.runners.registry import open_runner
from stereo.benchmarks import load_pairs
from stereo.errors import UserError
from stereo.metrics import errors_against_truth
from stereo.pair import Disparity, StereoPair

KERNELS = "runtime.integer_kernels"


def run(path: Path, runtime: str, hint: str, pairs: list[StereoPair]) -> tuple[list[Disparity], str]:
    """Disparities, and how many kernels are integer ones."""
    runner = open_runner(path, runtime, threads=1, precision_hint=hint)
    try:
        found = [run_pair(runner, pair) for pair in pairs]
    finally:
        runner.close()
    if broken := sum(prediction.nonfinite_pixels or 0 for prediction in found):
        raise SystemExit(f"{path} in {runtime} {hint}: {broken} pixels are NaN or infinite")
    return [prediction.disparity for prediction in found], runner.metadata.get(KERNELS, "").split(" convolutions")[0]


def epe_px(maps: list[Disparity], pairs: list[StereoPair]) -> float:
    """Mean over the pairs of the end-point error."""
    errors = []
    for disparity, pair in zip(maps, pairs, strict=True):
        assert pair.disparity is not None
        errors.append(errors_against_truth(disparity, pair.disparity, mask=pair.noc).epe_px)
    return float(np.mean(errors))


def rtx_says(path: Path) -> str:
    """What TensorRT-RTX makes of the file."""
    if importlib.util.find_spec("tensorrt_rtx_bindings") is None:
        return "not installed"
    with tempfile.TemporaryDirectory() as folder:
        try:
            engine = build(BuildConfig(str(path), runtime="tensorrt_rtx", out=f"{folder}/variant.engine"))
        except UserError as error:
            return str(error)
        return f"builds, {engine.stat().st_size / 1e6:.1f} MB"


def main() -> None:
    """Run all, print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", type=Path)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--precision-hints", default="f32")
    given = parser.parse_args()
    pairs = load_pairs(given.pairs)
    print(f"{device_name()}; 8-bit dot products: {'yes' if has_byte_dot_products() else 'no'}\n")
    print(
        "| graph | runtime | integer kernels | EPE px | differs from onnxruntime: mean px | p99 | max | TensorRT-RTX |"
    )
    print("|---" * 8 + "|")
    for path in sorted(given.variants.glob("*.onnx")):
        reference, kernels = run(path, "onnxruntime", "f32", pairs)
        print(f"| {path.stem} | onnxruntime | {kernels} | {epe_px(reference, pairs):.4f} | | | | {rtx_says(path)} |")
        for hint in given.precision_hints.split(","):
            maps, kernels = run(path, "openvino", hint, pairs)
            moved = np.concatenate([np.abs(a - b).ravel() for a, b in zip(maps, reference, strict=True)])
            print(f"| {path.stem} | OpenVINO {hint} | {kernels} | {epe_px(maps, pairs):.4f} | {moved.mean():.5f} | "
                  f"{np.quantile(moved, 0.99):.4f} | {moved.max():.2f} | |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
