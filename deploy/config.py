"""Options of deploy's verbs. Free of torch and of every runtime, so that `--help` works anywhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from stereo.options import positional

# Whose names the inputs and the output of a graph have, and what the inputs take: `deploy.io_form`.
Convention = Literal["stereodistill", "nvlabs", "isaac_ros"]
Pixels = Literal["float32", "uint8"]


@dataclass
class DoctorConfig:
    """Options of `stereodistill doctor`.

    Args:
        json: print JSON instead of a table.
    """

    json: bool = field(default=False, kw_only=True)


@dataclass
class BuildConfig:
    """Options of `stereodistill build`.

    Args:
        onnx: the ONNX graph to build; its precision is what stands in it.
        runtime: what to build for. TensorRT-RTX builds ahead of time, also without a GPU; tensorrt builds for the GPU
            it runs on.
        out: the engine file to write, NAME.engine; NAME.manifest.json is written beside it, and NAME.layers.json where
            the engine can be opened.
        compute_capability: of the GPU to build for, such as 8.6, with tensorrt_rtx; empty takes 8.6.
        workspace_mb: memory a layer may use for intermediate results, in MB of 10^6 bytes; 0 sets no limit.
        memory_limit_mb: memory the builder may use while it tries kernels, in MB of 10^6 bytes; on a board, whose GPU
            shares the memory, all that it holds. 0 takes 60 % of what is free on a board, and sets no limit elsewhere.
            On a board of 8 GB, 3000 leaves room for a desktop.
        optimization_level: how long the builder looks for fast kernels, 0 to 5.
        timing_cache: file that keeps what tensorrt measured, so that the next build on this board is short; made when
            it is missing. Empty keeps none.
    """

    onnx: str = positional()
    runtime: Literal["tensorrt_rtx", "tensorrt"] = field(kw_only=True)
    out: str = field(kw_only=True)
    compute_capability: str = field(default="", kw_only=True)
    workspace_mb: int = field(default=0, kw_only=True)
    memory_limit_mb: int = field(default=0, kw_only=True)
    optimization_level: int = field(default=3, kw_only=True)
    timing_cache: str = field(default="", kw_only=True)


@dataclass
class ProfileConfig:
    """Options of `stereodistill profile`.

    Args:
        models: shipped students' names, .onnx, .engine or .safetensors files, or folders of .onnx files.
        out: the results file; rows are added to one that exists.
        size: HEIGHTxWIDTH for models that take any; a graph exported for another size is refused. Empty takes each
            graph's own.
        runtime: runtimes to measure, separated by commas; "auto" takes onnxruntime for .onnx.
        precision_hints: arithmetic for what a graph leaves open, separated by commas; each is a row of its own where
            the runtime knows it.
        threads: how many threads a runtime may use.
        runs: timed runs of each variant, at most.
        seconds: stop the timed runs after about this time for all variants together.
        warmup: untimed runs of each variant before.
        left, right: images to run on; without them, a textured pair is drawn.
        memory: measure the peak memory of each variant in a process of its own.
        layers: measure each layer too, with the runtime's own profiler.
        minutes: afterwards run each variant for so long without a pause, and show how heat changes its latency. Ctrl-C
            ends it and keeps what was measured.
        power: where power, load and temperature of a Jetson come from; auto is tegrastats there and nothing elsewhere.
        estimate: BOARD@MODE such as orin-nx-16gb@25W, or several separated by commas: estimate what the models would
            take there, and run nothing; see docs/estimates.md.
    """

    models: list[str] = positional(nargs="+")
    out: str = field(kw_only=True)
    size: str = field(default="", kw_only=True)
    runtime: str = field(default="auto", kw_only=True)
    precision_hints: str = field(default="f32", kw_only=True)
    threads: int = field(default=1, kw_only=True)
    runs: int = field(default=50, kw_only=True)
    seconds: float = field(default=60.0, kw_only=True)
    warmup: int = field(default=5, kw_only=True)
    left: str = field(default="", kw_only=True)
    right: str = field(default="", kw_only=True)
    memory: bool = field(default=True, kw_only=True)
    layers: bool = field(default=False, kw_only=True)
    minutes: float = field(default=0.0, kw_only=True)
    power: Literal["auto", "tegrastats", "jtop", "off"] = field(default="auto", kw_only=True)
    estimate: str = field(default="", kw_only=True)


@dataclass
class EvaluateConfig:
    """Options of `stereodistill evaluate`.

    Args:
        models: shipped students' names, .onnx or .safetensors files, or folders of .onnx files; FoundationStereo's
            .pth too.
        data: folder of Middlebury, ETH3D, KITTI 2012 or 2015, SceneFlow or FSD as it was downloaded, or of pairs with
            truth: NAME/left.png, right.png, disp_left_x256.png and perhaps noc.png.
        out: the results file; rows are added to one that exists.
        layout: what the data is, where its folder could be more than one: pairs, middlebury, eth3d, kitti2012,
            kitti2015, sceneflow, fsd; "auto" finds out.
        split: which part of a benchmark, such as trainingH or frames_cleanpass/TEST; empty takes the usual one.
        images: evaluate so many pairs only, drawn as the RAFT-Stereo evaluation draws its 400 of FlyingThings3D; 0
            takes all.
        dataset: what the data is called in the report; empty takes benchmark and split, or the folder's name.
        runtime: runtimes to run on, separated by commas; "auto" takes onnxruntime for .onnx.
        precision_hints: arithmetic for what a graph leaves open, separated by commas; each is a row of its own where
            the runtime knows it.
        threads: how many threads a runtime may use.
        size: HEIGHTxWIDTH to run models at that take any; empty pads each image to a multiple of 32.
        iterations: refinement steps, for .safetensors and .pth files; as trained (FoundationStereo: 32) when left out.
        max_disp: count only pixels whose true disparity is below this, in px; 0 counts all, and left out it is the
            benchmark's own limit: 192 on SceneFlow, none elsewhere.
        pictures: save disparity and error pictures of at most 8 images beside the results file.
    """

    models: list[str] = positional(nargs="+")
    data: str = field(kw_only=True)
    out: str = field(kw_only=True)
    layout: str = field(default="auto", kw_only=True)
    split: str = field(default="", kw_only=True)
    images: int = field(default=0, kw_only=True)
    dataset: str = field(default="", kw_only=True)
    runtime: str = field(default="auto", kw_only=True)
    precision_hints: str = field(default="f32", kw_only=True)
    threads: int = field(default=1, kw_only=True)
    size: str = field(default="", kw_only=True)
    iterations: int | None = field(default=None, kw_only=True)
    max_disp: float | None = field(default=None, kw_only=True)
    pictures: bool = field(default=True, kw_only=True)


@dataclass
class PredictConfig:
    """Options of `stereodistill predict`.

    Args:
        left: left image of a rectified pair; with a calibration of raw cameras, of a pair as they took it.
        right: right image.
        model: a shipped student's name, an .onnx or a .safetensors file, or a published .pth of FoundationStereo; the
            best student that ships with this version when left out.
        out: folder to write disparity.pfm, disparity.png and color.png to.
        runtime: what runs the model; "auto" takes onnxruntime for .onnx.
        precision_hint: arithmetic for what the graph leaves open.
        threads: how many threads the runtime may use.
        size: HEIGHTxWIDTH to run a model at that takes any; empty pads the images to a multiple of 32.
        iterations: refinement steps, for .safetensors and .pth files; as trained (FoundationStereo: 32) when left out.
        max_disp: disparity range in pixels, a multiple of 32, for students in .safetensors files; as trained when left
            out.
        focal_px: focal length of the left image in pixels; with baseline_m, depth.png and points.ply are written too.
        baseline_m: distance of the cameras in metres.
        doffs_px: difference of the principal points, right minus left, in pixels; 0 when left out.
        cx, cy: principal point of the left image in pixels, for points.ply; the image's centre when left out.
        calibration: file with these numbers instead: Middlebury's, KITTI's, K.txt of FoundationStereo, OpenCV YAML,
            Kalibr; images of cameras that are not ideal are rectified with it first.
        max_depth_m: points farther away are left out of points.ply, in metres; 0 keeps all.
    """

    left: str = positional()
    right: str = positional()
    out: str = field(kw_only=True)
    model: str | None = field(default=None, kw_only=True)
    runtime: str = field(default="auto", kw_only=True)
    precision_hint: str = field(default="f32", kw_only=True)
    threads: int = field(default=2, kw_only=True)
    size: str = field(default="", kw_only=True)
    iterations: int | None = field(default=None, kw_only=True)
    max_disp: int | None = field(default=None, kw_only=True)
    focal_px: float | None = field(default=None, kw_only=True)
    baseline_m: float | None = field(default=None, kw_only=True)
    doffs_px: float | None = field(default=None, kw_only=True)
    cx: float | None = field(default=None, kw_only=True)
    cy: float | None = field(default=None, kw_only=True)
    calibration: str | None = field(default=None, kw_only=True)
    max_depth_m: float = field(default=100.0, kw_only=True)


@dataclass
class ReportConfig:
    """Options of `stereodistill report`.

    Args:
        results: results files of profile and evaluate, of any devices.
        out: the page to write; report.md is written beside it under the same name, and results.csv.
        title: heading of the report.
        baseline: a results file, or its folder, that the others are compared with.
        fail_on_regression: exit with 3 when something is worse than in the baseline, beyond noise, or was not measured
            any more.
        pictures: few shows those of variants that no other beats, of references and FP32 variants, small enough that
            12 variants on 7 images make a page below 8 MB; all shows everything.
        studies: sensitivity.json of `sensitivity` and calibration.json of `quantize` to show with the variants of that
            student, separated by commas.
        references: variants that serve as baselines and are never the answer to a budget, by name, separated by
            commas.
    """

    results: list[str] = positional(nargs="+")
    out: str = field(default="report.html", kw_only=True)
    title: str = field(default="Latency and accuracy of the stereo students", kw_only=True)
    baseline: str = field(default="", kw_only=True)
    fail_on_regression: bool = field(default=False, kw_only=True)
    pictures: Literal["few", "all"] = field(default="few", kw_only=True)
    studies: str = field(default="", kw_only=True)
    references: str = field(default="", kw_only=True)


@dataclass
class BundleConfig:
    """Options of `stereodistill bundle`.

    Args:
        models: .onnx files, or folders of them as quantize writes them.
        out: the archive to write, a .tar.
        pairs: folder of pairs with truth, as evaluate takes it, to evaluate on the board.
        wheelhouse: put the packages in that a board needs beside JetPack's; false for boards that have them all.
        targets: the boards' processors and Pythons, separated by commas: aarch64-cp310 is JetPack 6, aarch64-cp312
            JetPack 7.
    """

    models: list[str] = positional(nargs="+")
    out: str = field(default="bundle.tar", kw_only=True)
    pairs: str = field(default="", kw_only=True)
    wheelhouse: bool = field(default=True, kw_only=True)
    targets: str = field(default="aarch64-cp310,aarch64-cp312", kw_only=True)


@dataclass
class FlashConfig:
    """Options of `stereodistill flash`.

    Args:
        bundle: the archive, as bundle writes it.
        board: user@host, as for ssh.
        out: folder on this machine for the board's results.
        port: of ssh on the board; ssh's own setting when left out.
        identity: file of the private key; ssh's own setting when left out.
        known_hosts: file with the board's host key; ssh's own setting when left out.
        directory: folder on the board that is flash's own.
        variants: which models, separated by commas, by name, precision or file name such as int8; empty takes all.
        power_modes: power modes to profile in, separated by commas, by name or number as nvpmodel knows them, through
            `sudo -n nvpmodel`; the mode is put back afterwards. Empty measures in the mode that is set, and asks for
            nothing.
        runtime: tensorrt builds engines on the board; onnxruntime runs the graphs on its CPU.
        seconds: stop the timed runs of profile after about this time, for all variants together.
        threads: how many threads onnxruntime may use.
        layers: measure each layer too, as profile does.
        minutes: afterwards run each variant for so long without a pause, in each power mode, as profile does.
        again: measure again what was measured before.
    """

    bundle: str = positional()
    board: str = positional()
    out: str = field(default="board", kw_only=True)
    port: int | None = field(default=None, kw_only=True)
    identity: str = field(default="", kw_only=True)
    known_hosts: str = field(default="", kw_only=True)
    directory: str = field(default="~/stereodistill", kw_only=True)
    variants: str = field(default="", kw_only=True)
    power_modes: str = field(default="", kw_only=True)
    runtime: Literal["tensorrt", "onnxruntime"] = field(default="tensorrt", kw_only=True)
    seconds: float = field(default=30.0, kw_only=True)
    threads: int = field(default=1, kw_only=True)
    layers: bool = field(default=False, kw_only=True)
    minutes: float = field(default=0.0, kw_only=True)
    again: bool = field(default=False, kw_only=True)
