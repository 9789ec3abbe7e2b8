"""`stereodistill doctor`: what this machine is, which runtimes work on it, and what to install for the rest.

Works in a bare base install. Every package is imported in a process of its own, so that a broken one is reported
instead of taking the doctor down.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

from deploy import system_files
from deploy.clocks import locked, power_mode_name, read_clocks
from deploy.config import DoctorConfig
from deploy.device import cpu_features, device_name, memory_mb, power_mode
from deploy.jetson import KNOWN_TO_FIT, Jetson, find_jetson
from deploy.models import shipped_students
from deploy.runners.registry import TELEMETRY
from deploy.runtime_probes import PROBES, probe_all
from deploy.terminal_table import print_table
from stereo.artifacts import commit
from stereo.errors import SILENT


@dataclass(frozen=True)
class Part:
    """An optional package.

    Args:
        module: import name.
        distribution: name under which pip knows it.
        extra: the extra of this project that brings it.
        purpose: what it is for.
    """

    module: str
    distribution: str
    extra: str
    purpose: str


PARTS = (
    Part("pytorch_lightning", "pytorch-lightning", "train", "train"),
    Part("modelopt", "nvidia-modelopt", "quantize", "INT8 and FP16 graphs"),
    Part("plotly", "plotly", "report", "report"),
    Part("jinja2", "jinja2", "report", "report"),
    Part("skimage", "scikit-image", "demo", "the demo's real pair with truth"),
)


@dataclass(frozen=True)
class PartFound:
    """What was found of a part.

    Args:
        version: None when it cannot be imported.
        extra: the extra of this project that brings it.
        problem: why not.
    """

    name: str
    version: str | None
    extra: str
    purpose: str
    problem: str | None


def doctor(config: DoctorConfig) -> None:
    """Print tables, or JSON, on stdout."""
    facts, board = machine_facts(), board_facts()
    runtimes, parts = probe_all(PROBES), find_all(PARTS)
    if config.json:
        found = {"runtimes": list(map(dataclasses.asdict, runtimes)), "parts": list(map(dataclasses.asdict, parts))}
        print(json.dumps({"machine": facts, "board": board, **found}, indent=2))
        return
    print_table(("machine", ""), [(key, describe(value)) for key, value in facts.items()], stderr=False)
    if board is not None:
        print_table(("Jetson", ""), [(key, describe(value)) for key, value in board.items()], stderr=False)
    tried = [(item.name, item.version or "missing", "yes" if item.works else "no", item.detail) for item in runtimes]
    print_table(("runtime", "version", "works", "how, or why not"), tried, stderr=False)
    lines = [(p.name, p.version or "missing", p.purpose, p.problem or "works") for p in parts]
    print_table(("package", "version", "for", "state"), lines, stderr=False)


def board_facts() -> dict[str, object] | None:
    """Board, NVIDIA's software, power mode and clocks of a Jetson, and what to do about them; None elsewhere."""
    board = find_jetson()
    if board is None:
        return None
    clocks = read_clocks()
    tools = {name: system_files.find_program(name) for name in ("tegrastats", "nvpmodel", "jetson_clocks", "trtexec")}
    return {
        "board": board.name,
        "module": board.module,
        "module id": board.module_id,
        "super": board.super_mode,
        "JetPack": board.jetpack,
        "Jetson Linux": board.l4t,
        "CUDA": board.cuda,
        "TensorRT": board.tensorrt,
        "power mode": power_mode_name(),
        "clocks locked": locked(clocks),
        "clocks": list(map(str, clocks)),
        "tools": [name for name, path in tools.items() if path],
        "advice": advice(board, locked(clocks), [name for name, path in tools.items() if not path]),
    }


def advice(board: Jetson, held: bool | None, missing: Sequence[str]) -> list[str]:
    """What to do before measuring on a board, one sentence each."""
    found = []
    if board.jetpack is None:
        found.append("sudo apt install nvidia-jetpack, which is not installed, brings CUDA and TensorRT")
    elif not board.jetpack.startswith(KNOWN_TO_FIT):
        found.append(f"JetPack {board.jetpack}: this project was written for {', '.join(KNOWN_TO_FIT)}")
    if held is False:
        found.append("clocks follow the load: sudo jetson_clocks locks them until the next start")
    if held is None:
        found.append("whether clocks are locked is not told here")
    if "tegrastats" in missing:
        found.append("tegrastats is missing: profile cannot measure power and temperature")
    if "trtexec" in missing:
        found.append("trtexec is missing: no second clock for engines (sudo apt install libnvinfer-bin)")
    return found


def machine_facts() -> dict[str, object]:
    """Interpreter, processor, memory and what ships with the package; None for what the system does not tell."""
    memory = memory_mb()
    return {
        "stereodistill": metadata.version("stereodistill"),
        "commit": commit(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "system": platform.platform(),
        "device": device_name(),
        "cpu features": cpu_features(),
        "power mode": power_mode(),
        "memory GB": None if memory is None else round(memory[0] / 1000, 1),
        "memory available GB": None if memory is None else round(memory[1] / 1000, 1),
        "shipped students": sorted(shipped_students()),
    }


def find_all(parts: Sequence[Part]) -> list[PartFound]:
    """Import every part to see whether it works, all at the same time."""
    program = f"import sys, importlib; sys.modules[{TELEMETRY!r}] = None; m = importlib.import_module(sys.argv[1]); "
    program += "print(getattr(m, '__version__', 'unknown'))"
    processes = [
        subprocess.Popen([sys.executable, "-c", program, part.module], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         text=True, env={**os.environ, **SILENT})
        for part in parts
    ]  # fmt: skip
    found = []
    for part, process in zip(parts, processes, strict=True):
        output, errors = process.communicate()
        if process.returncode == 0:
            version = output.splitlines()[-1].split("-")[0]  # OpenVINO appends its build
            found.append(PartFound(part.distribution, version, part.extra, part.purpose, None))
            continue
        install = f"pip install 'stereodistill[{part.extra}]'"
        reason = (errors.strip().splitlines() or [f"import ended with {process.returncode}"])[-1]
        missing = f"No module named '{part.module}'" in reason
        problem = f"not installed: {install}" if missing else f"broken: {reason} ({install})"
        found.append(PartFound(part.distribution, None, part.extra, part.purpose, problem))
    return found


def describe(value: object) -> str:
    """A fact as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ("; " if any(" " in str(item) for item in value) else ", ").join(map(str, value)) or "none"
    return "the system does not tell" if value is None else str(value)
