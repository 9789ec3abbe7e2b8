"""Whether each runtime works on this machine, found out by using it; `python -m deploy.runtime_probes NAME` is one try.

Every try has a process of its own: a broken runtime may end its process, and a library that one brings along may hide
that another lacks it. An installed package is not enough: builds for GPUs import well and then compute on the CPU.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from deploy.cuda import load_cuda
from deploy.engines.flavours import make_logger
from deploy.runners.registry import RUNTIMES, import_runtime
from stereo.errors import UserError

TIMEOUT_S = 120
ONNXRUNTIMES = ("onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True)
class RuntimeFound:
    """What came of trying a runtime.

    Args:
        version: None when its package cannot be imported.
        works: whether it computes, or for tensorrt_rtx builds, here.
        detail: how, or why not, and what to do.
    """

    name: str
    version: str | None
    works: bool
    detail: str


def probe_all(names: Iterable[str]) -> list[RuntimeFound]:
    """Try runtimes, all at the same time."""
    started = [
        (name, subprocess.Popen([sys.executable, "-m", "deploy.runtime_probes", name], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, errors="replace", stdin=subprocess.DEVNULL))
        for name in names
    ]  # fmt: skip
    return [_outcome(name, process) for name, process in started]


def _outcome(name: str, process: subprocess.Popen[str]) -> RuntimeFound:
    try:
        output, errors = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return RuntimeFound(name, None, False, f"no answer within {TIMEOUT_S} s")
    lines = output.splitlines()
    with contextlib.suppress(ValueError, TypeError, IndexError):
        return RuntimeFound(**json.loads(lines[-1]))
    reason = (errors.strip().splitlines() or [f"its process ended with {process.returncode}"])[-1]
    return RuntimeFound(name, None, False, f"broken: {reason}")


def probe(name: str) -> RuntimeFound:
    """Try one runtime, in this process."""
    line = RUNTIMES[name]
    try:
        module = import_runtime(name)
    except UserError as error:
        missing = isinstance(error.__cause__, ModuleNotFoundError) and error.__cause__.name == line.package
        detail = f"not installed: {line.install}" if missing else f"broken: {error.__cause__} ({line.install})"
        return RuntimeFound(name, None, False, detail)
    except Exception as error:  # mismatched GPU builds raise anything
        return RuntimeFound(name, None, False, f"broken: {error} ({line.install})")
    version = str(getattr(module, "__version__", "unknown")).split("-")[0]  # OpenVINO appends its build
    try:
        return RuntimeFound(name, version, True, PROBES[name](module))
    except Exception as error:  # whatever it raises is why it does not work
        return RuntimeFound(name, version, False, " ".join(str(error).split()) or type(error).__name__)


def use_onnxruntime(ort: Any) -> str:
    """Compute on the CPU, and see what a GPU build really does.

    Raises:
        RuntimeError: two builds in one place, which overwrite each other's files.
    """
    both = [name for name in ONNXRUNTIMES if installed_distribution(name)]
    if len(both) > 1:
        raise RuntimeError(f"{' and '.join(both)} are both installed and overwrite each other: uninstall both, then "
                           "install one")  # fmt: skip
    graph = tiny_graph()
    ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    offered = [
        provider for provider in ort.get_available_providers() if provider.startswith(("CUDA", "Tensorrt", "NvT"))
    ]
    fallen = [provider for provider in offered if provider not in gpu_session(ort, graph, provider).get_providers()]
    if fallen:
        return f"on the CPU; {', '.join(fallen)} of this build falls back to the CPU, so it is not used"
    return "on the CPU" + (f"; {', '.join(offered)} works but is not used" if offered else "")


def gpu_session(ort: Any, graph: bytes, provider: str) -> Any:
    """A session that asks for a GPU, what the library prints about it swallowed."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            return ort.InferenceSession(graph, options, providers=[provider, "CPUExecutionProvider"])
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def tiny_graph() -> bytes:
    """A graph of one addition, as ONNX."""
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("a", "b")]
    graph = helper.make_graph([helper.make_node("Add", ["a", "a"], ["b"])], "tiny", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model.SerializeToString()


def use_openvino(ov: Any) -> str:
    """Ask for its devices.

    Raises:
        RuntimeError: none of them is a CPU.
    """
    devices = ov.Core().available_devices
    if "CPU" not in devices:
        raise RuntimeError(f"it has no CPU here, only {', '.join(devices) or 'nothing'}")
    return "on the CPU"


def use_tensorrt(trt: Any) -> str:
    """Start a builder and find the GPU, as building and running engines needs both.

    Raises:
        UserError, RuntimeError: either is missing.
    """
    start_builder(trt)
    return f"builds and runs on {gpu_name()}"


def use_tensorrt_rtx(trt: Any) -> str:
    """Start a builder, which needs no GPU; running does.

    Raises:
        RuntimeError: the builder does not start.
    """
    start_builder(trt)
    try:
        return f"builds, and runs on {gpu_name()}"
    except Exception as error:
        return f"builds ahead of time; cannot run engines here: {' '.join(str(error).split())}"


def start_builder(trt: Any) -> None:
    """Make a builder and drop it.

    Raises:
        RuntimeError: TensorRT does not start, with its own reason.
    """
    logger = make_logger(trt)
    try:
        trt.Builder(logger)
    except TypeError as error:  # what the bindings raise when the library returns no builder
        raise RuntimeError(f"cannot start: {logger.reason()}; it needs a working NVIDIA driver") from error


def gpu_name() -> str:
    """The GPU that cuda-python finds.

    Raises:
        UserError: cuda-python, driver or GPU is missing.
    """
    gpu = load_cuda().gpu()
    return f"{gpu.name}, compute capability {gpu.compute_capability}"


def use_torch(torch: Any) -> str:
    """Compute a little, on the GPU where there is one."""
    torch.ones(2).sum().item()
    if torch.cuda.is_available():
        torch.ones(2, device="cuda").sum().item()
        return f"on {torch.cuda.get_device_name(0)} and on the CPU"
    built = getattr(torch.version, "cuda", None)
    return f"on the CPU only: built for CUDA {built}, but no GPU answers" if built else "on the CPU only: a CPU build"


def use_torch_tensorrt(torch_tensorrt: Any) -> str:
    """See whether torch has a GPU, without which it compiles nothing.

    Raises:
        RuntimeError: it has none.
    """
    torch: Any = import_runtime("torch")
    if not torch.cuda.is_available():
        raise RuntimeError("torch finds no GPU")
    return f"on {torch.cuda.get_device_name(0)}"


def installed_distribution(name: str) -> bool:
    """Whether pip knows a distribution of this name."""
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


# Imported module → how it works; raises why it does not.
PROBES: dict[str, Callable[[Any], str]] = {
    "onnxruntime": use_onnxruntime,
    "openvino": use_openvino,
    "tensorrt": use_tensorrt,
    "tensorrt_rtx": use_tensorrt_rtx,
    "torch": use_torch,
    "torch_tensorrt": use_torch_tensorrt,
}


if __name__ == "__main__":
    print(json.dumps(vars(probe(sys.argv[1]))))
