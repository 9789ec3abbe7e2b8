"""deploy.models: what a word on the command line stands for, and what variants are called."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from deploy import models
from deploy.models import model_facts, resolve_model, resolve_models, variant_names
from stereo.artifacts import sha256_file
from stereo.errors import UserError


def test_folder_stands_for_its_graphs_in_order_of_precision(tmp_path: Path) -> None:
    for name in ("int8.onnx", "fp32.onnx", "other.onnx", "fp16.onnx", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in resolve_model(str(tmp_path))] == ["fp32.onnx", "fp16.onnx", "int8.onnx", "other.onnx"]


def test_empty_folder_and_unknown_word(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no \.onnx file in this folder"):
        resolve_model(str(tmp_path))
    with pytest.raises(UserError, match=r"no such model file, folder or shipped student.*shipped students: "):
        resolve_model("nanno")
    with pytest.raises(UserError, match="no model given"):
        resolve_models([])


def test_shipped_student_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = tmp_path / "small.safetensors"
    monkeypatch.setattr(models, "shipped_students", lambda: {"small": shipped})
    assert resolve_model("small") == [shipped]
    with pytest.raises(UserError, match="shipped students: small"):
        resolve_model("large")


@pytest.mark.parametrize(
    ("names", "chosen"), [(("nano", "small", "a"), "small"), (("nano", "a"), "nano"), (("b", "a"), "b")]
)
def test_default_is_the_most_accurate_that_ships(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], chosen: str
) -> None:
    monkeypatch.setattr(models, "shipped_students", lambda: dict.fromkeys(names, Path()))
    assert models.default_student() == chosen


def test_a_file_named_twice_counts_once(network: Path) -> None:
    assert resolve_models([str(network), str(network.parent)]) == [network]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/runs/nano/fp32.onnx", "/runs/nano/int8.onnx"], ["nano fp32", "nano int8"]),
        (["/a/student.onnx"], ["student"]),
        (["/a/student.onnx", "/b/student.onnx"], ["a student", "b student"]),
        (["/a/onnx/int8.onnx", "/b/onnx/int8.onnx"], ["a onnx int8", "b onnx int8"]),
    ],
)
def test_variant_names_tell_files_apart(paths: list[str], names: list[str]) -> None:
    assert variant_names([Path(path) for path in paths]) == names


def test_facts_come_from_file_and_metadata(tmp_path: Path, network: Path) -> None:
    facts = model_facts(network, {"stereodistill.preset": "nano", "stereodistill.max_disp": "192",
                                  "stereodistill.iterations": "many"}, variant="nano")  # fmt: skip
    assert (facts.preset, facts.max_disp, facts.iterations) == ("nano", 192, None)
    assert (facts.sha256, facts.size_bytes) == (sha256_file(network), network.stat().st_size)
    assert facts.precision == "fp32"
    assert facts.source_sha256 is None
    assert facts.role == "variant"
    assert model_facts(network, {"stereodistill.role": "reference"}, variant="teacher").role == "reference"


def test_a_student_file_is_its_own_source(tmp_path: Path) -> None:
    path = tmp_path / "nano.safetensors"
    path.write_bytes(b"weights")
    facts = model_facts(path, {}, variant="nano")
    assert facts.source_sha256 == facts.sha256
    assert facts.precision == "fp32"


def test_graphs_without_metadata_are_read_for_their_precision(tmp_path: Path, network: Path) -> None:
    copy = tmp_path / "copy.onnx"
    shutil.copy(network, copy)
    assert model_facts(copy, {}, variant="copy").precision == "fp32"
