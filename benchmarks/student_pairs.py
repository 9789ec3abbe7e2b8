"""How good students are on pairs with truth, beside SGBM and a peer network: pictures, errors, time ratios.

    python benchmarks/student_pairs.py PAIRS --model NAME|FILE... [--max_disp N] [--sgbm] [--peer FILE.onnx]
        [--picture FILE.png] [--time] [--rounds 7] [--threads 1] [--only NAME...]

Prints EPE px / bad-1 % / bad-2 % of each pair (noc where there is a mask, any disparity) and the means over the
five pairs that students are judged by, as far as they are there. Students run in PyTorch FP32, the peer in onnxruntime
as for `--teacher onnx`; its answers are not masked. SGBM is this project's teacher without its left-right check,
searched over the range of the truth, holes filled along the row from the farther side.

--picture draws one row per pair: left, truth, then prediction and error of each method, errors from blue (< 0.25 px) to
red (> 8 px). --time measures every network in onnxruntime FP32 and in OpenVINO f32, all taking turns in one run per
pair; the ratio is the median over rounds of student / peer, each in its faster runtime.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from student_pair_times import print_times

from deploy.models import resolve_models, variant_names
from deploy.run_pair import run_pair
from deploy.runners.registry import open_runner
from stereo.benchmarks import load_pairs
from stereo.errors import UserError
from stereo.metrics import DisparityErrors, errors_against_truth
from stereo.pair import Disparity, Image, StereoPair
from stereo.pictures import disparity_picture, error_picture, side_by_side, stacked, write_png
from teacher.onnx_teacher import OnnxTeacher
from teacher.semi_global import SemiGlobalTeacher

JUDGED = ("tsukuba", "teddy", "cones", "motorcycle_q", "kitti2015_000046")
CELL_HEIGHT, CELL_WIDTH = 180, 320
Method = Callable[[StereoPair], Disparity]


def filled(disparity: Disparity) -> Disparity:
    """Holes take the smaller of the nearest values to their left and right; rows without any value take 0."""
    columns = np.broadcast_to(np.arange(disparity.shape[1]), disparity.shape)
    known = np.isfinite(disparity)
    before = np.maximum.accumulate(np.where(known, columns, -1), axis=1)
    after = np.minimum.accumulate(np.where(known, columns, disparity.shape[1])[:, ::-1], axis=1)[:, ::-1]
    padded = np.pad(disparity, ((0, 0), (0, 1)), constant_values=np.inf)  # index -1 and W: no such neighbour
    nearest = np.minimum(np.take_along_axis(padded, before, axis=1), np.take_along_axis(padded, after, axis=1))
    return np.where(np.isfinite(nearest), np.where(known, disparity, nearest), 0).astype(np.float32)


def semi_global(pair: StereoPair) -> Disparity:
    """SGBM over the range of the truth, filled."""
    assert pair.disparity is not None
    largest = float(np.nanmax(pair.disparity))
    return filled(SemiGlobalTeacher(16 * int(largest // 16 + 1)).left_disparity(pair))


@contextlib.contextmanager
def methods(options: argparse.Namespace, paths: Sequence[Path]) -> Iterator[dict[str, Method]]:
    """Everything that is compared, by name."""
    found: dict[str, Method] = {}
    with contextlib.ExitStack() as stack:
        for name, path in zip(variant_names(paths), paths, strict=True):
            chosen = options.max_disp if path.suffix == ".safetensors" else None
            runner = open_runner(path, threads=options.threads, max_disp=chosen)
            stack.callback(runner.close)
            found[name] = lambda pair, runner=runner: run_pair(runner, pair).disparity
        if options.sgbm:
            found["SGBM"] = semi_global
        if options.peer:
            peer = OnnxTeacher.open(options.peer, threads=options.threads)
            found[peer.description.name] = lambda pair: peer.match(pair.left, pair.right)
        yield found


def errors_of(pair: StereoPair, disparity: Disparity) -> DisparityErrors:
    """Errors of one prediction."""
    assert pair.disparity is not None
    return errors_against_truth(disparity, pair.disparity, mask=pair.noc)


def is_judged(name: str) -> bool:
    """Whether a pair is one of the five."""
    return any(part in name for part in JUDGED)


def cell(errors: Sequence[DisparityErrors]) -> str:
    """EPE / bad-1 / bad-2, mean over images."""
    epes = [each.epe_px for each in errors if each.epe_px is not None]
    epe = f"{np.mean(epes):.2f}" if len(epes) == len(errors) and epes else "–"
    bad1, bad2 = np.mean([(each.bad1_pct, each.bad2_pct) for each in errors], axis=0) if errors else (np.nan, np.nan)
    return f"{epe} / {bad1:.1f} / {bad2:.1f}"


def print_errors(found: dict[str, dict[str, DisparityErrors]]) -> None:
    """One row per pair, one column per method, then the means.

    Args:
        found: pair → method → errors.
    """
    names = list(next(iter(found.values())))
    print(f"| EPE px / bad-1 % / bad-2 % | pixels | {' | '.join(names)} |\n|---|---|{'---|' * len(names)}")
    for pair, row in found.items():
        print(f"| {pair} | {row[names[0]].mask_name} | {' | '.join(cell([row[name]]) for name in names)} |")
    groups = {"all": list(found), "those judged by": [pair for pair in found if is_judged(pair)]}
    for title, pairs in groups.items():
        if pairs:
            cells = [cell([found[pair][name] for pair in pairs]) for name in names]
            print(f"| **mean of {len(pairs)}, {title}** | | {' | '.join(cells)} |")


def strip(pair: StereoPair, predictions: dict[str, Disparity], errors: dict[str, DisparityErrors]) -> Image:
    """One row of the sheet: left, truth, prediction and error of each method, with names and numbers."""
    assert pair.disparity is not None
    largest = float(np.nanpercentile(pair.disparity, 99))
    cells = [(pair.name, pair.left), ("truth", disparity_picture(pair.disparity, largest))]
    for name, disparity in predictions.items():
        cells.append((name, disparity_picture(disparity, largest)))
        title = f"EPE {errors[name].epe_px or np.nan:.2f} bad-2 {errors[name].bad2_pct:.1f}%"
        cells.append((title, error_picture(disparity, pair.disparity)))
    return side_by_side(*(titled(image, title) for title, image in cells))


def titled(image: Image, title: str) -> Image:
    """An image that fits a cell of the sheet, with a line of text above; single pixels with truth keep their colour."""
    factor = min(CELL_HEIGHT / image.shape[0], CELL_WIDTH / image.shape[1])
    size = round(image.shape[1] * factor), round(image.shape[0] * factor)
    small = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST)
    line = np.full((18, size[0], 3), 255, np.uint8)
    cv2.putText(line, title, (2, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([line, small]).astype(np.uint8)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", help="folder of pairs with truth")
    parser.add_argument("--model", nargs="+", required=True, help="shipped students, .safetensors or .onnx files")
    parser.add_argument("--max_disp", type=int, help="disparity range of the students; as trained when left out")
    parser.add_argument("--sgbm", action="store_true")
    parser.add_argument("--peer", help="an ONNX stereo network of others")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=[], help="parts of the names of the pairs to take")
    return parser.parse_args(arguments)


def compare(options: argparse.Namespace) -> None:
    """Do what the module's text says.

    Raises:
        UserError: a model, a pair or a setting that does not work.
    """
    paths = resolve_models(options.model)
    pairs = [
        each for each in load_pairs(options.pairs) if not options.only or any(p in each.name for p in options.only)
    ]
    if not pairs:
        raise UserError("no pair of such a name", where=options.pairs, fix="check --only")
    cv2.setNumThreads(options.threads)
    found: dict[str, dict[str, DisparityErrors]] = {}
    rows = []
    with methods(options, paths) as compared:
        for pair in pairs:
            predictions = {name: method(pair) for name, method in compared.items()}
            found[pair.name] = {name: errors_of(pair, disparity) for name, disparity in predictions.items()}
            if options.picture:
                rows.append(strip(pair, predictions, found[pair.name]))
            print(f"{pair.name} done", file=sys.stderr)
    print_errors(found)
    if options.picture:
        write_png(options.picture, stacked(*rows))
    if options.time:
        print_times(pairs, paths, options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print Markdown tables; see the module's text."""
    try:
        compare(parse(arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
