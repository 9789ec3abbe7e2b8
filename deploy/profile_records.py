"""What `profile` can measure beyond latency and memory: optional fields of a results row (`deploy.results.ResultRow`).

All of it is plain data, written as JSON; what was not measured is None or empty. docs/formats.md describes the fields.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """The board at one moment of a run, averaged over a short while; None for what it does not tell.

    Args:
        t_s: since the start of the run.
        power_w: of the module, summed over `Power.rails`.
        temperature_c: of the hottest place on the chip.
        gpu_temperature_c: of the GPU alone.
        gpu_load_pct, gpu_mhz, emc_load_pct, emc_mhz: load and clock of GPU and memory controller.
        ram_mb: used by everything on the board, in MB of 10^6 bytes; GPU and CPU share it.
    """

    t_s: float
    power_w: float | None = None
    temperature_c: float | None = None
    gpu_temperature_c: float | None = None
    gpu_load_pct: float | None = None
    gpu_mhz: float | None = None
    emc_load_pct: float | None = None
    emc_mhz: float | None = None
    ram_mb: float | None = None


@dataclass(frozen=True)
class Power:
    """Power, load and heat of the whole board while one variant ran without a pause.

    Args:
        source: "tegrastats" or "jtop".
        rails: whose sum is the module's power; empty when the board told none.
        mean_w, peak_w: over the run; idle_w: of the same board just before, doing nothing.
        energy_per_pair_j: mean power × duration / pairs, everything on the board included.
        max_temperature_c: of the hottest place on the chip.
        mean_gpu_load_pct, mean_emc_load_pct: over the run.
        throttled: None when the board does not tell.
        throttling: what was seen of it, in words.
        seconds, pairs: how long the run was, and how many pairs it took.
        n: readings that the numbers rest on.
        samples: the readings over time, thinned to at most 120.
    """

    source: str
    rails: tuple[str, ...]
    mean_w: float | None
    peak_w: float | None
    idle_w: float | None
    energy_per_pair_j: float | None
    max_temperature_c: float | None
    mean_gpu_load_pct: float | None
    mean_emc_load_pct: float | None
    throttled: bool | None
    throttling: tuple[str, ...]
    seconds: float
    pairs: int
    n: int
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True)
class Interval:
    """Latency within one stretch of a soak run.

    Args:
        t_s: when it began, since the start of the run.
        p50_ms, p99_ms: over its n runs.
    """

    t_s: float
    p50_ms: float
    p99_ms: float
    n: int


@dataclass(frozen=True)
class Soak:
    """One variant run without a pause for minutes, to show what heat does to it.

    Args:
        minutes: as asked for; seconds: as it was, less when it was stopped.
        pairs_per_s: over the whole run.
        drift_pct: median latency of the last tenth of the intervals over that of the first, minus 1; None for a run of
            less than a minute.
        intervals: in the order of time; `Power.samples` of the same row have the same clock.
    """

    minutes: float
    seconds: float
    pairs_per_s: float
    drift_pct: float | None
    intervals: tuple[Interval, ...] = ()


@dataclass(frozen=True)
class LayerTime:
    """Mean time of one layer in one run.

    Args:
        name: as the runtime calls it after its own fusions.
        kind: operation type, and the kernel where the runtime tells it; empty where it tells neither.
    """

    name: str
    kind: str
    mean_ms: float


@dataclass(frozen=True)
class Layers:
    """Where the time of a variant goes, as its runtime's own profiler tells it.

    Args:
        total_ms: sum over all layers; profiling slows a run, so this is not the latency.
        count: of all layers that took time.
        runs: that the means were taken over; None when the runner chooses that itself.
        layers: the slowest, at most 50, slowest first.
        parts: all layers summed by the outermost module that their names tell, slowest first; kind is empty.
    """

    total_ms: float
    count: int
    runs: int | None
    layers: tuple[LayerTime, ...] = ()
    parts: tuple[LayerTime, ...] = ()


@dataclass(frozen=True)
class CrossCheck:
    """The same engine timed by another program.

    Args:
        tool: such as "trtexec"; command: as it was run.
        gpu_p50_ms: compute on the GPU alone; p50_ms: with copies to and from it.
        pairs_per_s: its throughput, which overlaps copies with compute.
        difference_pct: our median without copies (with them, where the runner cannot leave them out) over its own,
            minus 1.
    """

    tool: str
    command: str
    gpu_p50_ms: float | None
    p50_ms: float | None
    pairs_per_s: float | None
    difference_pct: float | None
