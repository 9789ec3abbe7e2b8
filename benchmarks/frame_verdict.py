"""Which share of pixels is trusted in good frames and in damaged ones: where the frame verdict's bound lies.

    python benchmarks/frame_verdict.py [PAIRS] [--teacher sgbm|onnx] [--model FILE.onnx] [--scenes 24 --seed 101]

Every frame is matched as it is and damaged: with the next frame's right view, with its views swapped, and with the
right view 2, 5 and 15 rows too low. The last column counts the frames that would not be trusted.
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np
from confidence_pairs import add_arguments, pairs_of, teacher_of

from stereo.pair import Image, StereoPair
from teacher.protocol import Teacher
from teacher.trust import trusted
from teacher.trust_options import TrustOptions

ROWS_TOO_LOW = (2, 5, 15)


def damaged(pair: StereoPair, stranger: Image) -> dict[str, StereoPair]:
    """The pair as it is, and in every damaged form.

    Args:
        pair: a frame.
        stranger: the right view of another frame, of any size.
    """
    other = cv2.resize(stranger, (pair.width, pair.height)).astype(np.uint8)
    frames = {
        "as it is": pair,
        "another frame's right view": StereoPair(pair.left, other, pair.name),
        "views swapped": StereoPair(pair.right, pair.left, pair.name),
    }
    for rows in ROWS_TOO_LOW:
        frames[f"right view {rows} rows too low"] = StereoPair(pair.left, np.roll(pair.right, rows, axis=0), pair.name)
    return frames


def shares_pct(teacher: Teacher, pairs: list[StereoPair], options: TrustOptions) -> dict[str, list[float]]:
    """Share of trusted pixels of every frame in every form, and how many frames got the verdict."""
    found: dict[str, list[float]] = {}
    for number, pair in enumerate(pairs):
        for name, frame in damaged(pair, pairs[(number + 1) % len(pairs)].right).items():
            label = trusted(teacher, frame, options)
            found.setdefault(name, []).append(100 * float((label.confidence >= 0.5).mean()))
    return found


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    options = parser.parse_args()
    bound = TrustOptions()
    found = shares_pct(teacher_of(options), list(pairs_of(options)), bound)
    print(f"| frames | least % | median % | most % | below {100 * bound.min_trusted:g} % |\n|---|---|---|---|---|")
    for name, shares in found.items():
        few = sum(share < 100 * bound.min_trusted for share in shares)
        print(f"| {name} | {min(shares):.1f} | {np.median(shares):.1f} | {max(shares):.1f} | {few} of {len(shares)} |")


if __name__ == "__main__":
    main()
