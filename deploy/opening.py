"""Every (model, runtime, precision hint) that a command line asks for, opened."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.device import board_notes, device_name, power_mode
from deploy.jetson import is_jetson
from deploy.models import model_facts, resolve_models, variant_names
from deploy.onnx_stereo import read_stereo_graph
from deploy.results import ModelFacts, Place
from deploy.runners.protocol import NativeMethod, Runner
from deploy.runners.registry import ENGINE, hints_for, open_runner, parse_runtimes, runtimes_for
from stereo.errors import UserError
from stereo.options import parse_size


@dataclass(frozen=True)
class Request:
    """One combination to open.

    Args:
        size: (H, W) for models that take any.
        iterations: refinement steps, where a file does not fix them; None for its own default.
        max_disp: disparity range in px, likewise.
    """

    path: Path
    variant: str
    runtime: str
    precision_hint: str
    threads: int
    size: tuple[int, int] | None
    iterations: int | None = None
    max_disp: int | None = None


@dataclass(frozen=True)
class Opened:
    """A request with its runner and what is known about the model."""

    request: Request
    runner: Runner
    model: ModelFacts


def requests(
    models: list[str],
    *,
    runtime: str,
    precision_hints: str,
    threads: int,
    size: str,
    iterations: int | None = None,
    max_disp: int | None = None,
) -> list[Request]:
    """All combinations, in the order of the command line.

    Raises:
        UserError: a model, runtime or hint that does not exist, or a model that none of the runtimes opens.
    """
    paths = resolve_models(models)
    wanted = parse_runtimes(runtime)
    hints = [hint.strip() for hint in precision_hints.split(",") if hint.strip()]
    if not hints:
        raise UserError("no precision hint named", where="--precision-hints", fix="f32 is the plain one")
    wanted_size = parse_size(size) if size else None
    return [
        Request(path, variant, name, hint, threads, wanted_size, iterations, max_disp)
        for path, variant in zip(paths, variant_names(paths), strict=True)
        for name in runtimes_for(path, wanted)
        for hint in hints_for(name, hints)
    ]


@contextlib.contextmanager
def opened(request: Request, *, fixed_size: bool) -> Iterator[Opened]:
    """Open one request, and close it again.

    Args:
        fixed_size: whether a graph of one size must have the requested one.

    Raises:
        UserError: the file cannot be opened so.
    """
    size = request.size if fixed_size or not _has_own_size(request.path) else None
    runner = open_runner(
        request.path,
        request.runtime,
        threads=request.threads,
        precision_hint=request.precision_hint,
        size=size,
        iterations=request.iterations,
        max_disp=request.max_disp,
    )
    try:
        yield Opened(request, runner, model_facts(request.path, runner.metadata, variant=request.variant))
    finally:
        runner.close()


def _has_own_size(path: Path) -> bool:
    if path.suffix.lower() == ENGINE:
        return True
    return path.suffix.lower() == ".onnx" and read_stereo_graph(path).size is not None


def place_of(method: Runner | NativeMethod, size: tuple[int, int] | None) -> Place:
    """Where a method runs.

    Args:
        size: (H, W) it runs at; None when every image has its own.
    """
    notes = {} if isinstance(method, NativeMethod) else {
        key: value for key, value in method.metadata.items() if key.startswith("runtime.")
    }  # fmt: skip
    # On a Jetson it stays a note: a runtime calls the GPU of every one of them "Orin".
    gpu = None if is_jetson() else notes.pop("runtime.device", None)
    return Place(
        runtime=method.runtime,
        runtime_version=method.runtime_version,
        precision_hint=method.precision_hint,
        device=gpu or device_name(),
        threads=method.threads,
        power_mode=power_mode(),
        height=size[0] if size else None,
        width=size[1] if size else None,
        notes={**notes, **board_notes()},
    )
