"""deploy.cuda: both layouts of cuda-python, its error codes, and memory that both sides reach."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.cuda import CudaError, Gpu, allocate, load_cuda
from deploy.wheelhouse import CUDA
from stereo.errors import UserError


@pytest.mark.parametrize("version", ["12.6", "13.2", "13.5"])
def test_either_layout_is_found(make_gpu: Callable[..., Any], version: str) -> None:
    make_gpu(cuda=version)
    assert load_cuda().gpu() == Gpu("Orin", "8.7", integrated=True)


@pytest.mark.parametrize("target", list(CUDA))
def test_the_stand_ins_have_the_names_of_what_a_board_gets(target: str) -> None:
    """The versions that the wheelhouse pins are those that docs/jetson.md installs, and those of the tables."""
    root = Path(__file__).resolve().parents[2]
    assert f"'{CUDA[target]}'" in (root / "docs" / "jetson.md").read_text(encoding="utf-8")
    name, version = CUDA[target].removesuffix(".0").split("~=")
    assert (root / "tests" / "golden" / "cuda_api" / f"{name}-{version}.json").is_file()


def test_missing_cuda_python_says_which_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cuda", "cuda.cudart", "cuda.bindings", "cuda.bindings.runtime"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"cannot import cuda-python.*cuda-python<13.*JetPack 6"):
        load_cuda()


@pytest.mark.parametrize(
    ("code", "kind", "told"),
    [
        ("cudaErrorMemoryAllocation", UserError, "out of GPU memory in cudaMalloc"),
        ("cudaErrorNoDevice", UserError, "CUDA cannot start: cudaErrorNoDevice"),
        ("cudaErrorIllegalAddress", CudaError, "cudaMalloc failed: cudaErrorIllegalAddress"),
    ],
)
def test_error_codes(make_gpu: Callable[..., Any], code: str, kind: type[Exception], told: str) -> None:
    make_gpu(failing={"cudaMalloc": code})
    with pytest.raises(kind, match=told):
        load_cuda().call("cudaMalloc", 16)


def test_a_driver_that_does_not_load(make_gpu: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    make_gpu()

    def missing(index: int) -> None:
        raise RuntimeError("Failed to dlopen libcuda.so.1")  # cuda-python 12.6's own words

    monkeypatch.setattr(sys.modules["cuda.cudart"], "cudaGetDeviceProperties", missing, raising=False)
    with pytest.raises(UserError, match=r"CUDA cannot start: Failed to dlopen libcuda\.so\.1.*NVIDIA driver"):
        load_cuda().gpu()


@pytest.mark.parametrize("mapped", [True, False])
def test_what_one_side_writes_the_other_reads(make_gpu: Callable[..., Any], mapped: bool) -> None:
    machine = make_gpu(integrated=mapped).machine
    cuda = load_cuda()
    stream = cuda.call("cudaStreamCreateWithFlags", 1)
    array = allocate(cuda, (2, 3), np.float32, mapped=mapped)
    assert (array.host.shape, array.host.nbytes) == ((2, 3), 24)
    array.host[...] = 7
    array.upload(stream)
    cuda.call("cudaStreamSynchronize", stream)
    on_gpu = machine.at(array.device).view(np.float32)
    assert (on_gpu == 7).all()
    on_gpu[:] = 8
    array.download(stream)
    cuda.call("cudaStreamSynchronize", stream)
    assert (array.host == 8).all()
    assert machine.calls.count("cudaMemcpyAsync") == (0 if mapped else 2)
    array.free()
    cuda.call("cudaStreamDestroy", stream)
    assert machine.leaks() == {}


def test_half_an_allocation_is_given_back(make_gpu: Callable[..., Any]) -> None:
    machine = make_gpu(integrated=False, failing={"cudaMalloc": "cudaErrorMemoryAllocation"}).machine
    with pytest.raises(UserError, match="out of GPU memory"):
        allocate(load_cuda(), (4,), np.float32, mapped=False)
    assert machine.leaks() == {}
