"""`stereodistill evaluate`: the accuracy of each variant as it runs, on pairs with truth.

Images are fitted to the network by `stereo.fit_size`, the disparity is brought back, and errors are taken at the
image's own size over its noc mask, or over all pixels with truth where there is no mask. Numbers are per image; the
report averages images, as the RAFT-Stereo evaluation does (https://arxiv.org/abs/2109.07547).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

from deploy.config import EvaluateConfig
from deploy.opening import opened, place_of, requests
from deploy.result_pictures import PictureFolder
from deploy.results import ImageAccuracy, ModelFacts, Pictures, ResultRow, make_row, read_results, update_results
from deploy.run_pair import Prediction, run_pair
from deploy.runners.protocol import NativeMethod, Runner
from deploy.summary import mean_of
from deploy.terminal_table import print_table
from stereo.benchmarks import load_pairs
from stereo.errors import UserError
from stereo.metrics import errors_against_truth
from stereo.pair import StereoPair
from stereo.progress import Ticker, progress

log = logging.getLogger(__name__)


def evaluate(config: EvaluateConfig) -> Path:
    """Run every model on every pair and add the rows to the results file.

    Raises:
        UserError: a model that cannot be opened, or data without truth.
    """
    out = Path(config.out)
    jobs = requests(
        config.models, runtime=config.runtime, precision_hints=config.precision_hints,
        threads=config.threads, size=config.size, iterations=config.iterations,
    )  # fmt: skip
    pairs = load_pairs(config.data)
    dataset = config.dataset or Path(config.data).resolve().name
    if out.exists():
        read_results(out)  # refuse a wrong --out before the work, not after
    rows = []
    for job in jobs:
        title = f"{job.variant}, {job.runtime} {job.precision_hint}"
        with opened(job, fixed_size=False) as item, progress(title, len(pairs), unit="images") as ticker:
            folder = PictureFolder(out, dataset) if config.pictures else None
            row = evaluate_runner(
                item.runner, pairs, model=item.model, dataset=dataset, pictures=folder,
                max_disp=config.max_disp or None, ticker=ticker,
            )  # fmt: skip
        rows.append(row)
        update_results(out, rows[-1:])
    say_fits(rows)
    print_accuracy(rows)
    return out


def evaluate_runner(
    method: Runner | NativeMethod,
    pairs: Sequence[StereoPair],
    *,
    model: ModelFacts,
    dataset: str,
    pictures: PictureFolder | None = None,
    max_disp: float | None = None,
    ticker: Ticker | None = None,
) -> ResultRow:
    """Evaluate one method on pairs with truth.

    Args:
        method: a runner, or a teacher or classical method at native size.
        pairs: each with `disparity`, and with `noc` where it is known.
        model: what the row is about; role "reference" for what variants are compared with.
        dataset: name of the pairs in the report.
        pictures: where to save pictures; None saves none.
        max_disp: count only pixels whose true disparity is below this.

    Raises:
        UserError: no pairs, or a pair without truth.
    """
    if not pairs:
        raise UserError("no pairs to evaluate on", where=dataset, fix="give at least one pair with truth")
    accuracy: list[ImageAccuracy] = []
    saved: list[Pictures] = []
    for pair in pairs:
        prediction = run_pair(method, pair)
        entry = image_accuracy(prediction, pair, dataset=dataset, max_disp=max_disp)
        accuracy.append(entry)
        if pictures is not None:
            saved.append(pictures.save(pair, prediction.disparity, model=model, runtime=method.runtime,
                                       precision_hint=method.precision_hint))  # fmt: skip
        if ticker is not None:
            ticker.advance()
    problems = nonfinite_problems(accuracy)
    for problem in problems:
        log.warning("%s: %s", model.variant, problem)
    size = None if isinstance(method, NativeMethod) else method.input_size
    place = place_of(method, size)
    return make_row(model, place, accuracy=tuple(accuracy), pictures=tuple(saved), problems=problems)


def nonfinite_problems(accuracy: Sequence[ImageAccuracy]) -> tuple[str, ...]:
    """What a reader must know of images on which a network put out NaN or infinity."""
    return tuple(
        f"{entry.nonfinite_pixels} of {entry.height * entry.width} pixels of {entry.image} came out as NaN or "
        "infinite; they count as bad, and EPE leaves them out"
        for entry in accuracy
        if entry.nonfinite_pixels
    )


def image_accuracy(prediction: Prediction, pair: StereoPair, *, dataset: str, max_disp: float | None) -> ImageAccuracy:
    """Errors of one prediction.

    Raises:
        UserError: the pair has no truth.
    """
    if pair.disparity is None:
        raise UserError("has no true disparity to evaluate against", where=pair.name)
    errors = errors_against_truth(prediction.disparity, pair.disparity, mask=pair.noc, max_disp=max_disp)
    fields = dataclasses.asdict(errors)
    return ImageAccuracy(
        dataset=dataset,
        image=pair.name,
        mask=fields.pop("mask_name"),
        height=pair.height,
        width=pair.width,
        scale=prediction.fit.factor if prediction.fit else 1.0,
        nonfinite_pixels=prediction.nonfinite_pixels,
        **fields,
    )


def say_fits(rows: Sequence[ResultRow]) -> None:
    """Say once how many images were scaled down to fit a network, since that costs accuracy."""
    sizes = {(row.place.height, row.place.width) for row in rows if row.place.height}
    for height, width in sorted(sizes):
        of_size = [row for row in rows if (row.place.height, row.place.width) == (height, width)]
        entries = {(entry.dataset, entry.image): entry for row in of_size for entry in row.accuracy}.values()
        scaled = sum(entry.scale < 1 for entry in entries)
        padded = sum(entry.scale == 1 and (entry.height, entry.width) != (height, width) for entry in entries)
        if scaled or padded:
            log.info("network size %dx%d: %d of %d images scaled down to fit (their disparity scaled back up), "
                     "%d padded", height, width, scaled, len(entries), padded)  # fmt: skip


def print_accuracy(rows: Sequence[ResultRow]) -> None:
    """A table of the averages on stderr."""
    lines = []
    for row in rows:
        means = [mean_of(row.accuracy, name) for name in ("epe_px", "bad2_pct", "d1_pct")]
        cells = ["not defined" if value is None else f"{value:.2f}" for value in means]
        place = row.place
        lines.append([row.model.variant, place.runtime, place.precision_hint, *cells, str(len(row.accuracy))])
    print_table(("variant", "runtime", "precision hint", "EPE px", "bad-2 %", "D1 %", "images"), lines)
