"""How far two teachers' label sets of one source agree, where both trust themselves and where both answer.

    python benchmarks/label_agreement.py SET OTHER

Neither is the truth, but two teachers that have nothing in common seldom err alike.
"""

from __future__ import annotations

import argparse

import numpy as np

from stereo.label_set import LabelSet

WRONG_PX = 2.0


def main() -> None:
    """Print means over the frames."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs=2)
    one, other = (LabelSet.open(path) for path in parser.parse_args().sets)
    rows = []
    for first, second in zip(one, other, strict=True):
        assert first.name == second.name, "two sets of one source"
        difference = np.abs(first.disparity - second.disparity)
        kept = (first.confidence >= one.keep_threshold) & (second.confidence >= other.keep_threshold)
        answered = np.isfinite(difference)
        rows.append([kept.mean(), (difference[kept] > WRONG_PX).mean(), (difference[answered] > WRONG_PX).mean()])
    both, apart, apart_of_all = 100 * np.nanmean(rows, axis=0)
    print(f"kept by both {both:.1f} %, of these {apart:.2f} % are over {WRONG_PX:g} px apart; "
          f"of all that both answer {apart_of_all:.2f} %")  # fmt: skip


if __name__ == "__main__":
    main()
