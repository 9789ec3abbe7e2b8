"""What INT8 and FP16 cost and bring: speed in OpenVINO pair by pair, multiply-adds in integer kernels, differences.

    python benchmarks/quantization.py [STUDENT] [--frames LABELSET] [--size 480x640] [--variants DIR] [--method max]

STUDENT is a shipped name or a .safetensors file; without it, `nano` with fresh weights (seed 0): good enough for speed,
meaningless for differences. Without --frames, a label set of procedural scenes is rendered into a temporary folder.
With --variants, graphs that `stereodistill quantize` wrote are measured and nothing is made.

All graphs run in one process on one thread with INFERENCE_PRECISION_HINT=f32, one run of each per round in changing
order; the ratio is the median over rounds of INT8 time by FP32 time of the same round.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from calibration.config import CalibrationMethod
from calibration.quantize import quantize_student
from calibration.variants import ROLES
from deploy.measure import Timing, latency, time_rounds
from deploy.multiply_adds import multiply_adds
from deploy.runners.registry import import_runtime, open_runner
from deploy.textured_pair import textured_pair
from distill.scenes import render_scenes
from distill.scenes_config import SceneOptions
from stereo.artifacts import commit, tool_versions
from stereo.label_set import LabelledFrame, LabelSet
from stereo.label_set_writer import LabelSetWriter
from stereo.options import parse_size
from student.checkpoint import save_student
from student.presets import build_student

INTEGER = ("i8", "u8")


def render_label_set(folder: Path, size: tuple[int, int], count: int) -> LabelSet:
    """A label set of procedural scenes."""
    writer = LabelSetWriter(folder, identity={"source": {"kind": "scenes"}, "teacher": {"name": "truth"}}, max_disp=192)
    generator = torch.Generator().manual_seed(0)
    for index in range(count):
        scene = render_scenes(1, size, generator=generator, device="cpu", options=SceneOptions())
        left, right = (view[0].permute(1, 2, 0).round().byte().numpy() for view in (scene.left, scene.right))
        disparity = scene.disparity[0, 0].numpy()
        writer.add(index, LabelledFrame(f"{index:06d}", left, right, disparity, np.ones_like(disparity)))
    return LabelSet.open(writer.finish())


def integer_share(path: Path, names: Path) -> dict[str, Any]:
    """Share of the multiply-adds that OpenVINO compiled to integer kernels, and of the convolutions.

    Args:
        path: the graph to compile.
        names: the FP32 graph, whose multiply-adds are counted by node name.
    """
    work = multiply_adds(onnx.load(names))
    core = import_runtime("openvino").Core()
    compiled = core.compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    integer = set()
    for kernel in compiled.get_runtime_model().get_ops():
        facts = kernel.get_rt_info()
        if facts["runtimePrecision"].astype(str) in INTEGER:
            integer.update(facts["originalLayersNames"].astype(str).split(","))
    convolutions = [node.name for node in onnx.load(names).graph.node if node.op_type == "Conv"]
    return {
        "gmac": round(sum(work.values()) / 1e9, 3),
        "integer_mac_pct": round(100 * sum(work[name] for name in work if name in integer) / sum(work.values()), 2),
        "integer_convolutions": sum(name in integer for name in convolutions),
        "convolutions": len(convolutions),
    }


def time_variants(folder: Path, size: tuple[int, int], timing: Timing) -> dict[str, Any]:
    """Latency of each variant in OpenVINO, and its ratio to FP32."""
    pair = textured_pair(*size)
    left, right = (np.ascontiguousarray(view.transpose(2, 0, 1)[None], np.float32) for view in (pair.left, pair.right))
    runners = [open_runner(folder / f"{role}.onnx", "openvino", threads=1, precision_hint="f32") for role in ROLES]
    times_ms = time_rounds([lambda runner=runner: runner.run(left, right) for runner in runners], timing)
    return {
        role: vars(latency(times_ms[:, index], warmup=timing.warmup, fp32_ms=times_ms[:, 0]))
        for index, role in enumerate(ROLES)
    }


def make_variants(arguments: argparse.Namespace, folder: Path, size: tuple[int, int]) -> dict[str, Any]:
    """Quantise, timed. Returns what it took."""
    student = arguments.student
    if student is None:
        torch.manual_seed(0)
        student = save_student(build_student("nano"), folder / "nano.safetensors", training={})
    labels = LabelSet.open(arguments.frames) if arguments.frames else render_label_set(folder / "labels", size, 32)
    method: CalibrationMethod = arguments.method
    start = time.perf_counter()
    quantize_student(
        student, labels, size=size, out=folder / "variants", frame_count=arguments.frame_count, method=method
    )
    children, own = (resource.getrusage(who) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF))
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds_modelopt": round(children.ru_utime + children.ru_stime, 1),
        "peak_mb_modelopt": round(children.ru_maxrss * 1024 / 1e6),
        "peak_mb_own": round(own.ru_maxrss * 1024 / 1e6),
    }


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("student", nargs="?")
    parser.add_argument("--frames", type=Path)
    parser.add_argument("--frame_count", type=int, default=32)
    parser.add_argument("--size", default="480x640")
    parser.add_argument("--variants", type=Path)
    parser.add_argument("--method", default="max", choices=("max", "entropy"))
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    size = parse_size(arguments.size, multiple=32)
    with tempfile.TemporaryDirectory() as temporary:
        made = None if arguments.variants else make_variants(arguments, Path(temporary), size)
        folder = arguments.variants or Path(temporary) / "variants"
        manifest = json.loads((folder / "manifest.json").read_text())
        result = {
            "size": arguments.size,
            "student": arguments.student or "nano, fresh weights",
            "made": made,
            "openvino_f32_hint_1_thread": time_variants(folder, size, Timing(runs=arguments.rounds, seconds=180)),
            "int8": integer_share(folder / "int8.onnx", folder / "fp32.onnx"),
            "difference_from_fp32": {
                role: variant["difference_from_fp32"] for role, variant in manifest["variants"].items()
            },
        }
    result |= {
        "processor": platform.processor(), "cores": os.cpu_count(), "load_average": os.getloadavg(),
        "commit": commit(), "tools": tool_versions(),
    }  # fmt: skip
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
