"""What the numbers were measured on: the processor's name, its features, its power setting; all read from files."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from deploy import system_files
from deploy.clocks import locked, power_mode_name, read_clocks
from deploy.jetson import find_jetson, is_jetson

CPU_INFO = Path("/proc/cpuinfo")
BOARD = Path("/proc/device-tree/model")
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
# Instruction sets that decide how fast BF16 and INT8 are: x86 names, then ARM's.
FEATURES = (
    "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16",
    "asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve",
)  # fmt: skip


def device_name() -> str:
    """The board's name, or the processor's with the number of cores this process may use.

    Of a Jetson it is the module, as in the manifest of an engine, with "Super" for the faster power modes, whose names
    are those of the others: the model in the device tree is the carrier board's, and the same for NX 16GB and 8GB.
    """
    jetson = find_jetson()
    if jetson is not None and jetson.called is not None:
        return jetson.called
    board = _read(BOARD).strip("\0\n ")
    if board:
        return board
    lines = (line.partition(":") for line in _read(CPU_INFO).splitlines())
    names = [value.strip() for key, _, value in lines if key.strip() == "model name"]
    name = names[0] if names else platform.processor() or platform.machine()
    cores = usable_cores()
    return f"{name}, {cores} core{'s' if cores != 1 else ''}"


def usable_cores() -> int:
    """Cores this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_features() -> list[str]:
    """Those of `FEATURES` that the processor says it has."""
    lines = (line.partition(":") for line in _read(CPU_INFO).splitlines())
    flags = {flag for key, _, value in lines if key.strip() in ("flags", "Features") for flag in value.split()}
    return [feature for feature in FEATURES if feature in flags]


def precision_hints() -> list[str]:
    """Arithmetic that OpenVINO can be held to on this processor: "f32", and "bf16" where it computes in it."""
    features = cpu_features()
    native = any(feature in features for feature in ("avx512_bf16", "amx_bf16", "bf16"))
    return ["f32", "bf16"] if native else ["f32"]


def has_byte_dot_products() -> bool:
    """Whether the processor multiplies and sums bytes in one instruction.

    An x86 processor without it sums products of bytes in 16 bits, which saturate, or gives up a bit of the weights
    (https://oneapi-src.github.io/oneDNN/dev_guide_int8_computations.html).
    """
    features = cpu_features()
    return any(feature in features for feature in ("avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"))


def power_mode() -> str | None:
    """A Jetson's power mode and whether its clocks are locked, such as "25W, clocks locked".

    Elsewhere the frequency governor of the first core; None where the system does not tell (virtual machines).
    """
    name = power_mode_name() if is_jetson() else None
    if name is not None:
        held = locked(read_clocks())
        return name if held is None else f"{name}, clocks {'locked' if held else 'not locked'}"
    return _read(GOVERNOR).strip() or None


def board_notes() -> dict[str, str]:
    """What a number measured on a Jetson depends on, besides its power mode; empty on other machines."""
    board = find_jetson()
    if board is None:
        return {}
    told = {
        "board.model": board.name,
        "board.module": board.module or board.module_id,
        "board.jetpack": board.jetpack,
        "board.jetson_linux": board.l4t,
        "board.cuda": board.cuda,
        "board.clocks": ", ".join(map(str, read_clocks())),
    }
    return {key: value for key, value in told.items() if value}


def memory_mb() -> tuple[float, float] | None:
    """Total and available memory in MB of 10^6 bytes, None where the system does not tell."""
    facts = {
        line.split(":")[0]: line.split()[1]
        for line in (system_files.read("proc/meminfo") or "").splitlines()
        if ":" in line
    }
    if "MemTotal" not in facts or "MemAvailable" not in facts:
        return None
    return int(facts["MemTotal"]) * 1024 / 1e6, int(facts["MemAvailable"]) * 1024 / 1e6


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
