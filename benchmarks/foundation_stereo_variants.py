"""The ways of running FoundationStereo that benchmarks/foundation_stereo.py compares, timed and weighed."""

from __future__ import annotations

import argparse
import contextlib
import resource
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from foundation_stereo_stages import Stages, now
from foundation_stereo_workload import load_network
from plain_foundation_stereo import PlainFoundationStereo

from teacher.foundation_stereo import FoundationStereo
from teacher.fusing import prepare_for_inference

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
GB = 1e9


@dataclass
class Variant:
    """A network and the way it is run.

    Args:
        precision: see --precision.
        run: left, right → disparity; the network itself, or its compiled form.
    """

    name: str
    network: FoundationStereo
    precision: str
    stages: Stages
    run: Callable[..., torch.Tensor]


def make_variant(name: str, options: argparse.Namespace, device: torch.device) -> Variant:
    """One of `fast`, `unprepared`, `fp32`, `plain`, on the device."""
    network = load_network(options, PlainFoundationStereo if name == "plain" else FoundationStereo).to(device)
    if name in ("fast", "fp32"):
        prepare_for_inference(network, channels_last=options.channels_last)
    stages = Stages(network, device)
    run = torch.compile(network) if options.compile and name != "plain" else network
    return Variant(name, network, "fp32" if name == "fp32" else options.precision, stages, run)


@contextlib.contextmanager
def running(precision: str, device: torch.device) -> Iterator[None]:
    """Inference in a precision. tf32 concerns GPUs, where it is off in every other one."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    half = HALF.get(precision)
    autocast = torch.autocast(device.type, dtype=half) if half is not None else contextlib.nullcontext()
    with torch.inference_mode(), autocast:
        yield


def time_rounds(
    jobs: Mapping[str, Callable[[], object]], options: argparse.Namespace, *, warmup: int = 1
) -> dict[str, list[float]]:
    """Seconds of every job in every round, after `warmup` rounds that do not count."""
    device = torch.device(options.device)
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(-warmup, options.rounds):
        for name, job in jobs.items():
            start = now(device)
            job()
            if number >= 0:
                seconds[name].append(now(device) - start)
    return seconds


def ratio(times: list[float], base: list[float]) -> float:
    """Median of the rounds' ratios."""
    return statistics.median(one / other for one, other in zip(times, base, strict=True))


def one_forward(
    variant: Variant, left: torch.Tensor, right: torch.Tensor, options: argparse.Namespace
) -> Callable[[], torch.Tensor]:
    """A job for `time_rounds`; on a CPU the stages are timed along with the whole."""

    def job() -> torch.Tensor:
        variant.stages.running = left.device.type == "cpu" and not options.compile
        with running(variant.precision, left.device):
            disparity = variant.run(left, right, iterations=options.iterations)
        variant.stages.running = False
        return disparity

    return job


def stage_pass(variant: Variant, left: torch.Tensor, right: torch.Tensor, options: argparse.Namespace) -> None:
    """Time the stages of a GPU apart, as synchronising slows them down."""
    variant.stages.running = True
    with running(variant.precision, left.device):
        variant.network(left, right, iterations=options.iterations)
    variant.stages.running = False


def peak_here() -> float:
    """Largest resident memory of this process so far, GB."""
    status = Path("/proc/self/status")
    if status.exists():  # `getrusage` would count what the parent held when it forked
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / GB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / GB


def peak_on_gpu(variant: Variant, left: torch.Tensor, right: torch.Tensor, iterations: int) -> tuple[float, float]:
    """Memory in GB: the weights, and the weights and all that one forward allocates."""
    device = left.device
    weights = sum(tensor.nbytes for tensor in variant.network.state_dict().values())
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    with running(variant.precision, device):
        variant.run(left, right, iterations=iterations)
    return weights / GB, (weights + torch.cuda.max_memory_allocated(device) - before) / GB
