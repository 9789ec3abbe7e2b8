"""`stereodistill doctor`: what is installed here, what works, and what to install for the rest.

Works in a bare base install. Every package is imported in a process of its own, so that a broken one is reported
instead of taking the doctor down.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

from deploy.config import DoctorConfig
from deploy.device import cpu_features, device_name, memory_mb, power_mode
from deploy.models import shipped_students
from deploy.runners.registry import TELEMETRY
from deploy.terminal_table import print_table
from stereo.artifacts import commit


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
    Part("onnxruntime", "onnxruntime", "onnxruntime", "run .onnx anywhere"),
    Part("openvino", "openvino", "openvino", "run .onnx fast on CPUs, BF16 and INT8"),
    Part("tensorrt", "tensorrt", "tensorrt", "build engines on an NVIDIA GPU or Jetson"),
    Part("tensorrt_rtx_bindings", "tensorrt-rtx-cu13-bindings", "rtx", "build engines for RTX GPUs, without one"),
    Part("torch", "torch", "train", "train, label, export, run .safetensors"),
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
    """Print the table, or JSON, on stdout."""
    facts = machine_facts()
    parts = find_all(PARTS)
    if config.json:
        print(json.dumps({"machine": facts, "parts": [dataclasses.asdict(part) for part in parts]}, indent=2))
        return
    print_table(("machine", ""), [(key, describe(value)) for key, value in facts.items()], stderr=False)
    lines = [(p.name, p.version or "missing", p.extra, p.purpose, p.problem or "works") for p in parts]
    print_table(("package", "version", "extra", "for", "state"), lines, stderr=False)


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
                         text=True)
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
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "the system does not tell" if value is None else str(value)
