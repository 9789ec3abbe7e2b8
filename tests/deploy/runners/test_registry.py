"""deploy.runners.registry: which runtime opens what, and what it says when it cannot."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from deploy.runners import registry
from deploy.runners.registry import RUNTIMES, hidden, open_runner, parse_runtimes, runtimes_for
from stereo.errors import UserError


def test_auto_takes_the_first_runtime_of_the_suffix() -> None:
    assert runtimes_for("a/model.onnx", ["auto"]) == ["onnxruntime"]
    assert runtimes_for("model.safetensors", ["auto"]) == ["torch"]
    assert runtimes_for("model.engine", ["auto"]) == ["tensorrt"]


def test_named_runtimes_keep_their_order_and_skip_what_does_not_fit() -> None:
    assert runtimes_for("m.onnx", parse_runtimes("openvino, onnxruntime,torch")) == ["openvino", "onnxruntime"]


@pytest.mark.parametrize(
    ("path", "runtimes", "told"),
    [
        ("m.engine", ["openvino"], "opened by tensorrt and tensorrt_rtx, not by openvino"),
        ("m.pt", ["auto"], "no runtime opens '.pt'"),
        ("m", ["auto"], "a file without suffix"),
        ("m.safetensors", ["openvino"], "opened by torch and torch_tensorrt, not by openvino"),
    ],
)
def test_files_that_no_runtime_opens(path: str, runtimes: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        runtimes_for(path, runtimes)


@pytest.mark.parametrize(("text", "told"), [("openvin", "unknown runtime 'openvin'"), (" , ", "no runtime named")])
def test_unknown_runtime(text: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        parse_runtimes(text)


def test_settings_are_checked_before_the_file_is_opened(network: Path) -> None:
    with pytest.raises(UserError, match="no precision hint 'bf16'"):
        open_runner(network, "onnxruntime", precision_hint="bf16")
    with pytest.raises(UserError, match="0 threads"):
        open_runner(network, threads=0)
    with pytest.raises(UserError, match="no such model file"):
        open_runner(network.with_name("gone.onnx"))


def test_missing_package_names_the_extra(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = dataclasses.replace(RUNTIMES["openvino"], package="a_package_that_is_not_there")
    monkeypatch.setitem(registry.RUNTIMES, "openvino", without)
    with pytest.raises(UserError, match=r"openvino is not installed here.*stereodistill\[openvino\]"):
        open_runner(network, "openvino")


def test_student_without_torch_is_told_to_use_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student = tmp_path / "small.safetensors"
    student.write_bytes(b"weights")
    without = dataclasses.replace(RUNTIMES["torch"], package="a_package_that_is_not_there")
    monkeypatch.setitem(registry.RUNTIMES, "torch", without)
    with pytest.raises(UserError, match=r"torch is not installed here.*or give an \.onnx"):
        open_runner(student)


def test_hidden_package_cannot_be_imported_and_comes_back() -> None:
    assert "colorsys" not in sys.modules or sys.modules.pop("colorsys")
    with hidden("colorsys"), pytest.raises(ImportError):
        __import__("colorsys")
    assert __import__("colorsys").rgb_to_hsv(0, 0, 0) == (0.0, 0.0, 0)


def test_an_engine_without_its_tensorrt_or_its_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tmp_path / "int8.engine"
    engine.write_bytes(b"an engine")
    with pytest.raises(UserError, match="has no manifest beside it"):
        open_runner(engine)
    content = {"kind": "engine", "runtime": "tensorrt", "runtime_version": "10.3.0", "compute_capability": "8.7",
               "device": "Orin", "precision": "int8", "height": 64, "width": 96,
               "metadata": {}, "sha256": "0"}  # fmt: skip
    engine.with_suffix(".manifest.json").write_text(json.dumps(content))
    without = dataclasses.replace(RUNTIMES["tensorrt"], package="a_package_that_is_not_there")
    monkeypatch.setitem(registry.RUNTIMES, "tensorrt", without)
    with pytest.raises(UserError, match=r"tensorrt is not installed here \(on a Jetson: apt install"):
        open_runner(engine)
