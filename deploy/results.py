"""The results file: one row per (variant, device, runtime), written by `profile` and `evaluate`, read by `report`.

A row carries everything a number depends on. What was not measured is None, never 0. Rows of a file are never changed
in place: a newer row that measured the same thing replaces the older one, all others stay.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from deploy.profile_records import CrossCheck, Layers, Power, Soak
from deploy.typed_json import parse
from stereo.artifacts import commit, now, read_json, tool_versions, write_json
from stereo.error_regions import RegionErrors
from stereo.errors import UserError

SCHEMA = "stereodistill results"
# Version 2 added fields that may be left out; files of version 1 are read as they are.
SCHEMA_VERSION, READABLE_VERSIONS = 2, (1, 2)


@dataclass(frozen=True)
class Latency:
    """Wall-clock time of one pair through one compiled variant, input already in memory, output read back.

    Args:
        p50_ms: the median; of an estimated row, the estimate.
        p90_ms, p99_ms, mean_ms: over `n` timed runs after `warmup` untimed ones; None where nothing ran (estimates).
        ratio_to_fp32: median over the rounds of one interleaved run of time / time of the FP32 variant of the same
            student under the same runtime; None where that variant was not in the run.
        low_ms, high_ms: of an estimate, its error bar: how far the same model was off on published latencies.
    """

    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    mean_ms: float | None
    n: int
    warmup: int
    ratio_to_fp32: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None

    @property
    def pairs_per_s(self) -> float | None:
        """Throughput of one pair after another, nothing overlapped; None where nothing ran."""
        return None if self.mean_ms is None else 1e3 / self.mean_ms

    @property
    def spread_ms(self) -> tuple[float, float]:
        """From and to: an estimate's error bar, or a measurement's median and p90."""
        low = self.p50_ms if self.low_ms is None else self.low_ms
        return low, self.high_ms or self.p90_ms or self.p50_ms


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process of its own that loads and runs one variant, in MB of 10^6 bytes.

    Args:
        peak_mb: the largest, interpreter and runtime libraries included.
        peak_over_baseline_mb: how far that is above the same process with the runtime imported and no model loaded.
        board_mb: how far the free memory of a Jetson fell meanwhile: with the GPU's part, which is no process's own,
            and whatever else ran; None elsewhere.
    """

    peak_mb: float
    peak_over_baseline_mb: float
    board_mb: float | None = None

    @property
    def used_mb(self) -> float:
        """What running the variant takes: a Jetson's memory as a whole, whose GPU's part no process shows as its own;
        elsewhere the process's growth."""
        return self.peak_over_baseline_mb if self.board_mb is None else self.board_mb


@dataclass(frozen=True)
class ImageAccuracy:
    """Errors of one image at its native size; see `stereo.metrics.DisparityErrors` for the definitions.

    Args:
        mask: which pixels count, such as "noc" or "all".
        height, width: of the image, px.
        scale: network pixels per image pixel; below 1 the image was scaled down to fit.
        nonfinite_pixels: NaN or infinite values that a network put out, None for methods that leave pixels open.
        benchmark: such as "KITTI 2015", whose protocol tells how images' numbers become one; None for other data.
        split: of the benchmark, such as "training".
        stamp: of its files and the limit of disparity, so that interrupted work continues only what would be the same.
        regions: the same errors by disparity, distance to depth edges, texture and visibility; empty when not taken.
    """

    dataset: str
    image: str
    mask: str
    height: int
    width: int
    scale: float
    epe_px: float | None
    bad1_pct: float
    bad2_pct: float
    bad3_pct: float
    d1_pct: float
    max_error_px: float | None
    p99_error_px: float | None
    valid_pixels: int
    coverage_pct: float
    nonfinite_pixels: int | None = None
    benchmark: str | None = None
    split: str | None = None
    stamp: str | None = None
    regions: tuple[RegionErrors, ...] = ()


@dataclass(frozen=True)
class Difference:
    """How far a variant's disparity lies from that of the same student's FP32 variant, pixel by pixel.

    Args:
        to_variant, to_sha256: the FP32 variant, run under the same runtime in float32.
        images, pixels: how many were compared: those images that pictures are saved of, everywhere both predict.
        mean_px, mean_abs_px: of variant minus FP32.
        edges_px: of the histogram's bins, ascending.
        counts: pixels below the first edge, in each bin, and from the last edge on: one more than edges_px.
    """

    to_variant: str
    to_sha256: str | None
    images: int
    pixels: int
    mean_px: float
    mean_abs_px: float
    edges_px: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Pictures:
    """PNG files of one image, as paths relative to the results file."""

    image: str
    left: str
    truth: str
    disparity: str
    error: str


@dataclass(frozen=True)
class ModelFacts:
    """What a model is, whatever runs it.

    Args:
        variant: how people call it, such as "nano int8".
        path, sha256, size_bytes: of its file; None for what is no file (SGBM).
        precision: of the weights: "fp32", "fp16", "int8"; None when it has none.
        source_sha256: of the student it was exported from, so that its variants are known as a family.
        role: "variant", or "reference" for teachers and classical methods that variants are compared with.
    """

    variant: str
    path: str | None = None
    sha256: str | None = None
    size_bytes: int | None = None
    preset: str | None = None
    precision: str | None = None
    max_disp: int | None = None
    iterations: int | None = None
    source_sha256: str | None = None
    role: Literal["variant", "reference"] = "variant"


@dataclass(frozen=True)
class Place:
    """Where and how a model ran.

    Args:
        runtime: "onnxruntime", "openvino", "torch", "opencv", ...
        precision_hint: the arithmetic the runtime was told to use for what the graph leaves open, such as "f32".
        device: name of the processor or board.
        power_mode: the board's or processor's power setting; None when it does not tell.
        height, width: of the network's input, px; None when each image ran at its own size.
        notes: what the runtime told about the compiled model, such as the count of its integer kernels.
    """

    runtime: str
    runtime_version: str
    precision_hint: str
    device: str
    threads: int
    power_mode: str | None
    height: int | None
    width: int | None
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ResultRow:
    """One row: which model, where it ran, what was measured, and how to get it again.

    Args:
        kind: "measured" on the device, or "estimated" from something else.
        latency_without_copies: of the compute alone, inputs already on the device and the output left there; None where
            the runtime has no such copies or cannot leave them out.
        power, soak, layers, cross_check: see `deploy.profile_records`; None when not measured.
        accuracy: one entry per image, empty when not evaluated.
        problems: what a reader must know before trusting the numbers.
        of_images: how many images there were to evaluate, where the work stopped before the last; None when it did not.
        difference: from the FP32 variant, where both were evaluated in one run.
    """

    model: ModelFacts
    place: Place
    kind: Literal["measured", "estimated"] = "measured"
    latency: Latency | None = None
    memory: Memory | None = None
    accuracy: tuple[ImageAccuracy, ...] = ()
    pictures: tuple[Pictures, ...] = ()
    problems: tuple[str, ...] = ()
    of_images: int | None = None
    difference: Difference | None = None
    latency_without_copies: Latency | None = None
    power: Power | None = None
    soak: Soak | None = None
    layers: Layers | None = None
    cross_check: CrossCheck | None = None
    commit: str | None = None
    tools: dict[str, str] = field(default_factory=dict)
    command: str = ""
    made_at: str = ""

    @property
    def identity(self) -> tuple[str | None, ...]:
        """Rows with the same identity are about the same model on the same runtime, precision and device."""
        model = self.model.sha256 or self.model.variant
        return (model, self.place.runtime, self.place.precision_hint, self.place.device, self.kind)

    @property
    def setting(self) -> tuple[object, ...]:
        """What, beyond the identity, a latency depends on."""
        return (self.place.threads, self.place.power_mode, self.place.height, self.place.width)


def make_row(model: ModelFacts, place: Place, **measured: Any) -> ResultRow:
    """A row stamped with commit, tool versions, command line and time."""
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return ResultRow(model, place, commit=commit(), tools=tool_versions(), command=command, made_at=now(), **measured)


def write_results(path: Path | str, rows: Sequence[ResultRow]) -> None:
    """Write a results file, atomically."""
    content = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "made_at": now(), "commit": commit(), "rows": rows}
    write_json(path, content)


def update_results(path: Path | str, rows: Sequence[ResultRow], *, unfinished: bool = False) -> list[ResultRow]:
    """Add rows to a results file, making it when it is not there.

    A row that measured the same (latency, or accuracy on the same data, of the same model in the same place) replaces
    the older one; one without a soak run leaves the older one with a soak run alone, which took long to measure.

    Args:
        unfinished: the rows lack images that are still to come; they replace older rows of the same images only.

    Raises:
        UserError: the file is there but is no results file.
    """
    path = Path(path)
    old = read_results(path) if path.exists() else []
    measured = {key: _images(row) for row in rows for key in (_measured(row), _measured(replace(row, soak=None)))}
    kept = [
        row
        for row in old
        if _measured(row) not in measured or (unfinished and not _images(row) <= measured[_measured(row)])
    ]
    merged = [*kept, *rows]
    write_results(path, merged)
    return merged


def _measured(row: ResultRow) -> tuple[object, ...]:
    datasets = frozenset(entry.dataset for entry in row.accuracy)
    return (row.identity, row.setting, row.latency is not None, row.soak is not None, datasets)


def _images(row: ResultRow) -> frozenset[str]:
    return frozenset(entry.image for entry in row.accuracy)


def read_results(path: Path | str) -> list[ResultRow]:
    """Read and check a results file.

    Raises:
        UserError: missing, not a results file, of another schema version, or with a field of the wrong type.
    """
    content = read_json(path, what="results file")
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise UserError("is not a results file of this project", where=path, fix="profile and evaluate write them")
    version = content.get("schema_version")
    if version not in READABLE_VERSIONS:
        readable = " and ".join(map(str, READABLE_VERSIONS))
        raise UserError(f"results of schema version {version}, this program reads {readable}", where=path,
                        fix="measure again, or use the version of the program that wrote it")  # fmt: skip
    rows = content.get("rows")
    if not isinstance(rows, list):
        raise UserError("has no list of rows", where=path, fix="measure again")
    return [parse(ResultRow, row, where=f"{path}: row {index}") for index, row in enumerate(rows)]


def read_all(paths: Iterable[Path | str]) -> list[ResultRow]:
    """The rows of several files, in order; picture paths become absolute.

    Raises:
        UserError: as `read_results`.
    """
    rows = []
    for path in paths:
        folder = Path(path).resolve().parent
        for row in read_results(path):
            rows.append(replace(row, pictures=tuple(_absolute(item, folder) for item in row.pictures)))
    return rows


def _absolute(pictures: Pictures, folder: Path) -> Pictures:
    files = {name: str(folder / getattr(pictures, name)) for name in ("left", "truth", "disparity", "error")}
    return replace(pictures, **files)
