"""Where the time of a variant goes, layer by layer, told by each runtime's own profiler.

Profiling slows a run and sometimes changes it, so the model is opened once more for it, and its sum is no latency.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from deploy.onnx_stereo import read_stereo_graph
from deploy.profile_records import Layers, LayerTime
from deploy.runners.onnxruntime_runner import DISABLED_OPTIMISERS, PROVIDER
from deploy.runners.openvino_runner import keep_concatenations
from deploy.runners.protocol import Floats, Runner, TellsLayerTimes
from deploy.runners.registry import import_runtime
from stereo.errors import UserError

RUNS = 10
WARMUP = 2
MOST = 50
KERNEL = "_kernel_time"
MODULE = re.compile(r"([A-Za-z_]\w*)(?:\.\w+)*/")
# What onnxruntime appends to an output's name to call the node that it computes in blocks of channels.
BLOCKED = "_nchwc"
# What OpenVINO appends to a convolution whose bias it took apart and put back.
BIAS_APART = "/WithoutBiases"


def measure_layers(runner: Runner, path: Path, inputs: tuple[Floats, Floats], *, runs: int = RUNS) -> Layers | None:
    """Time of each layer on one pair.

    Args:
        runner: an open runner of the model, whose settings are taken over.
        path: the model file.
        inputs: left and right, as the network takes them.

    Returns:
        None where the runtime does not tell.
    """
    if isinstance(runner, TellsLayerTimes):
        return summarise_layers({(name, ""): time_ms for name, time_ms in runner.layer_times_ms().items()}, runs=None)
    profiler = PROFILERS.get(runner.runtime)
    if profiler is None:
        return None
    return summarise_layers(profiler(runner, path, inputs, runs), runs=runs)


def summarise_layers(times_ms: Mapping[tuple[str, str], float], *, runs: int | None) -> Layers:
    """The slowest of all layers, and their sum.

    Args:
        times_ms: (name, kind) → mean time of one run.
    """
    timed = [LayerTime(name, kind, round(time_ms, 5)) for (name, kind), time_ms in times_ms.items() if time_ms > 0]
    parts: dict[str, float] = defaultdict(float)
    for (name, _), time_ms in times_ms.items():
        parts[part_of(name)] += time_ms
    summed = [LayerTime(name, "", round(time_ms, 5)) for name, time_ms in parts.items() if time_ms > 0]
    layers, parts_sorted = (tuple(sorted(items, key=lambda item: -item.mean_ms)) for items in (timed, summed))
    return Layers(round(sum(times_ms.values()), 4), len(timed), runs, layers[:MOST], parts_sorted)


def part_of(name: str) -> str:
    """The outermost module of the first node that a layer's name tells; "other" for a name that a runtime made up.

    Layers of fused nodes are called "backbone.0/Conv + backbone.0/Relu" or "PWN(backbone.0/Sigmoid)".
    """
    match = MODULE.search(name)
    return match[1] if match else "other"


def onnxruntime_layers(
    runner: Runner, path: Path, inputs: tuple[Floats, Floats], runs: int
) -> dict[tuple[str, str], float]:
    """Through the session's own profile, a JSON file of events."""
    graph = read_stereo_graph(path)
    feed = graph.feed(*inputs)
    ort = import_runtime("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = runner.threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "layers")
        session = ort.InferenceSession(
            str(path), options, providers=[PROVIDER], disabled_optimizers=DISABLED_OPTIMISERS
        )
        for _ in range(WARMUP + runs):
            session.run([graph.output], feed)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    owners = {
        output: node.name
        for node in onnx.load(str(path), load_external_data=False).graph.node
        for output in node.output
    }
    times_ms: dict[tuple[str, str], float] = defaultdict(float)
    for (name, kind), time_ms in mean_of_events(events, runs).items():
        times_ms[owners.get(name.removesuffix(BLOCKED), name), kind] += time_ms
    return times_ms


def mean_of_events(events: Sequence[Mapping[str, Any]], runs: int) -> dict[tuple[str, str], float]:
    """Mean milliseconds per (node, operation) over the last so many runs of an onnxruntime profile.

    Raises:
        UserError: there are no node times in it.
    """
    kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith(KERNEL)]
    whole = sorted(event["ts"] for event in events if event.get("name") == "model_run")
    begin = whole[-runs] if len(whole) >= runs else 0
    total_us: dict[tuple[str, str], float] = defaultdict(float)
    for event in kernels:
        if event["ts"] >= begin:
            total_us[event["name"].removesuffix(KERNEL), event["args"].get("op_name", "")] += event["dur"]
    if not total_us:
        raise UserError("onnxruntime's profile holds no times of nodes", fix="--layers false leaves them out")
    return {key: value / 1e3 / runs for key, value in total_us.items()}


def openvino_layers(
    runner: Runner, path: Path, inputs: tuple[Floats, Floats], runs: int
) -> dict[tuple[str, str], float]:
    """Through the request's profiling information, with the same settings as the runner's."""
    graph = read_stereo_graph(path)
    feed = graph.feed(*inputs)
    ov = import_runtime("openvino")
    core = ov.Core()
    model = core.read_model(str(path))
    if graph.size is None:
        model.reshape({name: list(view.shape) for name, view in feed.items()})
    settings = {
        "INFERENCE_PRECISION_HINT": runner.precision_hint, "INFERENCE_NUM_THREADS": runner.threads, "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY", "PERF_COUNT": True,
    }  # fmt: skip
    keep_concatenations(ov, model)
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    total_ms: dict[tuple[str, str], float] = defaultdict(float)
    for index in range(WARMUP + runs):
        request.infer(feed, share_inputs=True)
        for layer in request.profiling_info if index >= WARMUP else ():
            if layer.status == ov.ProfilingInfo.Status.EXECUTED:
                total_ms[layer.node_name.removesuffix(BIAS_APART), layer.exec_type] += (
                    1e3 * layer.real_time.total_seconds()
                )
    return {key: value / runs for key, value in total_ms.items()}


PROFILERS: dict[str, Callable[[Runner, Path, tuple[Floats, Floats], int], dict[tuple[str, str], float]]] = {
    "onnxruntime": onnxruntime_layers,
    "openvino": openvino_layers,
}
