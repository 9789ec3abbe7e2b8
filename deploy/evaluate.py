"""`stereodistill evaluate`: the accuracy of each variant as it runs, on pairs with truth.

Images are fitted to the network by `stereo.fit_size`, the disparity is brought back, and errors are taken at the
image's own size, under each mask of the benchmark. Pairs are read one at a time, and what was finished when the work is
interrupted is kept. How images' numbers become one: `stereo.protocols`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from deploy.config import EvaluateConfig
from deploy.fp32_difference import Fp32Maps
from deploy.opening import opened, requests
from deploy.result_pictures import PictureFolder, spread
from deploy.results import ModelFacts, ResultRow, read_results, update_results
from deploy.runners.protocol import NativeMethod, Runner, problems_of
from deploy.scores import Counting, Scores
from deploy.summary import METRICS, mean_of
from deploy.terminal_table import print_table
from stereo.errors import UserError
from stereo.pair import StereoPair
from stereo.progress import progress
from stereo.truth_set import TruthSet, open_truth_set, stamp_of

# What a killed process can lose.
KEEP_EVERY_S = 60.0
# What a terminal of 80 columns has room for; the report tells all.
TOLD = ("epe_px", "bad1_pct", "bad2_pct", "d1_pct")

log = logging.getLogger(__name__)


def evaluate(config: EvaluateConfig) -> Path:
    """Run every model on every pair and add the rows to the results file.

    Raises:
        UserError: a model that cannot be opened, data of no known layout, or pairs without truth.
    """
    out = Path(config.out)
    jobs = requests(
        config.models, runtime=config.runtime, precision_hints=config.precision_hints,
        threads=config.threads, size=config.size, iterations=config.iterations,
    )  # fmt: skip
    truth = open_truth_set(config.data, layout=config.layout, split=config.split, images=config.images)
    counting = counting_of(truth, config)
    shown = frozenset(spread([each.name for each in truth.files]))
    log.info(
        "%d pair%s of %s",
        len(truth),
        "s" if len(truth) > 1 else "",
        " and of ".join(counting.dataset(mask) for mask in truth.masks),
    )
    if out.exists():
        read_results(out)  # refuse a wrong --out before the work, not after
    rows: list[ResultRow] = []
    maps = Fp32Maps(shown)
    for job in jobs:
        title = f"{job.variant}, {job.runtime} {job.precision_hint}"
        folder = PictureFolder(out, counting.name) if config.pictures else None
        with opened(job, fixed_size=False) as item:
            watcher = maps.watch(item.model, item.runner)
            scores = Scores(item.runner, item.model, counting, pictures=folder, shown=shown, watcher=watcher)
            rows += score_all(scores, truth, out, title=title)
    say_fits(rows)
    print_accuracy(rows)
    return out


def counting_of(truth: TruthSet, config: EvaluateConfig) -> Counting:
    """Which pixels of the data count: the benchmark's own way, where the options do not say otherwise."""
    limit = truth.protocol.max_disp if config.max_disp is None else (config.max_disp or None)
    return Counting(config.dataset or truth.name, truth.masks, limit, truth.benchmark, truth.split or None)


def score_all(scores: Scores, truth: TruthSet, out: Path, *, title: str) -> list[ResultRow]:
    """Evaluate all pairs and add the rows to the results file; where the work stops, those of the finished images.

    What stopped before is continued, where model, place, program and the files of a pair are still the same.

    Raises:
        UserError: a pair is unreadable, or no pixel counts.
    """
    limit = scores.counting.max_disp
    stamps = {each.name: f"{stamp_of(each)} {limit or 'all'}" for each in truth.files}
    finished = frozenset(scores.take_up(read_results(out), stamps) if out.exists() else ())
    if finished:
        log.info("%s: continues after %d finished images", out, len(finished))
    left = [files for files in truth.files if files.name not in finished]
    kept_at = time.monotonic()
    try:
        with progress(title, len(left), unit="images") as ticker:
            for files in left:
                scores.add(truth.read(files), stamp=stamps[files.name])
                ticker.advance()
                if time.monotonic() - kept_at > KEEP_EVERY_S and scores.counted:
                    update_results(out, scores.rows(of_images=len(truth)), unfinished=True)
                    kept_at = time.monotonic()
    except BaseException:
        if scores.counted:
            update_results(out, scores.rows(of_images=len(truth)), unfinished=True)
            log.warning("%d of %d images are in %s", scores.images, len(truth), out)
        raise
    rows = scores.rows()
    # The runner has told its own when it was opened.
    for problem in dict.fromkeys(problem for row in rows for problem in row.problems):
        if problem not in problems_of(scores.method):
            log.warning("%s: %s", scores.model.variant, problem)
    update_results(out, rows)
    return rows


def evaluate_runner(
    method: Runner | NativeMethod,
    pairs: Sequence[StereoPair],
    *,
    model: ModelFacts,
    dataset: str,
    pictures: PictureFolder | None = None,
    max_disp: float | None = None,
) -> ResultRow:
    """Evaluate one method on pairs with truth, over the noc mask of each that has one.

    Args:
        method: a runner, or a teacher or classical method at native size.
        pairs: each with `disparity`, and with `noc` where it is known.
        model: what the row is about; role "reference" for what variants are compared with.
        dataset: name of the pairs in the report.
        pictures: where to save pictures of some of them; None saves none.
        max_disp: count only pixels whose true disparity is below this.

    Raises:
        UserError: no pairs, or a pair without truth.
    """
    if not pairs:
        raise UserError("no pairs to evaluate on", where=dataset, fix="give at least one pair with truth")
    shown = frozenset(spread([pair.name for pair in pairs]))
    scores = Scores(method, model, Counting(dataset, max_disp=max_disp), pictures=pictures, shown=shown)
    for pair in pairs:
        scores.add(pair)
    (row,) = scores.rows()
    for problem in row.problems:
        log.warning("%s: %s", model.variant, problem)
    return row


def say_fits(rows: Sequence[ResultRow]) -> None:
    """Say once how many images were scaled down to fit a network, since that costs accuracy."""
    sizes = {(row.place.height, row.place.width) for row in rows if row.place.height}
    for height, width in sorted(sizes):
        of_size = [row for row in rows if (row.place.height, row.place.width) == (height, width)]
        entries = {entry.image: entry for row in of_size for entry in row.accuracy}.values()
        scaled = sum(entry.scale < 1 for entry in entries)
        padded = sum(entry.scale == 1 and (entry.height, entry.width) != (height, width) for entry in entries)
        if scaled or padded:
            log.info("network size %dx%d: %d of %d images scaled down to fit (their disparity scaled back up), "
                     "%d padded", height, width, scaled, len(entries), padded)  # fmt: skip


def print_accuracy(rows: Sequence[ResultRow]) -> None:
    """Tables of the averages on stderr, one for each dataset."""
    for dataset in dict.fromkeys(row.accuracy[0].dataset for row in rows):
        lines = []
        for row in rows:
            if row.accuracy[0].dataset != dataset:
                continue
            means = [mean_of(row.accuracy, name) for name in TOLD]
            cells = ["not defined" if value is None else f"{value:.2f}" for value in means]
            place = row.place
            lines.append([row.model.variant, place.runtime, place.precision_hint, *cells, str(len(row.accuracy))])
        print_table(("variant", "runtime", "hint", *(METRICS[name] for name in TOLD), "images"), lines, title=dataset)
