"""deploy.runtime_probes: runtimes that work, that are missing, that break, and that only look as if they used a GPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy import runtime_probes
from deploy.runtime_probes import RuntimeFound, probe, probe_all


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """fake(module, text): a module that comes before the real one, in processes that are started."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))

    def make(module: str, text: str) -> None:
        (tmp_path / f"{module}.py").write_text(text)

    return make


def tried(name: str) -> RuntimeFound:
    (found,) = probe_all([name])
    assert found.name == name
    return found


def test_runtimes_that_are_here_work() -> None:
    for name in ("onnxruntime", "openvino"):
        pytest.importorskip(name)
    onnxruntime, openvino = probe_all(["onnxruntime", "openvino"])
    assert (onnxruntime.works, onnxruntime.detail) == (True, "on the CPU")
    assert (openvino.works, openvino.detail) == (True, "on the CPU")
    assert openvino.version is not None
    assert "-" not in openvino.version


ONNXRUNTIME = """
__version__ = "1.23.0"

class SessionOptions:
    log_severity_level = 2

class InferenceSession:
    def __init__(self, graph, options=None, providers=()):
        self.asked = providers

    def get_providers(self):
        return [provider for provider in self.asked if provider in {works!r}]

def get_available_providers():
    return ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
"""


def test_gpu_build_that_computes_on_the_cpu(fake: Callable[[str, str], None]) -> None:
    fake("onnxruntime", ONNXRUNTIME.format(works=["CPUExecutionProvider", "TensorrtExecutionProvider"]))
    found = tried("onnxruntime")
    assert (found.version, found.works) == ("1.23.0", True)
    assert found.detail == "on the CPU; CUDAExecutionProvider of this build falls back to the CPU, so it is not used"
    everything = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    fake("onnxruntime", ONNXRUNTIME.format(works=everything))
    assert tried("onnxruntime").detail == (
        "on the CPU; TensorrtExecutionProvider, CUDAExecutionProvider works but is not used"
    )


def test_two_builds_of_onnxruntime_overwrite_each_other(fake: Callable[[str, str], None], tmp_path: Path) -> None:
    fake("onnxruntime", ONNXRUNTIME.format(works=["CPUExecutionProvider"]))
    for name in ("onnxruntime", "onnxruntime_gpu"):
        folder = tmp_path / f"{name}-1.23.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.23.0\n")
    found = tried("onnxruntime")
    assert not found.works
    assert "are both installed and overwrite each other" in found.detail


TENSORRT = """
__version__ = "10.3.0"

class ILogger:
    class Severity:
        ERROR, INTERNAL_ERROR = 1, 0

def Builder(logger):
    {body}
"""


def test_tensorrt_without_a_driver_tells_its_own_reason(fake: Callable[[str, str], None]) -> None:
    body = 'logger.log(1, "Unable to load library: libnvcuda.so.1"); raise TypeError("no builder")'
    fake("tensorrt", TENSORRT.format(body=body))
    found = tried("tensorrt")
    assert (found.version, found.works) == ("10.3.0", False)
    assert "cannot start: Unable to load library: libnvcuda.so.1; it needs a working NVIDIA driver" in found.detail


def test_tensorrt_without_a_gpu_for_running(fake: Callable[[str, str], None]) -> None:
    fake("tensorrt", TENSORRT.format(body="return None"))
    found = tried("tensorrt")
    assert not found.works
    fake("tensorrt_rtx_bindings", TENSORRT.format(body="return None"))
    found = tried("tensorrt_rtx")
    assert found.works
    assert found.detail.startswith("builds ahead of time; cannot run engines here: ")


TORCH = """
__version__ = "2.8.0+cu126"

class version:
    cuda = "12.6"

class cuda:
    is_available = staticmethod(lambda: False)

class ones:
    def __init__(self, *_): pass
    def sum(self): return self
    def item(self): return 2.0
"""


def test_torch_for_cuda_without_a_gpu(fake: Callable[[str, str], None]) -> None:
    fake("torch", TORCH)
    assert tried("torch") == RuntimeFound(
        "torch", "2.8.0+cu126", True, "on the CPU only: built for CUDA 12.6, but no GPU answers"
    )
    fake("torch_tensorrt", "__version__ = '2.8.0'")
    assert tried("torch_tensorrt") == RuntimeFound("torch_tensorrt", "2.8.0", False, "torch finds no GPU")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("raise RuntimeError('built for another torch')", "broken: built for another torch (pip install"),
        ("import library_that_is_not_there", "broken: No module named 'library_that_is_not_there'"),
        (
            "raise ImportError('libcudart.so.12: cannot open shared object file')",
            "broken: libcudart.so.12: cannot open",
        ),
    ],
)
def test_broken_runtimes_tell_what_broke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str) -> None:
    (tmp_path / "torch_tensorrt.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    found = probe("torch_tensorrt")
    assert (found.version, found.works) == (None, False)
    assert told in found.detail


def test_a_runtime_that_ends_its_process(fake: Callable[[str, str], None]) -> None:
    fake("torch_tensorrt", "import os; os._exit(77)")
    assert tried("torch_tensorrt") == RuntimeFound("torch_tensorrt", None, False, "broken: its process ended with 77")


def test_a_runtime_that_hangs(fake: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_probes, "TIMEOUT_S", 0.3)
    fake("torch_tensorrt", "import time; time.sleep(60)")
    assert tried("torch_tensorrt").detail == "no answer within 0.3 s"


def test_a_missing_runtime_tells_how_to_install_it() -> None:
    if runtime_probes.installed_distribution("torch-tensorrt"):
        pytest.skip("torch-tensorrt is installed here")
    found = probe("torch_tensorrt")
    assert found.detail.startswith("not installed: pip install 'stereodistill[torch-tensorrt]'")
