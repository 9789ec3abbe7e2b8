"""Options of stereo sources that are not found from the path; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Layout = Literal["full", "half"]
Camera = Literal["auto", "gray", "colour"]


@dataclass
class SourceOptions:
    """How a source is read.

    Args:
        layout: side-by-side video only: full when each view has its own width, half when both views were squeezed to
            half their width to fit into one, and are to be stretched again.
        camera: KITTI only: the gray pair (cameras 0 and 1) or the colour pair (2 and 3); auto takes colour if there.
        left_topic: bags only: topic of the left view; found when left out and exactly one pair of topics is plausible.
        right_topic: bags only: topic of the right view.
        tolerance_ms: bags, EuRoC: views whose stamps differ by more are not a pair. Cameras that are triggered
            together have equal stamps; at 5 ms a camera that moves at 1 m/s is 5 mm away from where it was.
        render_pass: SceneFlow only: which of its two renderings.
        benchmark_part: benchmark folders only: the part to read, such as training or testing, when there are several.
    """

    layout: Layout = field(default="full", kw_only=True)
    camera: Camera = field(default="auto", kw_only=True)
    left_topic: str | None = field(default=None, kw_only=True)
    right_topic: str | None = field(default=None, kw_only=True)
    tolerance_ms: float = field(default=5.0, kw_only=True)
    render_pass: Literal["finalpass", "cleanpass"] = field(default="finalpass", kw_only=True)
    benchmark_part: str | None = field(default=None, kw_only=True)
