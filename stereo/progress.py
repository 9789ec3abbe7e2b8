"""The one progress display: a rich bar on a terminal, a plain line every few seconds in a log. Always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LOG_EVERY_S = 10.0


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def speed(rate: float, unit: str) -> str:
    """Units per second, with two digits that mean something also when a unit takes minutes."""
    return f"{rate:.1f} {unit}/s" if rate >= 1 or rate == 0 else f"{rate:.2g} {unit}/s"


class Ticker:
    """What the work reports to: `advance()` after each unit.

    Args:
        title: what is being done.
        total: how many units; None when unknown.
        unit: the noun of one unit, in the plural.
        bar: the rich bar, None to print lines instead.
        elapsed: tell the time so far instead of speed and time left.
    """

    def __init__(
        self, title: str, total: int | None, unit: str, bar: Progress | None, *, elapsed: bool = False
    ) -> None:
        self.title, self.total, self.unit, self._bar, self._elapsed = title, total, unit, bar, elapsed
        self.done = 0
        self._start = self._last_line = time.monotonic()
        self._task: TaskID | None = bar.add_task(title, total=total, rate="", note="") if bar else None

    @property
    def rate(self) -> float:
        """Units per second since the start; 0 before the first."""
        return self.done / max(time.monotonic() - self._start, 1e-9) if self.done else 0.0

    def advance(self, units: int = 1, *, note: str = "") -> None:
        """Report finished units, with a few words shown behind the numbers."""
        self.done += units
        rate = speed(self.rate, self.unit)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=units, rate=rate, note=note)
        elif time.monotonic() - self._last_line >= LOG_EVERY_S or self.done == self.total:
            self._last_line = time.monotonic()
            self._print(note)

    def _print(self, note: str) -> None:
        parts = [f"{self.done}/{self.total}" if self.total else str(self.done)]
        if self._elapsed:
            parts = [f"{parts[0]} {self.unit}", f"{clock(time.monotonic() - self._start)} so far"]
        else:
            parts.append(speed(self.rate, self.unit))
        if not self._elapsed and self.total and self.rate and self.done < self.total:
            parts.append(f"{clock((self.total - self.done) / self.rate)} left")
        print(f"{self.title}: {', '.join(parts + ([note] if note else []))}", file=sys.stderr, flush=True)


@contextmanager
def progress(title: str, total: int | None = None, *, unit: str = "frames", elapsed: bool = False) -> Iterator[Ticker]:
    """Show progress while the block runs.

    Args:
        title: what is being done.
        total: how many units there are; None when unknown.
        unit: the noun of one unit, in the plural.
        elapsed: tell the time so far, for work whose units take unequal times, instead of speed and time left.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Ticker(title, total, unit, None, elapsed=elapsed)
        return
    times: list[ProgressColumn] = (
        [TimeElapsedColumn()] if elapsed else [TextColumn("{task.fields[rate]}"), TimeRemainingColumn()]
    )
    columns: list[ProgressColumn] = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *times,
        TextColumn("{task.fields[note]}"),
    ]
    with Progress(*columns, console=console) as bar:
        yield Ticker(title, total, unit, bar, elapsed=elapsed)
