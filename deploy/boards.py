"""What is known of Jetson boards: `deploy/boards.yaml`, read and checked, and "orin-nx-16gb@25W" as users write it."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Iterable
from pathlib import Path

from deploy.typed_json import parse
from stereo.errors import UserError
from stereo.yaml_files import read_yaml

FILE = Path(__file__).with_name("boards.yaml")
PRECISIONS = ("int8", "fp16", "tf32", "fp32")


@dataclasses.dataclass(frozen=True)
class Rates:
    """Dense operations per clock and multiprocessor; a multiplication and an addition are two."""

    int8: int
    fp16: int
    tf32: int
    fp32: int


@dataclasses.dataclass(frozen=True)
class OperationsPerClock:
    """What a multiprocessor does, with tensor cores and without; see boards.yaml."""

    source: str
    int8: int
    fp16: int
    tf32: int
    fp32: int
    without_tensor_cores: Rates


@dataclasses.dataclass(frozen=True)
class Mode:
    """A power mode. None is not known.

    Args:
        sms: multiprocessors that are on.
        gpu_mhz, memory_mhz: highest clocks.
        source: which of the file's sources say so.
    """

    sms: int | None
    gpu_mhz: float | None
    memory_mhz: float | None
    source: str


@dataclasses.dataclass(frozen=True)
class Board:
    """A module.

    Args:
        device_tree: the ids it has in /proc/device-tree/compatible, without "nvidia,".
    """

    name: str
    device_tree: tuple[str, ...]
    memory_bus_bits: int
    source: str
    modes: dict[str, Mode]


@dataclasses.dataclass(frozen=True)
class Boards:
    """The whole file."""

    sources: dict[str, str]
    operations_per_clock: OperationsPerClock
    boards: dict[str, Board]


@dataclasses.dataclass(frozen=True)
class Machine:
    """A board in one of its power modes, with everything an estimate needs.

    Args:
        key: as users write it, such as "orin-nx-16gb@25W".
        peak_tensor, peak_plain: precision → operations per second, with tensor cores and without.
    """

    key: str
    name: str
    mode: str
    sms: int
    gpu_mhz: float
    bandwidth_bytes: float
    peak_tensor: dict[str, float]
    peak_plain: dict[str, float]


@functools.cache
def known_boards() -> Boards:
    """The file that comes with the package.

    Raises:
        UserError: it was damaged.
    """
    return read_boards(FILE)


def read_boards(path: Path) -> Boards:
    """Read and check a file of boards.

    Raises:
        UserError: not YAML, a field missing, unknown or of the wrong type, or a number or source that cannot be.
    """
    boards: Boards = parse(Boards, dict(read_yaml(path, what="file of boards")), where=str(path))
    for key, board in boards.boards.items():
        for name, mode in board.modes.items():
            where = f"{path}: {key}@{name}"
            for what in ("sms", "gpu_mhz", "memory_mhz"):
                value = getattr(mode, what)
                if value is not None and value <= 0:
                    raise UserError(f"{what} is {value}", where=where, fix="a number above 0, or null where unknown")
            if not any(source in mode.source for source in boards.sources):
                raise UserError(f"source '{mode.source}' is none of the file's", where=where,
                                fix=f"name one of: {', '.join(boards.sources)}")  # fmt: skip
    return boards


def parse_machines(text: str) -> list[Machine]:
    """Several boards, separated by commas.

    Raises:
        UserError: as `parse_machine`.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise UserError("no board named", where="--estimate", fix=f"BOARD@MODE, such as {example(known_boards())}")
    return [parse_machine(word) for word in dict.fromkeys(words)]


def parse_machine(text: str) -> Machine:
    """A board in a power mode, written BOARD@MODE.

    Raises:
        UserError: no such board or mode, told with the nearest match and the list; or its clocks are not known.
    """
    boards = known_boards()
    key, _, mode_name = text.strip().partition("@")
    board = boards.boards.get(key.lower())
    if board is None:
        raise UserError(f"no board '{key}'", where=f"--estimate {text}", fix=_suggest(key.lower(), boards.boards))
    modes = {name.lower(): name for name in board.modes}
    if mode_name.lower() not in modes:
        problem = f"{board.name} has no power mode '{mode_name}'" if mode_name else "no power mode named"
        raise UserError(problem, where=f"--estimate {text}", fix=_suggest_mode(key.lower(), mode_name, boards))
    name = modes[mode_name.lower()]
    return machine_of(boards, key.lower(), name)


def machine_of(boards: Boards, key: str, mode_name: str) -> Machine:
    """A known board in a known mode.

    Raises:
        UserError: something of that mode is not known.
    """
    board = boards.boards[key]
    mode = board.modes[mode_name]
    if mode.sms is None or mode.gpu_mhz is None or mode.memory_mhz is None:
        missing = [what for what in ("sms", "gpu_mhz", "memory_mhz") if getattr(mode, what) is None]
        raise UserError(
            f"{', '.join(missing)} of {board.name} in {mode_name} is not known, and nothing is guessed",
            where=f"--estimate {key}@{mode_name}",
            fix=f"modes that are known: {', '.join(_complete_modes(board))}",
        )
    clock = mode.sms * mode.gpu_mhz * 1e6
    rates = boards.operations_per_clock
    plain = rates.without_tensor_cores
    return Machine(
        key=f"{key}@{mode_name}",
        name=board.name,
        mode=mode_name,
        sms=mode.sms,
        gpu_mhz=mode.gpu_mhz,
        bandwidth_bytes=2 * mode.memory_mhz * 1e6 * board.memory_bus_bits / 8,
        peak_tensor={precision: clock * getattr(rates, precision) for precision in PRECISIONS},
        peak_plain={precision: clock * getattr(plain, precision) for precision in PRECISIONS},
    )


def example(boards: Boards) -> str:
    """A board and mode that exist, for messages."""
    key, board = next(iter(boards.boards.items()))
    return f"{key}@{_complete_modes(board)[0]}"


def _complete_modes(board: Board) -> list[str]:
    return [name for name, mode in board.modes.items() if None not in (mode.sms, mode.gpu_mhz, mode.memory_mhz)]


def _suggest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    start = f"did you mean '{close[0]}'? " if close else ""
    return f"{start}known: {', '.join(known)}"


def _suggest_mode(key: str, mode_name: str, boards: Boards) -> str:
    """The nearest mode of the board, and the same board with another device tree where that has the mode."""
    modes = boards.boards[key].modes
    close = difflib.get_close_matches(mode_name.upper(), list(modes), n=1, cutoff=0.5)
    wanted = mode_name.upper()
    others = [name for name in (f"{key}-super", key.removesuffix("-super")) if name != key and name in boards.boards]
    elsewhere = [f"{name}@{wanted}" for name in others if wanted in boards.boards[name].modes]
    nearest = elsewhere or [f"{key}@{name}" for name in close]
    start = f"did you mean '{nearest[0]}'? " if nearest else ""
    return f"{start}its modes: {', '.join(modes)}"
