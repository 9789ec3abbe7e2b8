"""Where readings of a running Jetson come from: the program `tegrastats`, or the service of jetson-stats if asked for.

A feed is started once, read to its end in a thread of `deploy.power.PowerRecorder`, and stopped from outside.
"""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from deploy import system_files
from deploy.jetson import is_jetson
from deploy.tegrastats import Reading, parse_line
from stereo.errors import UserError, require

LEAVES_IN_S = 3.0
log = logging.getLogger(__name__)


class Feed(Protocol):
    """A source of readings."""

    name: str

    def start(self, interval_s: float) -> None:
        """Begin to measure, a reading per interval."""
        ...

    def readings(self) -> Iterator[Reading]:
        """Each reading as it comes; ends after `stop`, or when the source gives up."""
        ...

    def stop(self) -> None:
        """End the source, whatever it does."""
        ...


class Tegrastats:
    """The program that JetPack brings, in a process of its own.

    Args:
        program: its path.
    """

    name = "tegrastats"

    def __init__(self, program: str) -> None:
        self._program = program
        self._process: subprocess.Popen[str] | None = None

    def start(self, interval_s: float) -> None:
        """See `Feed.start`."""
        # A session of its own: Ctrl-C at the terminal is for us, who end it after keeping what was measured.
        self._process = subprocess.Popen(
            [self._program, "--interval", str(round(1e3 * interval_s))],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace",
            start_new_session=True,
        )  # fmt: skip

    def readings(self) -> Iterator[Reading]:
        """See `Feed.readings`."""
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            reading = parse_line(line) if line.endswith("\n") else None  # a line cut off has numbers cut off
            if reading is not None:
                yield reading

    def stop(self) -> None:
        """See `Feed.stop`. Ends this one process: `tegrastats --stop` would end everybody's."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(LEAVES_IN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Jtop:
    """The service of jetson-stats (AGPL-3.0, so only where the user has installed it and asks for it)."""

    name = "jtop"

    def __init__(self) -> None:
        self._module: Any = require("jtop", hint="sudo pip install jetson-stats, or --power tegrastats")
        self._leave = threading.Event()
        self._interval_s = 1.0

    def start(self, interval_s: float) -> None:
        """See `Feed.start`."""
        self._interval_s = interval_s

    def readings(self) -> Iterator[Reading]:
        """See `Feed.readings`."""
        with self._module.jtop(interval=self._interval_s) as board:
            while not self._leave.is_set() and board.ok():
                yield jtop_reading(board)

    def stop(self) -> None:
        """See `Feed.stop`."""
        self._leave.set()


def jtop_reading(board: Any) -> Reading:
    """One reading of jetson-stats 4, which tells power in mW, clocks in kHz and memory in KiB."""
    gpu: Mapping[str, Any] = next(iter(board.gpu.values()), {})
    ram, emc = board.memory.get("RAM", {}), board.memory.get("EMC", {})
    total = board.power.get("tot", {})
    rails = {name: float(rail["power"]) for name, rail in board.power.get("rail", {}).items() if "power" in rail}
    return Reading(
        ram_used_mb=_scaled(ram.get("used"), 1.024e-3),
        ram_total_mb=_scaled(ram.get("tot"), 1.024e-3),
        emc_load_pct=_scaled(emc.get("val"), 1.0),
        emc_mhz=_scaled(emc.get("cur"), 1e-3),
        gpu_load_pct=_scaled(gpu.get("status", {}).get("load"), 1.0),
        gpu_mhz=_scaled(gpu.get("freq", {}).get("cur"), 1e-3),
        temperatures_c={
            name: float(sensor["temp"]) for name, sensor in board.temperature.items() if sensor.get("online", True)
        },
        rails_mw=rails,
        power_mw=_scaled(total.get("power"), 1.0),
    )


def choose_feed(choice: str) -> Feed | None:
    """The feed that `--power` names.

    Args:
        choice: "auto", "tegrastats", "jtop" or "off".

    Returns:
        None for "off", on machines that are no Jetson, and, with one warning, on a Jetson without tegrastats.

    Raises:
        UserError: one was named that is not here.
    """
    if choice == "off" or (choice == "auto" and not is_jetson()):
        return None
    if choice == "jtop":
        return Jtop()
    program = system_files.find_program("tegrastats")
    if program is not None:
        return Tegrastats(program)
    if choice == "tegrastats":
        raise UserError("tegrastats is not on this machine", where="--power", fix="it comes with JetPack; --power off")
    log.warning(
        "tegrastats is missing on this Jetson: power, load and temperature stay empty (the package nvidia-l4t-tools "
        "brings it; in a container, mount /usr/bin/tegrastats)"
    )
    return None


def _scaled(value: Any, factor: float) -> float | None:
    return None if value is None else float(value) * factor
