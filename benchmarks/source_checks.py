"""What the check on views and the choice of frames measure on real data and on damaged copies, and what they cost.

    python benchmarks/source_checks.py SOURCE... [--frames 16]

The first table has one line per source, frames judged alone: the range of every number that has a limit. The second
has one line per damage done to the right view (or to both), all sources' frames in it: how many are refused alone, are
warned about because nothing can be told, and pass. The third has the choice of frames for blurred, dark and other
copies. The last has CPU times per frame, by image size, on one thread.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from stereo.frame_selection import THUMBNAIL_SIZE, Selection, ThumbnailState, change_levels
from stereo.image_quality import border_share, bright_share, dark_share, edge_width_px, judged
from stereo.pair import Image, StereoPair
from stereo.pair_check import CheckReport, check_pairs
from stereo.selection_options import SelectionOptions
from stereo.sources import open_source

Views = tuple[Image, Image]
Damage = Callable[[Image, Image], Views]
MEASURED = ("field_px", "p75_px", "rotation_deg", "zoom_pct", "points")
LEAST_RUNS_MS = 3


def warp(image: Image, *, degrees: float = 0, zoom: float = 1, down: float = 0) -> Image:
    """Turned about its centre, zoomed and shifted."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, zoom)
    matrix[1, 2] += down
    return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT).astype(np.uint8)


def noisy(image: Image, gain: float, sigma: float, seed: int) -> Image:
    """Darker, with noise."""
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return np.clip(image * gain + noise, 0, 255).astype(np.uint8)


def soft(image: Image, sigma: float) -> Image:
    """Out of focus by so many pixels at a width of 640."""
    return cv2.GaussianBlur(image, (0, 0), sigma * max(1.0, image.shape[1] / 640)).astype(np.uint8)


def moved(image: Image, length: float) -> Image:
    """Motion blur along the rows by so many pixels at a width of 640."""
    pixels = round(length * max(1.0, image.shape[1] / 640))
    return cv2.filter2D(image, -1, np.full((1, pixels), 1 / pixels, np.float32)).astype(np.uint8)


def barred(image: Image, share: float) -> Image:
    """Black bars above and below."""
    image, bar = image.copy(), round(image.shape[0] * share / 2)
    image[:bar] = image[-bar:] = 0
    return image


DAMAGES: dict[str, Damage] = {
    "as it is": lambda left, right: (left, right),
    "turned by 0.5°": lambda left, right: (left, warp(right, degrees=0.5)),
    "turned by -0.5°": lambda left, right: (left, warp(right, degrees=-0.5)),
    "turned by 1°": lambda left, right: (left, warp(right, degrees=1)),
    "3 px down": lambda left, right: (left, warp(right, down=3)),
    "3 px up": lambda left, right: (left, warp(right, down=-3)),
    "zoomed by 1 %": lambda left, right: (left, warp(right, zoom=1.01)),
    "shrunk by 1 %": lambda left, right: (left, warp(right, zoom=0.99)),
    "views swapped": lambda left, right: (right, left),
    "left image twice": lambda left, right: (left, left.copy()),
    "right view BGR (coloured frames)": lambda left, right: (left, np.ascontiguousarray(right[..., ::-1])),
    "right view mirrored": lambda left, right: (left, np.ascontiguousarray(right[:, ::-1])),
    "both ×0.1, noise 4": lambda left, right: (noisy(left, 0.1, 4, 0), noisy(right, 0.1, 4, 1)),
    "both ×0.1, noise 4, 3 px down": lambda left, right: (
        noisy(left, 0.1, 4, 0), noisy(warp(right, down=3), 0.1, 4, 1)
    ),
}  # fmt: skip
COPIES: dict[str, Callable[[Image], Image]] = {
    "as it is": lambda image: image,
    "noise 8": lambda image: noisy(image, 1, 8, 0),
    "×0.3": lambda image: noisy(image, 0.3, 0, 0),
    "×0.15, noise 3": lambda image: noisy(image, 0.15, 3, 0),
    "×0.05": lambda image: noisy(image, 0.05, 0, 0),
    "×3 + 60": lambda image: np.clip(image * 3.0 + 60, 0, 255).astype(np.uint8),
    "Gaussian blur 1 px": lambda image: soft(image, 1),
    "Gaussian blur 1.5 px": lambda image: soft(image, 1.5),
    "Gaussian blur 2 px": lambda image: soft(image, 2),
    "Gaussian blur 3 px": lambda image: soft(image, 3),
    "motion blur 5 px": lambda image: moved(image, 5),
    "motion blur 9 px": lambda image: moved(image, 9),
    "motion blur 15 px, noise 3": lambda image: noisy(moved(image, 15), 1, 3, 0),
    "bars of 3 %": lambda image: barred(image, 0.03),
    "bars of 10 %": lambda image: barred(image, 0.1),
}


def outcome(report: CheckReport) -> str:
    """refused, warned or passed."""
    return "refused" if report.problems() else "warned" if report.warnings() else "passed"


def table(header: str, rows: list[str]) -> None:
    """Print a Markdown table."""
    print(header, "|" + "---|" * (header.count("|") - 1), *rows, "", sep="\n")


def span(values: list[float], digits: int = 2) -> str:
    """Least and largest."""
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


def source_row(path: Path, pairs: list[StereoPair]) -> str:
    """The ranges of what a source's frames measure."""
    checked = [check_pairs([pair]).answers for pair in pairs]
    vertical = {name: [answers["rectified"].numbers.get(name, np.nan) for answers in checked] for name in MEASURED}
    negative = [answers["order"].numbers["negative_pct"] for answers in checked]
    grays = [judged(view) for pair in pairs for view in (pair.left, pair.right)]
    widths = [width for gray in grays if (width := edge_width_px(gray)) is not None]
    dark, bright, border = (100 * max(map(share, grays)) for share in (dark_share, bright_share, border_share))
    states = [ThumbnailState.of(pair.left) for pair in pairs]
    changes = [change_levels(before, after) for before, after in zip(states, states[1:])]  # noqa: B905, RUF007
    return (
        f"| {path.name} | {len(pairs)} | {span(vertical['points'], 0)} | {span(vertical['field_px'])} "
        f"| {span(vertical['p75_px'])} | {span(vertical['rotation_deg'])} | {span(vertical['zoom_pct'])} "
        f"| {max(negative):.1f} | {span(widths)} | {dark:.1f} | {bright:.1f} | {border:.2f} | {min(changes):.1f} |"
    )


def least_ms(work: Callable[[], object]) -> float:
    """The shortest of a few runs, ms of CPU time: what others do on the machine only adds."""
    times = []
    for _ in range(LEAST_RUNS_MS):
        begin = time.process_time()
        work()
        times.append(1000 * (time.process_time() - begin))
    return min(times)


def time_rows(pairs: list[StereoPair]) -> list[str]:
    """Median over the frames of one size."""
    selection = Selection(SelectionOptions())
    nothing = ThumbnailState(np.zeros(THUMBNAIL_SIZE[::-1], np.float32))
    by_size: dict[tuple[int, int], list[StereoPair]] = defaultdict(list)
    for pair in pairs:
        by_size[pair.width, pair.height].append(pair)
    rows = []
    for (width, height), group in sorted(by_size.items()):
        choose = [least_ms(lambda pair=pair: selection.judge(pair, nothing)) for pair in group]
        check = [least_ms(lambda pair=pair: check_pairs([pair])) for pair in group]
        rows.append(f"| {width}×{height} | {len(group)} | {np.median(choose):.1f} | {np.median(check):.0f} |")
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", type=Path)
    parser.add_argument("--frames", type=int, default=16, help="of each source, for the damaged copies and times")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    rows, some = [], []
    for path in options.sources:
        pairs = [frame.pair for frame in open_source(path) if frame.pair is not None]
        rows.append(source_row(path, pairs))
        some += [pairs[place] for place in np.unique(np.linspace(0, len(pairs) - 1, options.frames).astype(int))]
    table("| source | frames | points | fitted offset px | 75th percentile px | rotation ° | zoom % | largest negative "
          "share % | edge width px | darkest % | brightest % | border % | least change |", rows)  # fmt: skip
    rows = []
    for name, damage in DAMAGES.items():
        chosen = [pair for pair in some if "BGR" not in name or np.ptp(pair.left[::8, ::8], axis=2).max() > 0]
        found = Counter(
            outcome(check_pairs([StereoPair(*damage(pair.left, pair.right), pair.name)])) for pair in chosen
        )
        rows.append(f"| {name} | {len(chosen)} | {found['refused']} | {found['warned']} | {found['passed']} |")
    table("| copy | frames | refused | warned | passed |", rows)
    selection, rows = Selection(SelectionOptions()), []
    for name, change in COPIES.items():
        found = Counter(selection.judge_alone(StereoPair(pair.left, change(pair.right), pair.name)) for pair in some)
        dropped = ", ".join(f"{count} {reason}" for reason, count in found.items() if reason)
        rows.append(f"| {name} | {len(some)} | {found[None]} | {dropped} |")
    table("| right view | frames | kept | dropped |", rows)
    table("| size | frames | choice, CPU ms | check, CPU ms (sampled frames only) |", time_rows(some))


if __name__ == "__main__":
    main()
