"""`stereodistill profile`: latency percentiles and peak memory of each variant, measured side by side.

All variants are open at once and take turns, so that their ratios hold; memory is measured one process per variant.
The clock covers one pair: input arrays ready in memory, output array back in memory, no file work. What needs a variant
to run alone comes after: power, a soak run, layers, trtexec (`deploy.profile_alone`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.config import ProfileConfig
from deploy.estimate_rows import profile_estimates
from deploy.measure import Timing, latency, time_rounds
from deploy.memory import measure_memory
from deploy.opening import Opened, opened, place_of, requests
from deploy.profile_alone import Alone, clock_problem, warn_of_clocks
from deploy.profile_tables import print_rows
from deploy.results import ModelFacts, ResultRow, make_row, read_results, update_results
from deploy.run_pair import check_output, network_inputs, plan_fit
from deploy.runners.protocol import NativeMethod, Runner, RunsWithoutCopies, problems_of
from deploy.textured_pair import textured_pair
from stereo.errors import UserError
from stereo.pair import StereoPair, read_image
from stereo.progress import progress

log = logging.getLogger(__name__)


def profile(config: ProfileConfig) -> Path:
    """Measure every model and add the rows to the results file.

    Raises:
        UserError: a model that cannot be opened, a graph of another size than asked for, or a wrong setting.
        KeyboardInterrupt: Ctrl-C; what was measured before is in the results file.
    """
    if config.estimate:
        return profile_estimates(config)
    out = Path(config.out)
    timing = Timing(config.runs, config.seconds, config.warmup)
    alone = Alone(config.minutes, config.layers, config.power)
    jobs = requests(
        config.models, runtime=config.runtime, precision_hints=config.precision_hints,
        threads=config.threads, size=config.size,
    )  # fmt: skip
    if out.exists():
        read_results(out)  # refuse a wrong --out before the work, not after
    given = given_pair(config.left, config.right)
    warn_of_clocks()
    with contextlib.ExitStack() as stack:
        items = [stack.enter_context(opened(job, fixed_size=True)) for job in jobs]
        sizes = [run_size(item) for item in items]
        pairs = [given or textured_pair(*size) for size in sizes]
        if config.minutes:
            log.info("soak runs: %d × %g minutes, after the timing; Ctrl-C keeps what was measured", len(items),
                     config.minutes)  # fmt: skip
        rows = profile_together([(item.runner, item.model) for item in items], pairs, timing=timing)
        update_results(out, rows)
        for index, (item, pair) in enumerate(zip(items, pairs, strict=True)):
            rows[index], stopped = alone.measure(rows[index], item, pair)
            update_results(out, rows)
            if stopped:
                print_rows(rows)
                raise KeyboardInterrupt
    if config.memory:
        rows = [with_memory(row, item, size) for row, item, size in zip(rows, items, sizes, strict=True)]
        update_results(out, rows)
    print_rows(rows)
    return out


def profile_runner(
    method: Runner | NativeMethod, pair: StereoPair, *, model: ModelFacts, timing: Timing | None = None
) -> ResultRow:
    """Measure the latency of one method alone; see `profile_together`."""
    return profile_together([(method, model)], [pair], timing=timing or Timing())[0]


def profile_together(
    methods: Sequence[tuple[Runner | NativeMethod, ModelFacts]], pairs: Sequence[StereoPair], *, timing: Timing
) -> list[ResultRow]:
    """Measure latencies with all methods taking turns.

    A runner is timed from network input to network output; a native method with all its own pre- and post-processing,
    which its row notes.

    Args:
        pairs: one for each method.
    """
    prepared = [prepare(method, pair) for (method, _), pair in zip(methods, pairs, strict=True)]
    bare = {index: method.run_without_copies for index, (method, _) in enumerate(methods)
            if isinstance(method, RunsWithoutCopies)}  # fmt: skip
    with progress("timing", timing.runs, unit="rounds") as ticker:
        times_ms = time_rounds([*(step for step, _ in prepared), *bare.values()], timing, ticker=ticker)
    clocks = tuple(filter(None, [clock_problem()]))
    rows = []
    for index, ((method, model), (_, size)) in enumerate(zip(methods, prepared, strict=True)):
        place = place_of(method, size)
        if isinstance(method, NativeMethod):
            notes = {**place.notes, "runtime.timed": "with its own pre- and post-processing"}
            place = dataclasses.replace(place, notes=notes)
        base = fp32_index(methods, index)
        fp32_ms = None if base is None else times_ms[:, base]
        measured = latency(times_ms[:, index], warmup=timing.warmup, fp32_ms=fp32_ms)
        compute = None
        if index in bare:
            compute = latency(times_ms[:, len(methods) + list(bare).index(index)], warmup=timing.warmup)
        problems = (*clocks, *problems_of(method))
        rows.append(make_row(model, place, latency=measured, latency_without_copies=compute, problems=problems))
    return rows


def prepare(method: Runner | NativeMethod, pair: StereoPair) -> tuple[Callable[[], object], tuple[int, int]]:
    """The step to time, and the (H, W) it runs at; the first run checks the output.

    Raises:
        UserError: the output is no disparity map of the input's size.
    """
    if isinstance(method, NativeMethod):
        return (lambda: method.predict(pair)), (pair.height, pair.width)
    fit = plan_fit(method, pair.height, pair.width)
    left, right = network_inputs(fit, pair)
    check_output(method, method.run(left, right), fit.network)
    return (lambda: method.run(left, right)), fit.network


def fp32_index(methods: Sequence[tuple[Runner | NativeMethod, ModelFacts]], index: int) -> int | None:
    """Which method is the FP32 variant of the same student under the same runtime and the f32 hint."""
    method, model = methods[index]
    if model.source_sha256 is None:
        return None
    for other, (candidate, facts) in enumerate(methods):
        if (facts.precision, candidate.precision_hint) == ("fp32", "f32") and (
            (facts.source_sha256, candidate.runtime) == (model.source_sha256, method.runtime)
        ):
            return other
    return None


def given_pair(left: str, right: str) -> StereoPair | None:
    """The pair of --left and --right, None without them.

    Raises:
        UserError: only one of them, or images that make no pair.
    """
    if not left and not right:
        return None
    if not (left and right):
        raise UserError("only one image given", where="--left/--right", fix="give both, or none")
    return StereoPair(read_image(left), read_image(right), name=Path(left).name)


def run_size(item: Opened) -> tuple[int, int]:
    """(H, W) that a runner runs at.

    Raises:
        UserError: it takes any size and none was given.
    """
    size = item.runner.input_size or item.request.size
    if size is None:
        raise UserError("takes any size", where=item.request.path, fix="give --size, such as --size 480x640")
    return size


def with_memory(row: ResultRow, item: Opened, size: tuple[int, int]) -> ResultRow:
    """The row with peak memory measured in a new process."""
    request = item.request
    memory = measure_memory(
        request.path, request.runtime, threads=request.threads, precision_hint=request.precision_hint, size=size
    )
    return dataclasses.replace(row, memory=memory)
