"""What modelopt's torch side makes of a student, beside its ONNX side: size and error of the Q/DQ graph.

    OMP_NUM_THREADS=1 python benchmarks/modelopt_torch_side.py STUDENT VARIANTS --frames LABELSET --pairs PAIRS
        --out FILE.onnx

VARIANTS is a folder that `quantize` made of STUDENT: the same convolutions are quantised, with ranges from the same
frames. The module with fake quantisers is exported by the dynamo exporter, whose answer is printed, and by the older
TorchScript exporter. Both sides are scored in onnxruntime; the torch side has float32 for the rest.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
import torch

from calibration.record import RECORD_NAME, repeat_choice
from deploy.export import get_metadata, set_metadata
from deploy.run_pair import run_pair
from deploy.runners.registry import open_runner
from distill.qat import QUANTIZER, insert_quantisers
from stereo.artifacts import MANIFEST_NAME, read_json
from stereo.benchmarks import load_pairs
from stereo.label_set import LabelSet
from stereo.metrics import errors_against_truth
from stereo.options import parse_size
from stereo.pair import Disparity, StereoPair
from student.checkpoint import load_student
from student.model import StudentStereo

OPSET = 17  # the TorchScript exporter's newest for these operators


def quantised_module(student: StudentStereo, variants: Path, frames: LabelSet, size: tuple[int, int]) -> StudentStereo:
    """The student with modelopt's quantisers, all ranges set."""
    manifest = read_json(variants / MANIFEST_NAME, what="manifest of quantised graphs")
    names = manifest["precision"]["quantised"]
    choice = repeat_choice(variants / RECORD_NAME, frames)
    module, _ = insert_quantisers(student, names, frames, choice.indices, size)
    for name in {name.rpartition("/")[0] for name in names}:
        layer = module.get_submodule(name)
        weight = layer.get_parameter("weight").detach()
        quantiser = layer.get_submodule(f"weight{QUANTIZER}")
        quantiser.amax = weight.abs().amax(dim=tuple(range(1, weight.dim())), keepdim=True)
    return module.eval()


def export(module: StudentStereo, out: Path, size: tuple[int, int], *, dynamo: bool) -> None:
    """Through one of PyTorch's exporters."""
    views = tuple(torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 255 for _ in range(2))
    with torch.no_grad():
        torch.onnx.export(
            module, views, str(out), dynamo=dynamo, opset_version=OPSET + dynamo, input_names=["left", "right"],
            output_names=["disparity"],
        )  # fmt: skip


def maps(path: Path, pairs: list[StereoPair]) -> list[Disparity]:
    """The disparity of every pair."""
    runner = open_runner(path, "onnxruntime", threads=1)
    try:
        return [run_pair(runner, pair).disparity for pair in pairs]
    finally:
        runner.close()


def epe_px(found: list[Disparity], pairs: list[StereoPair]) -> float:
    """Mean over the pairs."""
    errors = []
    for disparity, pair in zip(found, pairs, strict=True):
        assert pair.disparity is not None
        errors.append(errors_against_truth(disparity, pair.disparity, mask=pair.noc).epe_px)
    return float(np.mean(errors))


def apart_px(one: list[Disparity], other: list[Disparity]) -> float:
    """Mean over the pairs of the mean difference."""
    return float(np.mean([np.abs(a - b).mean() for a, b in zip(one, other, strict=True)]))


def main() -> None:
    """Export, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("student")
    parser.add_argument("variants", type=Path)
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    config = read_json(options.variants / MANIFEST_NAME, what="manifest of quantised graphs")["config"]
    size = parse_size(config["size"])
    student = load_student(options.student, max_disp=config["max_disp"], iterations=config["iterations"])
    module = quantised_module(student, options.variants, LabelSet.open(options.frames), size)
    try:
        export(module, options.out, size, dynamo=True)
        print("dynamo exporter: works")
    except Exception as error:
        print(f"dynamo exporter: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
    export(module, options.out, size, dynamo=False)
    graph = onnx.load(options.out)
    set_metadata(graph, get_metadata(onnx.load(options.variants / "int8.onnx")))
    onnx.save(graph, options.out)

    pairs = load_pairs(options.pairs)
    plain = maps(options.variants / "fp32.onnx", pairs)
    sides = {"torch side": options.out, "ONNX side": options.variants / "int8.onnx"}
    found = {name: maps(path, pairs) for name, path in sides.items()}
    print(f"FP32: EPE {epe_px(plain, pairs):.4f} px")
    for name, path in sides.items():
        kinds = [node.op_type for node in onnx.load(path).graph.node]
        print(
            f"{name}: {len(kinds)} nodes, {kinds.count('QuantizeLinear')} QuantizeLinear; EPE "
            f"{epe_px(found[name], pairs):.4f} px, moved {apart_px(found[name], plain):.4f} px"
        )
    print(f"between them: {apart_px(*found.values()):.4f} px")


if __name__ == "__main__":
    main()
