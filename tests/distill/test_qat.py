"""Training with fake quantisation: what rounds, what is learnt, resuming, and a result that is an ordinary student."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from safetensors.torch import load_file

from calibration.frames import read_fitted
from calibration.precision import quantised_nodes
from calibration.quantize import quantize_student
from distill.batches import Batch
from distill.config import LossOptions, QatOptions, TrainConfig
from distill.qat import quantised_student, without_quantisers
from stereo.cli import main
from stereo.label_set import LabelSet
from student.checkpoint import load_student, read_metadata, save_student
from student.presets import build_student

SIZE = (64, 96)


@pytest.fixture(scope="module")
def graphs(student_file: Path, clip_labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("graphs") / "out"
    return quantize_student(student_file, LabelSet.open(clip_labels), size=SIZE, out=out, frame_count=4)


@pytest.fixture
def config(student_file: Path, graphs: Path, clip_labels: Path, tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        out=tmp_path / "out", preset="tiny", init=str(student_file), qat=QatOptions(graphs, clip_labels)
    )  # fmt: skip


def input_ranges(graph: onnx.ModelProto) -> dict[str, list[float]]:
    """Module → largest input of its convolution, once for each time that it runs, as its Q/DQ nodes have it."""
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    made = {name: node for node in graph.graph.node for name in node.output}
    found: dict[str, list[float]] = {}
    for node in graph.graph.node:
        if node.name in quantised_nodes(graph):
            scale = float(weights[made[node.input[0]].input[1]].ravel()[0])
            found.setdefault(node.name.rpartition("/")[0], []).append(127 * scale)
    return found


def test_ranges_are_those_of_the_graph(config: TrainConfig, graphs: Path) -> None:
    """For convolutions that run once; one range serves all refinement steps here, and each has its own in the graph."""
    trained = quantised_student(load_student(config.init or ""), config)
    modules = dict(trained.module.named_modules())
    compared = 0
    for name, ranges in input_ranges(onnx.load(graphs / "int8.onnx")).items():
        if len(ranges) == 1:
            assert modules[f"{name}.input_quantizer"]._amax.item() == pytest.approx(ranges[0], rel=0.002), name
            compared += 1
    assert compared > 10


def test_rounding_moves_the_map(config: TrainConfig, clip_labels: Path) -> None:
    plain = load_student(config.init or "")
    trained = quantised_student(load_student(config.init or ""), config)
    trained.set_training()
    frame = read_fitted(LabelSet.open(clip_labels), 0, SIZE)
    left, right = torch.from_numpy(frame.left), torch.from_numpy(frame.right)
    with torch.no_grad():
        moved = (trained.module.eval()(left, right) - plain(left, right)).abs()
    assert 1e-5 < moved.mean() < 0.1


def test_the_same_convolutions_round(config: TrainConfig, graphs: Path) -> None:
    trained = quantised_student(load_student(config.init or ""), config)
    rounding = {name.removesuffix(".input_quantizer") for name, module in trained.module.named_modules()
                if name.endswith("input_quantizer") and module.is_enabled}  # fmt: skip
    assert rounding == {name.rpartition("/")[0] for name in quantised_nodes(onnx.load(graphs / "int8.onnx"))}


def test_gradients_pass_the_rounding_and_the_loss_sees_the_difference(config: TrainConfig) -> None:
    trained = quantised_student(load_student(config.init or ""), config)
    trained.set_training()
    generator = torch.Generator().manual_seed(0)
    left, right = (255 * torch.rand(2, 3, *SIZE, generator=generator) for _ in range(2))
    batch = Batch(left, right, torch.full((2, 1, *SIZE), 8.0), torch.ones(2, 1, *SIZE), ["a", "b"])
    losses = trained.losses(batch, LossOptions())
    assert losses.difference is not None
    assert losses.difference > 0
    losses.total.backward()
    assert all(weight.grad is not None for weight in trained.module.parameters())
    assert not any(weight.requires_grad for weight in trained._plain[0].parameters())
    assert not [
        name for name, layer in trained.module.named_modules() if "Batch" in type(layer).__name__ and layer.training
    ]


def test_without_quantisers_it_is_an_ordinary_student(config: TrainConfig) -> None:
    plain = load_student(config.init or "")
    back = without_quantisers(quantised_student(load_student(config.init or ""), config).module)
    assert back.state_dict().keys() == plain.state_dict().keys()
    assert all(torch.equal(tensor, plain.state_dict()[name]) for name, tensor in back.state_dict().items())


def arguments(out: Path, student: Path, graphs: Path, labels: Path, *more: str) -> list[str]:
    return [
        "train", "--out", str(out), "--preset", "tiny", "--init", str(student), "--qat.graphs", str(graphs),
        "--qat.frames", str(labels), "--data.labels", f"[{labels}]", "--data.crop", "64x96", "--data.batch_size", "2",
        "--data.block", "4", "--data.workers", "0", "--validate_every", "0", "--precision", "32-true",
        "--optimiser.learning_rate", "1e-4", "--trainer.accelerator", "cpu", *more,
    ]  # fmt: skip


@pytest.mark.slow
def test_a_run_resumes_exactly_and_its_result_is_quantised_like_any_student(
    student_file: Path, graphs: Path, clip_labels: Path, tmp_path: Path,
    interrupted: Callable[[subprocess.Popen[str], Path], str],
) -> None:  # fmt: skip
    steps = ["--steps", "16", "--checkpoint_every", "2"]
    cut = arguments(tmp_path / "cut", student_file, graphs, clip_labels, *steps)
    process = subprocess.Popen([sys.executable, "-m", "stereo.cli", *cut], stderr=subprocess.PIPE, text=True)
    interrupted(process, tmp_path / "cut")
    assert main(cut) == 0
    assert main(arguments(tmp_path / "whole", student_file, graphs, clip_labels, *steps)) == 0
    first, second = (load_file(tmp_path / name / "student.safetensors") for name in ("cut", "whole"))
    assert all(torch.equal(first[name], second[name]) for name in second)
    changed = load_file(student_file)
    assert any(not torch.equal(first[name], changed[name]) for name in changed)
    training = read_metadata(tmp_path / "whole" / "student.safetensors")["training"]
    assert str(graphs / "calibration.json") in training["made_from"]

    labels = LabelSet.open(clip_labels)
    out = quantize_student(tmp_path / "whole" / "student.safetensors", labels, size=SIZE, out=tmp_path / "again",
                           frame_count=4)  # fmt: skip
    names = [json.loads((folder / "manifest.json").read_text())["precision"]["quantised"] for folder in (graphs, out)]
    assert names[0] == names[1]


@pytest.mark.slow
def test_two_processes_learn_what_one_does(student_file: Path, graphs: Path, clip_labels: Path, tmp_path: Path) -> None:
    """Sums in another order move a gradient by roundings, and AdamW a weight by the learning rate at most."""
    for devices in ("1", "2"):
        words = arguments(tmp_path / devices, student_file, graphs, clip_labels, "--steps", "4", "--data.lanes", "2",
                          "--trainer.devices", devices)  # fmt: skip
        subprocess.run([sys.executable, "-m", "stereo.cli", *words], check=True, capture_output=True, timeout=580)
    one, two = (load_file(tmp_path / devices / "student.safetensors") for devices in ("1", "2"))
    start = load_file(student_file)
    moved = max((one[name] - start[name]).abs().max().item() for name in one)
    apart = max((one[name] - two[name]).abs().max().item() for name in one)
    assert moved > 1e-4
    assert apart < 1e-4 * 4


def test_what_does_not_go_together_is_refused(
    student_file: Path, graphs: Path, clip_labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.safetensors"
    torch.manual_seed(1)
    save_student(build_student("tiny", max_disp=64), other, training={})
    half = tmp_path / "half"
    half.mkdir()
    shutil.copy(graphs / "manifest.json", half)
    flat = tmp_path / "flat"
    shutil.copytree(graphs, flat)
    manifest = json.loads((graphs / "manifest.json").read_text())
    manifest["config"]["apc_form"] = "conv2d"
    (flat / "manifest.json").write_text(json.dumps(manifest))
    out, labels = tmp_path / "out", str(clip_labels)
    base = ["train", "--out", str(out), "--preset", "tiny", "--data.crop", "64x96", "--data.workers", "0"]
    given = ["--init", str(student_file), "--qat.graphs", str(graphs), "--qat.frames", labels]
    for more, words in [
        (given[2:], "starts from a student"),
        (given[:4], "the ranges come from frames"),
        (given[:2] + given[4:], "training with rounding needs graphs"),
        ([*given, "--qat.difference", "-1"], "-1.0 is out of range"),
        ([*given, "--qat.difference", "nan"], "qat.difference"),
        ([*given, "--batch_norm", "train"], "batch statistics stay as they are"),
        (["--init", str(other), *given[2:]], "were made of another student"),
        ([*given[:2], "--qat.graphs", str(flat), "--qat.frames", labels], "--apc_form conv2d"),
        ([*given[:2], "--qat.graphs", str(half), "--qat.frames", labels], "no such file"),
    ]:
        assert main([*base, *more]) == 2, words
        assert words in capsys.readouterr().err
        assert not (out / "train.json").exists()  # nothing that the right command would stumble over
