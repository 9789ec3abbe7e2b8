"""student.torch_tensorrt_runner: versions that belong together, and one whole engine, through a stand-in."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deploy.runners.registry import open_runner
from stereo.errors import UserError
from student import torch_tensorrt_runner
from student.torch_tensorrt_runner import check_versions

SAME = ".".join(torch.__version__.split(".")[:2])


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A torch_tensorrt that notes how it is called and gives the module back, on a GPU that is the CPU."""
    calls: list[dict[str, Any]] = []
    module = types.ModuleType("torch_tensorrt")
    module.__version__ = f"{SAME}.0"  # type: ignore[attr-defined]
    module.__spec__ = sys.__spec__

    def compile_it(student: torch.nn.Module, **options: Any) -> torch.nn.Module:
        calls.append(options)
        return student

    module.compile = compile_it  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_tensorrt", module)
    monkeypatch.setattr(torch_tensorrt_runner, "gpu", lambda: torch.device("cpu"))
    return calls


@pytest.mark.parametrize("versions", [("2.8.0", "2.8.0"), ("2.13.0+cu130", "2.13.1"), (torch.__version__, f"{SAME}.0")])
def test_versions_that_belong_together(versions: tuple[str, str]) -> None:
    check_versions(*versions)


def test_versions_that_do_not() -> None:
    with pytest.raises(UserError, match=r"2\.9\.0 was not built for torch 2\.10\.1.*torch-tensorrt==2\.10\.\*"):
        check_versions("2.10.1", "2.9.0")
    with pytest.raises(UserError, match=r"no torch_tensorrt is known for torch 2\.7\.1.*2\.8 to"):
        check_versions("2.7.1", "2.7.0")


def test_one_strongly_typed_engine_of_the_whole_student(student_file: Path, compilations: list[dict[str, Any]]) -> None:
    runner = open_runner(student_file, "torch_tensorrt", size=(64, 96))
    (options,) = compilations
    assert [tuple(image.shape) for image in options.pop("inputs")] == [(1, 3, 64, 96)] * 2
    assert options == {"ir": "dynamo", "use_explicit_typing": True, "disable_tf32": True,
                       "require_full_compilation": True}  # fmt: skip
    left, right = np.random.default_rng(0).uniform(0, 255, (2, 1, 3, 64, 96)).astype(np.float32)
    expected = open_runner(student_file, "torch").run(left, right)
    np.testing.assert_allclose(runner.run(left, right), expected, atol=1e-4)
    assert (runner.runtime, runner.runtime_version, runner.input_size) == ("torch_tensorrt", f"{SAME}.0", (64, 96))
    runner.close()


@pytest.mark.usefixtures("compilations")
def test_a_size_is_needed(student_file: Path) -> None:
    with pytest.raises(UserError, match="compiles for one size"):
        open_runner(student_file, "torch_tensorrt")


def test_what_is_missing_is_told(
    student_file: Path, compilations: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("a long story\nUnsupported operator aten::grid_sampler")

    monkeypatch.setattr(sys.modules["torch_tensorrt"], "compile", refuse)
    with pytest.raises(UserError, match="cannot compile it: Unsupported operator aten::grid_sampler"):
        open_runner(student_file, "torch_tensorrt", size=(64, 96))
    monkeypatch.undo()
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="torch sees none"):
            torch_tensorrt_runner.gpu()
    with pytest.raises(UserError, match=r"torch_tensorrt is not installed here.*--runtime torch, or pip install"):
        open_runner(student_file, "torch_tensorrt", size=(64, 96))
