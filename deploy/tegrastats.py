"""Lines of NVIDIA's `tegrastats`, the load, power and temperature printer of Jetson boards → numbers.

The line differs between boards, JetPack releases and users: power with and without "mW", clocks with and without
brackets, power and memory clock only for root on some. What a line does not tell is None.
https://docs.nvidia.com/jetson/archives/r36.4.3/DeveloperGuide/AT/JetsonLinuxDevelopmentTools/TegrastatsUtility.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

# The program says MB and means 2^20 bytes: an 8 GB board has "7620MB".
MB_PER_MIB = 1.048576
# Shown by a sensor whose part of the chip is switched off.
OFF_C = -256.0
# Not on the chip: the power supply's sensor is a constant (50 or 100 °C), the others sit on the board or its cards.
OFF_CHIP = ("pmic", "tboard", "tdiode", "wifi", "iwlwifi", "nvme", "board")
UNCONNECTED = "NC"

WORD = r"(?<!\S)"
MEMORY = WORD + r"{name} (\d+)/(\d+)MB"
RAM = re.compile(MEMORY.format(name="RAM"))
SWAP = re.compile(MEMORY.format(name="SWAP"))
CPU = re.compile(WORD + r"CPU \[([^\]]*)\](?:@(\d+))?")
CORE = re.compile(r"(\d+)%(?:@(\d+))?")
LOAD = WORD + r"{name} (?:(\d+)%)?(?:@(?:\[([\d,\s]*)\]|(\d+)))?"
EMC = re.compile(LOAD.format(name="EMC_FREQ"))
GPU = re.compile(LOAD.format(name="GR3D_FREQ"))
TEMPERATURE = re.compile(WORD + r"([A-Za-z][\w.-]*)@(-?\d+(?:\.\d+)?)C(?!\S)")
RAIL = re.compile(WORD + r"([A-Z][A-Z0-9_]*) (-?\d+)(?:(?:mW)?/(-?\d+)(?:mW)?|mW)(?!\S)")


@dataclass(frozen=True)
class Reading:
    """One moment of a board.

    Args:
        ram_used_mb, ram_total_mb, swap_used_mb, swap_total_mb: in MB of 10^6 bytes.
        cpu_load_pct, cpu_mhz: per core, None for one that is off or does not tell.
        emc_load_pct, emc_mhz: of the memory controller.
        gpu_load_pct, gpu_mhz: of the GPU; the fastest cluster where there are several.
        temperatures_c: sensor → °C, those that are switched off left out.
        rails_mw: power rail → mW now, as the sensor tells it (an idle rail can be below 0).
        rails_mean_mw: the same, averaged by the program since it started.
        power_mw: of the module where the source tells it itself (jtop); None where rails have to be summed.
    """

    ram_used_mb: float | None = None
    ram_total_mb: float | None = None
    swap_used_mb: float | None = None
    swap_total_mb: float | None = None
    cpu_load_pct: tuple[float | None, ...] = ()
    cpu_mhz: tuple[float | None, ...] = ()
    emc_load_pct: float | None = None
    emc_mhz: float | None = None
    gpu_load_pct: float | None = None
    gpu_mhz: float | None = None
    temperatures_c: dict[str, float] = field(default_factory=dict)
    rails_mw: dict[str, float] = field(default_factory=dict)
    rails_mean_mw: dict[str, float] = field(default_factory=dict)
    power_mw: float | None = None

    @property
    def hottest_c(self) -> float | None:
        """The junction temperature, or the hottest sensor on the chip where the board does not tell it."""
        named = {name.lower(): value for name, value in self.temperatures_c.items()}
        on_chip = [value for name, value in named.items() if not name.startswith(OFF_CHIP)]
        return named.get("tj", max(on_chip, default=None))

    @property
    def gpu_c(self) -> float | None:
        """The GPU's temperature; None while it is switched off."""
        return {name.lower(): value for name, value in self.temperatures_c.items()}.get("gpu")


def parse_line(line: str) -> Reading | None:
    """One line of tegrastats.

    Returns:
        None for a line that is no reading: an empty one, a warning, or one cut off before its first field ended.
    """
    ram_used_mb, ram_total_mb = _memory(RAM, line)
    if ram_total_mb is None:
        return None
    swap_used_mb, swap_total_mb = _memory(SWAP, line)
    cpu_load_pct, cpu_mhz = _cores(line)
    emc_load_pct, emc_mhz = _load(EMC, line)
    gpu_load_pct, gpu_mhz = _load(GPU, line)
    found = [match for match in RAIL.finditer(line) if match[1] != UNCONNECTED]
    temperatures = {match[1]: float(match[2]) for match in TEMPERATURE.finditer(line)}
    return Reading(
        ram_used_mb, ram_total_mb, swap_used_mb, swap_total_mb, cpu_load_pct, cpu_mhz,
        emc_load_pct, emc_mhz, gpu_load_pct, gpu_mhz,
        {name: value for name, value in temperatures.items() if value > OFF_C},
        {match[1]: float(match[2]) for match in found},
        {match[1]: float(match[3]) for match in found if match[3] is not None},
    )  # fmt: skip


def _memory(pattern: re.Pattern[str], line: str) -> tuple[float | None, float | None]:
    match = pattern.search(line)
    return (None, None) if match is None else (int(match[1]) * MB_PER_MIB, int(match[2]) * MB_PER_MIB)


def _cores(line: str) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
    match = CPU.search(line)
    if match is None:
        return (), ()
    cores = [CORE.fullmatch(text.strip()) for text in match[1].split(",")]
    common = _number(match[2])
    loads = tuple(None if core is None else float(core[1]) for core in cores)
    clocks = tuple(None if core is None else _number(core[2]) or common for core in cores)
    return loads, clocks


def _load(pattern: re.Pattern[str], line: str) -> tuple[float | None, float | None]:
    """Load in % and clock in MHz."""
    match = pattern.search(line)
    if match is None:
        return None, None
    clusters = [float(text) for text in (match[2] or "").split(",") if text.strip()]
    return _number(match[1]), max(clusters) if clusters else _number(match[3])


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)
