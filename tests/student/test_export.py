"""Export: the graph computes what the module computes, and says what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from deploy.export import export_onnx, get_metadata
from deploy.operators import ALLOWED
from stereo.benchmarks import motorcycle_pair
from stereo.cli import main
from student.checkpoint import save_student
from student.export import export_student
from student.model import StudentStereo
from student.presets import build_student

# What TensorRT refuses, falls back on, or unrolls.
FORBIDDEN = {"Loop", "If", "NonZero", "Unique", "ScatterND", "ScatterElements", "GridSample", "ConvTranspose"}


def trained_like(name: str, max_disp: int) -> StudentStereo:
    """A student whose batch norms have seen images, so that activations have a trained network's size."""
    torch.manual_seed(0)
    student = build_student(name, max_disp=max_disp).train()
    with torch.no_grad():
        for _ in range(10):
            student.predict_sequence(255 * torch.rand(2, 3, 64, 96), 255 * torch.rand(2, 3, 64, 96))
    return student.eval()


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("form", ["conv3d", "conv2d"])
def test_onnx_equals_pytorch_on_a_real_pair(tmp_path: Path, form: str) -> None:
    student = trained_like("nano", 192)
    path = export_student(student, tmp_path / "s.onnx", size=(192, 320), source_sha256="0", apc_form=form)  # type: ignore[arg-type]
    pair = motorcycle_pair()
    left, right = (
        np.ascontiguousarray(image[100:292, 200:520].transpose(2, 0, 1)[None], dtype=np.float32)
        for image in (pair.left, pair.right)
    )
    student.set_apc_form("conv3d")
    with torch.no_grad():
        expected = student(torch.from_numpy(left), torch.from_numpy(right)).numpy()
    difference = np.abs(session(path).run(None, {"left": left, "right": right})[0] - expected)
    assert difference.mean() < 1e-3
    assert difference.max() < 1e-2
    assert expected.std() > 0.1  # a constant map would agree too easily


def test_zero_features_survive_the_exporters_optimiser(tmp_path: Path) -> None:
    """Black images with zero features: the floor of the normalisation must still be in the graph."""
    student = build_student("tiny", max_disp=64).eval()
    with torch.no_grad():
        for name, weight in student.named_parameters():
            if name.startswith("backbone"):
                weight.zero_()
    path = export_student(student, tmp_path / "s.onnx", size=(64, 96), source_sha256="0")
    black = np.zeros((1, 3, 64, 96), np.float32)
    assert np.isfinite(session(path).run(None, {"left": black, "right": black})[0]).all()


def test_graph_has_only_friendly_operators_and_knows_itself(tmp_path: Path) -> None:
    student = build_student("nano", max_disp=128, iterations=3).eval()
    file = save_student(student, tmp_path / "nano.safetensors", training={})
    out = tmp_path / "nano.onnx"
    command = ["export", str(file), "--size", "64x96", "--out", str(out), "--max_disp", "96", "--iterations", "1"]
    assert main(command) == 0
    graph = onnx.load(out)
    assert not FORBIDDEN & {node.op_type for node in graph.graph.node}
    assert len(graph.graph.node) < 600
    assert [value.name for value in graph.graph.input] == ["left", "right"]
    metadata = get_metadata(graph)
    assert metadata["preset"] == "nano"
    assert (metadata["max_disp"], metadata["iterations"], metadata["precision"]) == ("96", "1", "fp32")
    assert (metadata["height"], metadata["width"]) == ("64", "96")
    assert len(metadata["source_sha256"]) == 64
    assert str(Path(__file__).parents[2]).encode() not in out.read_bytes()


def test_none_of_what_tensorrt_dislikes_is_allowed() -> None:
    assert not FORBIDDEN & ALLOWED


def test_an_operator_that_is_not_allowed_is_named_with_its_module(tmp_path: Path) -> None:
    class Sampler(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))
            self.warp = Warp()

        def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            return self.weight * self.warp(left[:, :1] + right[:, :1])

    class Warp(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.grid_sample(image, torch.cat([image, image], dim=1).permute(0, 2, 3, 1))

    with pytest.raises(RuntimeError, match="GridSample in 'warp/GridSample'"):
        export_onnx(Sampler(), tmp_path / "s.onnx", size=(32, 32), metadata={})
    assert not list(tmp_path.iterdir())


def test_bad_sizes_and_names_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = save_student(build_student("tiny"), tmp_path / "t.safetensors", training={})
    assert main(["export", str(file), "--size", "100x96", "--out", str(tmp_path / "a.onnx")]) == 2
    assert "nearest: 96x96" in capsys.readouterr().err
    assert main(["export", str(file), "--size", "96x96", "--out", str(tmp_path / "a.pt")]) == 2
    assert "does not end in .onnx" in capsys.readouterr().err
