"""Times of students and of a peer network on pairs, in two runtimes each, all taking turns; see student_pairs.py."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from deploy.device import device_name
from deploy.measure import Timing, time_rounds
from deploy.models import variant_names
from deploy.run_pair import network_inputs, plan_fit
from deploy.runners.registry import import_runtime, open_runner
from stereo.artifacts import sha256_file
from stereo.errors import UserError
from stereo.fit_size import Fit
from stereo.pair import StereoPair
from student.checkpoint import load_student
from student.config import ApcForm
from student.export import export_student
from student.model import SIZE_MULTIPLE
from teacher.onnx_teacher import OnnxTeacher

# The spelling of axial-planar convolutions that suits each runtime.
FORMS: dict[str, ApcForm] = {"onnxruntime": "conv2d", "openvino": "conv3d"}
Steps = dict[tuple[str, str], Callable[[], object]]


def student_steps(name: str, path: Path, pair: StereoPair, folder: Path, options: argparse.Namespace) -> Steps:
    """One inference of a student in each runtime, exported for the size of the pair; an .onnx is taken as it is."""
    size = Fit.to_multiple(pair.height, pair.width, SIZE_MULTIPLE).network
    steps: Steps = {}
    for runtime, form in FORMS.items():
        graph = path
        if path.suffix == ".safetensors":
            graph = folder / f"{name}_{form}_{size[0]}x{size[1]}.onnx"
            if not graph.exists():
                student = load_student(path, max_disp=options.max_disp)
                export_student(student, graph, size=size, source_sha256=sha256_file(path), apc_form=form)
        runner = open_runner(graph, runtime, threads=options.threads)
        views = network_inputs(plan_fit(runner, pair.height, pair.width), pair)
        steps[name, runtime] = lambda runner=runner, views=views: runner.run(*views)
    return steps


def peer_steps(peer: OnnxTeacher, path: Path, pair: StereoPair, threads: int) -> Steps:
    """One inference of the peer in each runtime, without its pre- and post-processing.

    Raises:
        UserError: OpenVINO does not take the network.
    """
    feeds, _ = peer.feeds(pair.left, pair.right)
    ov = import_runtime("openvino")
    core = ov.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    try:
        model = core.read_model(str(path))
        model.reshape({name: list(value.shape) for name, value in feeds.items()})
        request = core.compile_model(model, "CPU", settings).create_infer_request()
        request.infer(feeds)
    except RuntimeError as error:
        raise UserError(f"OpenVINO does not take it: {str(error).splitlines()[-1]}", where=path) from error
    name = peer.description.name
    return {(name, "onnxruntime"): lambda: peer.infer(feeds), (name, "openvino"): lambda: request.infer(feeds)}


def faster(times_ms: dict[tuple[str, str], np.ndarray], network: str) -> np.ndarray:
    """Times of a network in the runtime with the smaller median."""
    return min((times for key, times in times_ms.items() if key[0] == network), key=lambda times: np.median(times))


def pair_times(
    pair: StereoPair, paths: Sequence[Path], peer: OnnxTeacher | None, folder: Path, options: argparse.Namespace
) -> dict[tuple[str, str], np.ndarray]:
    """(network, runtime) → times of all rounds, ms."""
    steps: Steps = {}
    for name, path in zip(variant_names(paths), paths, strict=True):
        steps |= student_steps(name, path, pair, folder, options)
    if peer is not None:
        steps |= peer_steps(peer, Path(options.peer), pair, options.threads)
    rounds = time_rounds(list(steps.values()), Timing(options.rounds, seconds=float("inf"), warmup=1))
    return {key: rounds[:, column] for column, key in enumerate(steps)}


def print_times(pairs: Sequence[StereoPair], paths: Sequence[Path], options: argparse.Namespace) -> None:
    """One row per pair: medians in ms, and the ratio of each student to the peer, each in its faster runtime.

    Raises:
        UserError: a network that a runtime does not take.
    """
    peer = OnnxTeacher.open(options.peer, threads=options.threads) if options.peer else None
    ratios: dict[str, list[float]] = {name: [] for name in variant_names(paths)}
    print(f"\nmedian ms of {options.rounds} rounds in turn, {options.threads} thread(s), {device_name()}\n")
    with tempfile.TemporaryDirectory() as folder:
        for index, pair in enumerate(pairs):
            times_ms = pair_times(pair, paths, peer, Path(folder), options)
            if index == 0:
                columns = [f"{network} {runtime}" for network, runtime in times_ms]
                columns += [f"{name} / {peer.description.name}" for name in ratios if peer is not None]
                print(f"| pair | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
            cells = [f"{np.median(times):.0f}" for times in times_ms.values()]
            for name in ratios if peer is not None else ():
                ratio = float(np.median(faster(times_ms, name) / faster(times_ms, peer.description.name)))
                ratios[name].append(ratio)
                cells.append(f"{ratio:.2f}")
            print(f"| {pair.name} {pair.width}x{pair.height} | {' | '.join(cells)} |", flush=True)
    for name, found in ratios.items():
        if found:
            print(f"\n{name}: mean ratio {statistics.mean(found):.3f}, largest {max(found):.3f}")
