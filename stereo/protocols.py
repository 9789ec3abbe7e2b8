"""What each benchmark counts, and how the numbers of its images become one: the protocol of the RAFT-Stereo evaluation.

EPE is always the mean of per-image EPEs and D1 always a share of all counted pixels of all images. Shares of bad pixels
(bad-1, 2, 3) are per-image shares, averaged, on Middlebury and ETH3D; on KITTI and SceneFlow that evaluation takes the
one it reports (bad-3, bad-1) over pixels. https://arxiv.org/abs/2109.07547, `evaluate_stereo.py` of its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

D1 = frozenset({"d1_pct"})


@dataclass(frozen=True)
class Protocol:
    """How one benchmark is counted.

    Args:
        max_disp: only pixels whose true disparity is below this count, px; None counts all.
        over_pixels: the metrics that are shares of all pixels of all images; the others are means of images' numbers.
        images: split → how many pairs it has when it is complete.
    """

    max_disp: float | None = None
    over_pixels: frozenset[str] = D1
    images: Mapping[str, int] = field(default_factory=dict)


SCENEFLOW_BAD = D1 | {"bad1_pct", "bad2_pct", "bad3_pct"}
# Keys are the benchmarks' names in reports.
PROTOCOLS: dict[str, Protocol] = {
    "Middlebury v3": Protocol(images={"trainingF": 15, "trainingH": 15, "trainingQ": 15}),
    "Middlebury": Protocol(),
    "ETH3D": Protocol(images={"training": 27}),
    "KITTI 2012": Protocol(over_pixels=D1 | {"bad3_pct"}, images={"training": 194}),
    "KITTI 2015": Protocol(over_pixels=D1 | {"bad3_pct"}, images={"training": 200}),
    "FlyingThings3D": Protocol(
        192,
        SCENEFLOW_BAD,
        {f"{name} {part}": count for name in ("finalpass", "cleanpass") for part, count in (("TEST", 4370),
                                                                                            ("TRAIN", 22390))},
    ),
    "FlyingThings3D subset": Protocol(192, SCENEFLOW_BAD),
    "Driving": Protocol(192, SCENEFLOW_BAD, {"finalpass": 4400, "cleanpass": 4400}),
    "Monkaa": Protocol(192, SCENEFLOW_BAD, {"finalpass": 8664, "cleanpass": 8664}),
    "FSD": Protocol(),
}  # fmt: skip


def protocol_of(benchmark: str | None) -> Protocol:
    """The protocol of a benchmark by its name; the plain one for anything else."""
    return PROTOCOLS.get(benchmark or "", Protocol())
