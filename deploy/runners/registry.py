"""Which runtime opens which file. A runtime is a line in `RUNTIMES`, its module is imported only when it is chosen."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.engines.flavours import FLAVOURS
from deploy.engines.manifest import read_engine_manifest
from deploy.runners.protocol import Runner
from stereo.errors import UserError, require

# OpenVINO sends an event at every import when this package is there.
TELEMETRY = "openvino_telemetry"
ENGINE = ".engine"
# Settings that a file may leave open, and what they are called in messages.
SETTINGS = {"iterations": "iterations", "max_disp": "disparities"}


@dataclass(frozen=True)
class Runtime:
    """One runtime.

    Args:
        suffix: of the files it opens.
        open: "module:function" with the signature open(path, *, threads, precision_hint, size) -> Runner.
        package: the import name that it cannot do without.
        install: what to do when the package is missing.
        precision_hints: those it knows, the default first.
        takes: settings that its files do not fix and `open` takes too: "iterations", "max_disp".
    """

    suffix: str
    open: str
    package: str
    install: str
    precision_hints: tuple[str, ...] = ("f32",)
    takes: tuple[str, ...] = ()


# The first runtime of a suffix is what "auto" takes: onnxruntime is the portable reference.
RUNTIMES: dict[str, Runtime] = {
    "onnxruntime": Runtime(
        ".onnx",
        "deploy.runners.onnxruntime_runner:open_onnxruntime",
        "onnxruntime",
        "pip install 'stereodistill[onnxruntime]'",
    ),
    "openvino": Runtime(
        ".onnx",
        "deploy.runners.openvino_runner:open_openvino",
        "openvino",
        "pip install 'stereodistill[openvino]'",
        ("f32", "bf16", "f16"),
    ),
    # A string, because deploy must not import student: imports run downwards only.
    "torch": Runtime(
        ".safetensors",
        "student.runner:open_torch",
        "torch",
        "pip install 'stereodistill[train]', or give an .onnx or .engine: stereodistill export and build make them",
        takes=("iterations", "max_disp"),
    ),
    "torch_tensorrt": Runtime(
        ".safetensors",
        "student.torch_tensorrt_runner:open_torch_tensorrt",
        "torch_tensorrt",
        "pip install 'stereodistill[torch-tensorrt]'; on a Jetson build an engine instead: stereodistill build",
        takes=("iterations", "max_disp"),
    ),
    **{
        name: Runtime(ENGINE, f"deploy.runners.tensorrt_runner:open_{name}", flavour.module, flavour.install)
        for name, flavour in FLAVOURS.items()
    },
    "foundation_stereo": Runtime(
        ".pth",
        "teacher.foundation_runner:open_foundation_stereo",
        "torch",
        "pip install 'stereodistill[train]'",
        takes=("iterations",),
    ),
}
SUFFIXES = tuple(dict.fromkeys(runtime.suffix for runtime in RUNTIMES.values()))


def parse_runtimes(text: str) -> list[str]:
    """Read a comma-separated list of runtimes; "auto" stands for the first of each suffix.

    Raises:
        UserError: an unknown name, or none.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name != "auto" and name not in RUNTIMES:
            raise UserError(f"unknown runtime '{name}'", where="--runtime", fix=f"known: auto, {', '.join(RUNTIMES)}")
    if not names:
        raise UserError("no runtime named", where="--runtime", fix=f"known: auto, {', '.join(RUNTIMES)}")
    return list(dict.fromkeys(names))


def installed(runtime: str) -> bool:
    """Whether the runtime's package can be found, without importing it."""
    return importlib.util.find_spec(RUNTIMES[runtime].package) is not None


def import_runtime(name: str) -> Any:
    """Import a runtime's package, its telemetry left out.

    Raises:
        UserError: it is not installed, or a library of it is missing.
    """
    with hidden(TELEMETRY):
        return require(RUNTIMES[name].package, hint=RUNTIMES[name].install)


@contextmanager
def hidden(module: str) -> Iterator[None]:
    """Make a package look as if it were not installed; one that is already imported stays."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # Python's own way to make an import fail
    try:
        yield
    finally:
        del sys.modules[module]


def hints_for(runtime: str, wanted: list[str]) -> list[str]:
    """Which of the wanted precision hints a runtime knows.

    Raises:
        UserError: none.
    """
    known = RUNTIMES[runtime].precision_hints
    chosen = [hint for hint in dict.fromkeys(wanted) if hint in known]
    if not chosen:
        raise UserError(f"{runtime} has no precision hint '{','.join(wanted)}'", where="--precision-hints",
                        fix=f"it knows {', '.join(known)}")  # fmt: skip
    return chosen


def runtimes_for(path: Path | str, runtimes: list[str]) -> list[str]:
    """Which of the named runtimes open this file, in the order they were named.

    Raises:
        UserError: none of them does, nothing opens such a file, or an engine without its manifest.
    """
    suffix = Path(path).suffix.lower()
    fitting = [name for name, runtime in RUNTIMES.items() if runtime.suffix == suffix]
    if suffix == ENGINE and Path(path).is_file():
        # Both TensorRTs write .engine files; each opens its own only.
        fitting = [read_engine_manifest(Path(path)).runtime]
    if not fitting:
        raise UserError(f"no runtime opens '{suffix or 'a file without suffix'}'", where=path,
                        fix=f"give one of {', '.join(SUFFIXES)}")  # fmt: skip
    chosen = [fitting[0] if name == "auto" else name for name in runtimes if name == "auto" or name in fitting]
    if not chosen:
        raise UserError(f"{suffix} files are opened by {' and '.join(fitting)}, not by {', '.join(runtimes)}",
                        where=path, fix=f"--runtime {','.join([*runtimes, fitting[0]])}")  # fmt: skip
    return list(dict.fromkeys(chosen))


def open_runner(
    path: Path | str,
    runtime: str = "auto",
    *,
    threads: int = 1,
    precision_hint: str = "f32",
    size: tuple[int, int] | None = None,
    iterations: int | None = None,
    max_disp: int | None = None,
) -> Runner:
    """Open a model with a runtime.

    Args:
        path: a .onnx, .engine or .safetensors file, or a published .pth of FoundationStereo.
        runtime: a key of `RUNTIMES`, or "auto".
        threads: how many the runtime may use for one pair.
        precision_hint: arithmetic for what the graph leaves open.
        size: (H, W) to compile a model for that takes any; a model of one fixed other size is refused.
        iterations: refinement steps, where the file does not fix them; its own default when left out.
        max_disp: disparity range in px, likewise.

    Raises:
        UserError: missing file or package, a file the runtime cannot open, or a setting it does not take.
    """
    path = Path(path)
    name = runtimes_for(path, parse_runtimes(runtime))[0]
    line = RUNTIMES[name]
    if not path.is_file():
        raise UserError("no such model file", where=path, fix="check the path")
    hints_for(name, [precision_hint])
    if threads < 1:
        raise UserError(f"{threads} threads", where="--threads", fix="give 1 or more")
    if iterations is not None and iterations < 1:
        raise UserError(f"{iterations} iterations", where="--iterations", fix="give 1 or more")
    chosen = {"iterations": iterations, "max_disp": max_disp}
    chosen = {setting: value for setting, value in chosen.items() if value is not None}
    for setting in chosen:
        if setting not in line.takes:
            option = f"--{setting.replace('_', '-')}"
            raise UserError(f"the number of {SETTINGS[setting]} is fixed in this file", where=path,
                            fix=f"leave {option} out here and give it to `stereodistill export`")  # fmt: skip
    if not installed(name):
        others = [other for other in RUNTIMES if RUNTIMES[other].suffix == line.suffix != ENGINE and installed(other)]
        choice = f"--runtime {others[0]}, or " if others else ""
        raise UserError(f"{name} is not installed here", where=path, fix=choice + line.install)
    module, function = line.open.split(":")
    opener: Callable[..., Runner] = getattr(importlib.import_module(module), function)
    return opener(path, threads=threads, precision_hint=precision_hint, size=size, **chosen)
