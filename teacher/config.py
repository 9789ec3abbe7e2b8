"""Options of the teachers and of their verbs; imports nothing heavy, so that `--help` works anywhere."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import ClassVar, Literal

from stereo.options import positional
from stereo.selection_options import CheckOptions, SelectionOptions
from stereo.source_options import SourceOptions
from stereo.sources import Kind
from teacher.run_options import RunOptions
from teacher.trust_options import TrustOptions

# How the right view's disparity is found for the left-right check: in one batch with the left one's, sharing the
# features, or by a second pass over mirrored images.
Consistency = Literal["shared", "exact"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Device = Literal["auto", "cpu", "cuda"]


@dataclass
class TeacherOptions:
    """Which teacher, and how.

    Args:
        name: sgbm (OpenCV semi-global matching, no weights), onnx (any ONNX stereo network) or foundation_stereo (the
            full FoundationStereo network, with weights that you obtained from NVIDIA).
        model: onnx only: the .onnx file, or the YAML that describes it and names it.
        description: onnx only: the YAML that describes the network, or the name of a shipped one, such as
            hitnet_eth3d. Without it the network is recognised by its names, or must take left and right
            (N×3×H×W, raw RGB) and give disparity.
        checkpoint: foundation_stereo only: a published model_best_bp2.pth, or a .safetensors of convert-teacher.
        max_disp: largest disparity in px. For sgbm the range that is searched, a multiple of 16, 128 by default; for
            onnx it masks what is larger, and the description's value is the default; for foundation_stereo the range
            of the cost volume, a multiple of 32, the checkpoint's own (416) by default.
        threads: onnx and foundation_stereo on the CPU: threads of one inference; the number of cores by default.
        iterations: foundation_stereo only: refinement steps, 32 by default.
        scale: foundation_stereo only: size the images are resized to before they are matched, 1 by default; the
            disparity comes back at full size.
        hierarchical: foundation_stereo only: match at half size first; for images of more than about 1000 px.
        vit: foundation_stereo only: refuse a checkpoint of another size than vits or vitl.
        attention_axis: foundation_stereo only: what its disparity transformer attends over; disparity by default.
        precision: foundation_stereo only: auto is fp16 on a GPU and fp32 on a CPU.
        device: foundation_stereo only: auto takes a GPU when there is one.
        consistency: foundation_stereo only: how the right view is matched for the left-right check. shared (the
            default) does both views in one batch over the same features; exact runs a second pass, which takes longer
            and less memory.
    """

    name: Literal["sgbm", "onnx", "foundation_stereo"] = field(default="sgbm", kw_only=True)
    model: str | None = field(default=None, kw_only=True)
    description: str | None = field(default=None, kw_only=True)
    checkpoint: str | None = field(default=None, kw_only=True)
    max_disp: int | None = field(default=None, kw_only=True)
    threads: int | None = field(default=None, kw_only=True)
    iterations: int | None = field(default=None, kw_only=True)
    scale: float | None = field(default=None, kw_only=True)
    hierarchical: bool | None = field(default=None, kw_only=True)
    vit: Literal["vits", "vitb", "vitl"] | None = field(default=None, kw_only=True)
    attention_axis: Literal["disparity", "heads"] | None = field(default=None, kw_only=True)
    precision: Precision | None = field(default=None, kw_only=True)
    device: Device | None = field(default=None, kw_only=True)
    consistency: Consistency | None = field(default=None, kw_only=True)


@dataclass
class ConvertTeacherConfig:
    """Options of `stereodistill convert-teacher`.

    Args:
        checkpoint: a published model_best_bp2.pth of FoundationStereo.
        out: the .safetensors to write.
        max_disp: disparity range to note in it, in pixels, a multiple of 32; that of cfg.yaml beside the checkpoint,
            or 416, when left out.
    """

    checkpoint: str = positional()
    out: str = field(kw_only=True)
    max_disp: int | None = field(default=None, kw_only=True)


@dataclass
class ShowConfig:
    """Options of `stereodistill show`.

    Args:
        labels: a label set.
        out: the page to write; show.html in the set when left out.
        limit: draw at most this many frames of every verdict.
        width: of the pictures, px.
    """

    labels: str = positional()
    out: str | None = field(default=None, kw_only=True)
    limit: int = field(default=60, kw_only=True)
    width: int = field(default=480, kw_only=True)


@dataclass
class LabelConfig:
    """Options of `stereodistill label`.

    Args:
        source: a folder of stereo images or of a data set, a video with both views side by side, a ROS bag or MCAP
            file, or the left folder or video of two.
        out: folder of the label set; an interrupted one is resumed.
        right: folder or video of the right view, when it is apart.
        kind: what the source is (also --source.kind); auto finds out.
        reading: how it is read (also --source.OPTION).
        calibration: file with the cameras' calibration, to rectify the images with; a source that brings one along and
            is known not to be rectified is rectified with that.
        check: what is checked on a sample of its frames before anything is labelled.
        force: label a source that does not pass the check; the manifest says so.
        select: which frames are worth a label.
        limit: label at most this many frames.
        stride: label every n-th frame.
        links: link the source's images into the label set where that is possible, instead of writing copies.
        keep_threshold: pixels of at least this confidence count as kept; recorded for the training.
        pictures: how many previews to draw.
        trust: how confidence is made, and when a frame is not trusted.
        run: how many processes label (also --devices, --nodes, --verify).
        teacher: the teacher.
    """

    shorthands: ClassVar[dict[str, str]] = {
        "teacher": "teacher.name",
        "source.kind": "kind",
        "source.right": "right",
        **{f"source.{field.name}": f"reading.{field.name}" for field in fields(SourceOptions)},
        **{option.name: f"run.{option.name}" for option in fields(RunOptions)},
    }

    source: str = positional()
    out: str = field(kw_only=True)
    right: str | None = field(default=None, kw_only=True)
    kind: Kind = field(default="auto", kw_only=True)
    reading: SourceOptions = field(default_factory=SourceOptions, kw_only=True)
    calibration: str | None = field(default=None, kw_only=True)
    check: CheckOptions = field(default_factory=CheckOptions, kw_only=True)
    force: bool = field(default=False, kw_only=True)
    select: SelectionOptions = field(default_factory=SelectionOptions, kw_only=True)
    limit: int | None = field(default=None, kw_only=True)
    stride: int = field(default=1, kw_only=True)
    links: bool = field(default=True, kw_only=True)
    keep_threshold: float = field(default=0.5, kw_only=True)
    pictures: int = field(default=4, kw_only=True)
    trust: TrustOptions = field(default_factory=TrustOptions, kw_only=True)
    run: RunOptions = field(default_factory=RunOptions, kw_only=True)
    teacher: TeacherOptions = field(default_factory=TeacherOptions, kw_only=True)
