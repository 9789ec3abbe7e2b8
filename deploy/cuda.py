"""CUDA's runtime API through cuda-python, with errors raised, and buffers that both sides of a GPU can reach.

cuda-python keeps the runtime in `cuda.cudart` up to 12.6.1 and in `cuda.bindings.runtime` since; the functions are the
same. https://nvidia.github.io/cuda-python
"""

from __future__ import annotations

import ctypes
import importlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from stereo.errors import UserError

LAYOUTS = ("cuda.bindings.runtime", "cuda.cudart")
INSTALL = "pip install 'cuda-python<13' for CUDA 12 (JetPack 6), 'cuda-python>=13' for CUDA 13 (JetPack 7)"
DRIVER = "it needs a working NVIDIA driver: see nvidia-smi, on a Jetson tegrastats"


@dataclass(frozen=True)
class Gpu:
    """The first GPU.

    Args:
        compute_capability: such as "8.7".
        integrated: it shares the processor's memory, as on a Jetson.
    """

    name: str
    compute_capability: str
    integrated: bool


class CudaError(RuntimeError):
    """A CUDA call failed for a reason that is not the user's to fix."""


class Cuda:
    """The runtime API.

    Args:
        runtime: the module of cuda-python.
    """

    def __init__(self, runtime: Any) -> None:
        self.runtime = runtime

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the runtime and give back what it returns behind its error code.

        Raises:
            UserError: there is no driver, or the memory is used up.
            CudaError: any other error code.
        """
        try:
            error, *values = getattr(self.runtime, name)(*arguments)
        except RuntimeError as failure:  # cuda-python 12 loads the driver at the first call
            raise UserError(f"CUDA cannot start: {failure}", fix=DRIVER) from failure
        codes = self.runtime.cudaError_t
        if error == codes.cudaSuccess:
            return values[0] if len(values) == 1 else tuple(values) or None
        if error == codes.cudaErrorMemoryAllocation:
            raise UserError(f"out of GPU memory in {name}", fix="close what else uses it, or take a smaller model")
        if error in (codes.cudaErrorInsufficientDriver, codes.cudaErrorNoDevice):
            raise UserError(f"CUDA cannot start: {error.name}", fix=DRIVER)
        raise CudaError(f"{name} failed: {error.name}")

    def gpu(self) -> Gpu:
        """The GPU that is used: the first, as CUDA_VISIBLE_DEVICES orders them.

        Raises:
            UserError: there is none.
        """
        facts = self.call("cudaGetDeviceProperties", 0)
        name = facts.name.decode() if isinstance(facts.name, bytes) else str(facts.name)
        return Gpu(name.strip("\0 "), f"{facts.major}.{facts.minor}", bool(facts.integrated))


def load_cuda() -> Cuda:
    """cuda-python's runtime in either of its layouts.

    Raises:
        UserError: it is not installed.
    """
    reasons = []
    for layout in LAYOUTS:
        try:
            return Cuda(importlib.import_module(layout))
        except ImportError as error:
            reasons.append(str(error))
    raise UserError(f"cannot import cuda-python: {reasons[-1]}", fix=INSTALL)


@dataclass
class SharedArray:
    """An array that the processor sees as `host` and the GPU at `device`.

    Args:
        host: page-locked memory.
        device: address for the GPU: of the same memory when it is mapped, of memory of its own otherwise.
        mapped: whether it is the same memory.
    """

    cuda: Cuda = field(repr=False)
    host: npt.NDArray[Any]
    host_address: int
    device: int
    mapped: bool

    def upload(self, stream: Any) -> None:
        """Queue the copy to the GPU; mapped memory needs none."""
        self._copy(self.device, self.host_address, "cudaMemcpyHostToDevice", stream)

    def download(self, stream: Any) -> None:
        """Queue the copy from the GPU; mapped memory needs none."""
        self._copy(self.host_address, self.device, "cudaMemcpyDeviceToHost", stream)

    def _copy(self, target: int, source: int, kind: str, stream: Any) -> None:
        if not self.mapped:
            direction = getattr(self.cuda.runtime.cudaMemcpyKind, kind)
            self.cuda.call("cudaMemcpyAsync", target, source, self.host.nbytes, direction, stream)

    def free(self) -> None:
        """Give the memory back; `host` must not be touched afterwards."""
        if not self.mapped:
            self.cuda.call("cudaFree", self.device)
        self.cuda.call("cudaFreeHost", self.host_address)


def allocate(cuda: Cuda, shape: tuple[int, ...], dtype: npt.DTypeLike, *, mapped: bool) -> SharedArray:
    """Allocate an array for both sides.

    Args:
        mapped: one memory for both, for GPUs that are integrated; else pinned memory and a twin on the GPU.

    Raises:
        UserError: the memory is used up.
    """
    size_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    runtime = cuda.runtime
    flags = runtime.cudaHostAllocMapped if mapped else runtime.cudaHostAllocDefault
    address = int(cuda.call("cudaHostAlloc", size_bytes, flags))
    try:
        device = int(
            cuda.call("cudaHostGetDevicePointer", address, 0) if mapped else cuda.call("cudaMalloc", size_bytes)
        )
    except BaseException:
        cuda.call("cudaFreeHost", address)
        raise
    memory = (ctypes.c_ubyte * size_bytes).from_address(address)
    host = np.ctypeslib.as_array(memory).view(dtype).reshape(shape)
    return SharedArray(cuda, host, address, device, mapped)
