"""How busy training keeps the processor: samples per second, and the share of time it waits for data.

    python benchmarks/training.py                  trains nano on procedural scenes for a few steps and reads its log
    python benchmarks/training.py --log RUN/log    reads the log of a run that is there

The first steps are left out: they include the making of the texture bank and the first convolutions' planning.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
from pathlib import Path

from distill.config import DataOptions, TrainConfig
from distill.train import train


def read_log(folder: Path, *, skip: int) -> dict[str, list[float]]:
    """Columns of all metrics files of a run, rows of the first `skip` steps left out."""
    columns: dict[str, list[float]] = {"data_wait_share": [], "samples_per_s": []}
    for path in sorted(folder.glob("*/metrics.csv")):
        with path.open() as file:
            rows = [row for row in csv.DictReader(file) if row.get("data_wait_share")]
        first = min((int(row["step"]) for row in rows), default=0)
        for row in rows:
            if int(row["step"]) >= first + skip:
                for name, values in columns.items():
                    values.append(float(row[name]))
    return columns


def main() -> None:
    """Print median and 90th percentile of each column."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", type=Path, help="log folder of a run; trains one when left out")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--labels", type=Path, help="a label set to train on as well")
    parser.add_argument("--skip", type=int, default=20, help="steps to leave out at the start")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = options.log
        if log is None:
            data = DataOptions(labels=[options.labels] if options.labels else [])
            train(TrainConfig(out=Path(folder), steps=options.steps, data=data, validate_every=0))
            log = Path(folder) / "log"
        columns = read_log(log, skip=options.skip)
    for name, values in columns.items():
        if not values:
            raise SystemExit(f"{log}: no row of {name} after {options.skip} steps; train longer")
        high = statistics.quantiles(values, n=10)[-1] if len(values) > 1 else values[0]
        print(f"{name:16} median {statistics.median(values):.4f}  p90 {high:.4f}  n {len(values)}")


if __name__ == "__main__":
    main()
