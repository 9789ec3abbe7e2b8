"""What trusting a label costs beside the teacher: time of every term and of the whole for one 640×480 frame.

    OMP_NUM_THREADS=1 python benchmarks/trust_cost.py [--rounds 100]

CPU time of one thread (OpenCV is held to one too), the steps in turn in every round. The frame is a procedural scene
and the answer is the truth with gaps where it is occluded, as a teacher's is.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import cv2
import numpy as np
import torch

from distill.scene_clip import as_pair
from distill.scenes import render_scenes
from distill.scenes_config import SceneOptions
from teacher.consistency import consistency_confidence, left_right_difference
from teacher.protocol import TeacherOutput
from teacher.trust import WEIGHTS, available_terms, combined_confidence, weigh
from teacher.trust_options import TrustOptions

SIZE = (480, 640)
WARM_UP = 5


def steps() -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    batch = render_scenes(1, SIZE, generator=torch.Generator().manual_seed(0), options=SceneOptions(bank_size=16))
    pair = as_pair(batch, 0, "scene")
    truth, right = (plane[0, 0].numpy() for plane in (batch.disparity, batch.disparity_right))
    disparity = np.where(pair.noc, truth, np.float32(np.nan)).astype(np.float32)
    confidence = consistency_confidence(left_right_difference(disparity, right))
    output = TeacherOutput(disparity, confidence, right=right, entropy=np.full(SIZE, 0.2, np.float32))
    terms = available_terms(pair, output, [disparity, disparity])
    found = {name: term() for name, term in terms.items()}
    timed: dict[str, Callable[[], object]] = {name: term for name, term in terms.items() if name != "teacher"}
    timed["combination"] = lambda: combined_confidence(found, WEIGHTS)
    timed["all, default"] = lambda: weigh(pair, output, TrustOptions())
    timed["all, stored, perturbed"] = lambda: weigh(
        pair, output, TrustOptions(terms=True), perturbed=[disparity, disparity]
    )
    return timed


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    timed = steps()
    spent: dict[str, list[float]] = {name: [] for name in timed}
    for number in range(WARM_UP + options.rounds):
        for name, step in timed.items():
            start = time.process_time()
            step()
            if number >= WARM_UP:
                spent[name].append(1000 * (time.process_time() - start))
    print(f"{SIZE[1]}x{SIZE[0]}, one thread, n = {options.rounds}, OpenCV {cv2.__version__}, numpy {np.__version__}, "
          f"load {os.getloadavg()[0]:.1f}\n")  # fmt: skip
    print("| step | p50 ms | p90 ms | least ms |\n|---|---|---|---|")
    for name, each in spent.items():
        print(f"| {name} | {np.percentile(each, 50):.1f} | {np.percentile(each, 90):.1f} | {min(each):.1f} |")


if __name__ == "__main__":
    main()
