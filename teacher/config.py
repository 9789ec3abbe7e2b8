"""Options of the teachers and of the verb `label`; imports nothing heavy, so that `--help` works anywhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from stereo.options import positional
from stereo.sources import Kind


@dataclass
class TeacherOptions:
    """Which teacher, and how.

    Args:
        name: sgbm (OpenCV semi-global matching, no weights) or onnx (any ONNX stereo network).
        model: onnx only: the .onnx file, or the YAML that describes it and names it.
        description: onnx only: the YAML that describes the network, or the name of a shipped one, such as
            hitnet_eth3d. Without it the network is recognised by its names, or must take left and right
            (N×3×H×W, raw RGB) and give disparity.
        max_disp: largest disparity in px. For sgbm the range that is searched, a multiple of 16, 128 by default; for
            onnx it masks what is larger, and the description's value is the default.
        threads: onnx only: threads of one inference; the number of cores by default.
    """

    name: Literal["sgbm", "onnx"] = field(default="sgbm", kw_only=True)
    model: str | None = field(default=None, kw_only=True)
    description: str | None = field(default=None, kw_only=True)
    max_disp: int | None = field(default=None, kw_only=True)
    threads: int | None = field(default=None, kw_only=True)


@dataclass
class LabelConfig:
    """Options of `stereodistill label`.

    Args:
        source: a folder of stereo images, a side-by-side video, or the left folder or video of two.
        out: folder of the label set; an interrupted one is resumed.
        right: folder or video of the right view, when it is apart.
        kind: what the source is; auto finds out.
        limit: label at most this many frames.
        stride: label every n-th frame.
        links: link the source's images into the label set where that is possible, instead of writing copies.
        keep_threshold: pixels of at least this confidence count as kept; recorded for the training.
        pictures: how many previews to draw.
        teacher: the teacher.
    """

    shorthands: ClassVar[dict[str, str]] = {"teacher": "teacher.name"}

    source: str = positional()
    out: str = field(kw_only=True)
    right: str | None = field(default=None, kw_only=True)
    kind: Kind = field(default="auto", kw_only=True)
    limit: int | None = field(default=None, kw_only=True)
    stride: int = field(default=1, kw_only=True)
    links: bool = field(default=True, kw_only=True)
    keep_threshold: float = field(default=0.5, kw_only=True)
    pictures: int = field(default=4, kw_only=True)
    teacher: TeacherOptions = field(default_factory=TeacherOptions, kw_only=True)
