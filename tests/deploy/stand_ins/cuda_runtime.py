"""A stand-in for cuda-python's runtime: its names are those of the real one, its memory and streams are modelled.

Pinned memory is real; device memory is out of the processor's reach behind made-up addresses, so that only copies and
engines get at it. A stream does nothing before it is waited for, so that a forgotten wait shows as an old result.
"""

from __future__ import annotations

import enum
import itertools
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from typing import Any

import numpy as np

MAPPED_FLAG = 2
Work = Callable[[], None]


class Stream:
    """A queue; while it is captured, what is put on it goes to the capture."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.queue: list[Work] = []
        self.captured: list[Work] | None = None

    def __int__(self) -> int:
        return self.handle


@dataclass
class Machine:
    """One GPU and all that is allocated on it.

    Args:
        failing: function → name of the error code it returns.
        work_fails_in_capture: an engine cannot be captured.
        replay_differs: launching a captured graph does nothing, as a broken capture might.
    """

    integrated: bool = True
    name: str = "Orin"
    capability: tuple[int, int] = (8, 7)
    failing: dict[str, str] = field(default_factory=dict)
    work_fails_in_capture: bool = False
    replay_differs: bool = False
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pinned: dict[int, np.ndarray] = {}
        self.device: dict[int, np.ndarray] = {}
        self.mapped: dict[int, int] = {}
        self.streams: dict[int, Stream] = {}
        self.graphs: list[Any] = []
        self.numbers = itertools.count(0x7F_0000_0000, 0x1000)

    def leaks(self) -> dict[str, int]:
        """What is still allocated."""
        kinds = {"pinned": self.pinned, "device": self.device, "streams": self.streams, "graphs": self.graphs}
        return {name: len(kind) for name, kind in kinds.items() if kind}

    def at(self, address: int) -> np.ndarray:
        """The bytes that the GPU finds at an address: its own memory, or mapped pinned memory."""
        if address in self.mapped:
            return self.pinned[self.mapped[address]]
        return self.device[address]

    def reaches(self, address: int) -> bool:
        """Whether the GPU may use an address."""
        return address in self.mapped or address in self.device

    def put(self, stream: int, work: Work) -> bool:
        """Queue work; False when it cannot be captured."""
        line = self.streams[int(stream)]
        if line.captured is None:
            line.queue.append(work)
        elif self.work_fails_in_capture:
            return False
        else:
            line.captured.append(work)
        return True


class Functions:
    """What the functions do; each returns the values behind the error code."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def cudaGetDeviceProperties(self, index: int) -> tuple[Any, ...]:
        assert index == 0
        gpu = self.machine
        return (types.SimpleNamespace(name=gpu.name.encode() + b"\0", major=gpu.capability[0],
                                      minor=gpu.capability[1], integrated=int(gpu.integrated)),)  # fmt: skip

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Any, ...]:
        memory = np.full(size, 0xA5, np.uint8)
        self.machine.pinned[memory.ctypes.data] = memory
        if flags == MAPPED_FLAG:
            self.machine.mapped[next(self.machine.numbers)] = memory.ctypes.data
        return (memory.ctypes.data,)

    def cudaHostGetDevicePointer(self, address: int, flags: int) -> tuple[Any, ...]:
        assert flags == 0
        return (next(device for device, host in self.machine.mapped.items() if host == address),)

    def cudaFreeHost(self, address: int) -> tuple[Any, ...]:
        self.machine.mapped = {d: h for d, h in self.machine.mapped.items() if h != address}
        del self.machine.pinned[address]
        return ()

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        address = next(self.machine.numbers)
        self.machine.device[address] = np.full(size, 0x5A, np.uint8)
        return (address,)

    def cudaFree(self, address: int) -> tuple[Any, ...]:
        del self.machine.device[address]
        return ()

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: Any, stream: Stream) -> tuple[Any, ...]:
        memory = self.machine
        up = kind.name == "cudaMemcpyHostToDevice"
        # Looked up now: a copy between the wrong sides is an error at once.
        to = (memory.device if up else memory.pinned)[target]
        of = (memory.pinned if up else memory.device)[source]
        assert size <= min(to.size, of.size), "a copy beyond the end of a buffer"

        def copy() -> None:
            to[:size] = of[:size]

        assert memory.put(int(stream), copy)
        return ()

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        stream = Stream(next(self.machine.numbers))
        self.machine.streams[stream.handle] = stream
        return (stream,)

    def cudaStreamDestroy(self, stream: Stream) -> tuple[Any, ...]:
        del self.machine.streams[stream.handle]
        return ()

    def cudaStreamSynchronize(self, stream: Stream) -> tuple[Any, ...]:
        assert stream.captured is None, "a stream that is captured cannot be waited for"
        work, stream.queue = stream.queue, []
        for step in work:
            step()
        return ()

    def cudaStreamBeginCapture(self, stream: Stream, mode: Any) -> tuple[Any, ...]:
        stream.captured = []
        return ()

    def cudaStreamEndCapture(self, stream: Stream) -> tuple[Any, ...]:
        work, stream.captured = stream.captured, None
        self.machine.graphs.append(work)
        return (work,)

    def cudaGraphGetNodes(self, graph: list[Work]) -> tuple[Any, ...]:
        return [], len(graph)

    def cudaGraphInstantiate(self, graph: list[Work], flags: int) -> tuple[Any, ...]:
        executable = tuple(graph)
        self.machine.graphs.append(executable)
        return (executable,)

    def cudaGraphLaunch(self, executable: tuple[Work, ...], stream: Stream) -> tuple[Any, ...]:
        for step in () if self.machine.replay_differs else executable:
            stream.queue.append(step)
        return ()

    def cudaGraphDestroy(self, graph: list[Work]) -> tuple[Any, ...]:
        self._forget(graph)
        return ()

    def cudaGraphExecDestroy(self, executable: tuple[Work, ...]) -> tuple[Any, ...]:
        self._forget(executable)
        return ()

    def cudaGetLastError(self) -> tuple[Any, ...]:
        return ()

    def _forget(self, graph: Any) -> None:
        self.machine.graphs = [other for other in self.machine.graphs if other is not graph]


def make_cuda(table: dict[str, list[str]], machine: Machine) -> types.ModuleType:
    """The module: names not in the table raise AttributeError, those not in the stand-in NotImplementedError."""
    errors = enum.IntEnum("cudaError_t", sorted(table["cudaError_t"], key="cudaSuccess".__ne__), start=0)
    functions = Functions(machine)
    constants: dict[str, Any] = {
        "cudaError_t": errors,
        "cudaMemcpyKind": enum.Enum("cudaMemcpyKind", table["cudaMemcpyKind"]),
        "cudaStreamCaptureMode": enum.Enum("cudaStreamCaptureMode", table["cudaStreamCaptureMode"]),
        "cudaHostAllocMapped": MAPPED_FLAG,
        "cudaHostAllocDefault": 0,
        "cudaStreamNonBlocking": 1,
    }

    def make(name: str) -> Callable[..., tuple[Any, ...]]:
        def call(*arguments: Any) -> tuple[Any, ...]:
            machine.calls.append(name)
            if name in machine.failing:
                if name == "cudaStreamEndCapture":  # a capture that failed is over all the same
                    arguments[0].captured = None
                code = errors[machine.failing[name]]
                return (code, None)
            return (errors["cudaSuccess"], *getattr(functions, name)(*arguments))

        return call

    class Module(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            if name not in {*table["functions"], *table["constants"], *table["classes"]}:
                raise AttributeError(f"cuda-python has no '{name}'")
            if name in constants:
                return constants[name]
            if hasattr(functions, name):
                return make(name)
            raise NotImplementedError(f"the stand-in lacks {name}")

    module = Module("runtime")
    module.__spec__ = ModuleSpec("runtime", None)
    return module
