"""Engines through TensorRT or TensorRT-RTX: tensors by name, one stream, one CUDA graph.

Where processor and GPU share their memory, as on a Jetson, both read and write the same pages; elsewhere pinned memory
is copied to the GPU and back. The engine's work is launched as one CUDA graph, once a graph was captured that gives the
same answer; where that fails it is told and each layer is launched by itself.
https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/python-api-docs.html

    # H height, W width
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from deploy.cuda import Cuda, CudaError, Gpu, SharedArray, allocate, load_cuda
from deploy.engines.flavours import import_flavour, make_logger
from deploy.engines.manifest import EngineManifest, Here, check_loadable, device_here, read_engine_manifest
from deploy.onnx_stereo import INPUTS, OUTPUT
from deploy.runners.cuda_graph import CudaGraph
from deploy.runners.protocol import Floats, Runner
from stereo.errors import UserError

METADATA_PRECISION = "stereodistill.precision"
log = logging.getLogger(__name__)


class TensorRtRunner:
    """An engine with its buffers; see `deploy.runners.protocol.Runner`.

    Args:
        runtime: "tensorrt" or "tensorrt_rtx".
        owned: what `close` frees, last in first out.
        network: the engine's work on what its buffers hold.
        tensors: buffers by tensor name.
    """

    precision_hint = "f32"

    def __init__(
        self,
        *,
        runtime: str,
        version: str,
        threads: int,
        size: tuple[int, int],
        metadata: dict[str, str],
        owned: ExitStack,
        network: Network,
        tensors: dict[str, SharedArray],
    ) -> None:
        self.runtime, self.runtime_version, self.threads = runtime, version, threads
        self.input_size: tuple[int, int] | None = size
        self.metadata = metadata
        self._owned, self._network, self._tensors = owned, network, tensors

    def run(self, left: Floats, right: Floats) -> Floats:
        """See `Runner.run`."""
        for name, image in zip(INPUTS, (left, right), strict=True):
            fill(self._tensors[name], image)
            self._tensors[name].upload(self._network.stream)
        self._network.launch()
        self._tensors[OUTPUT].download(self._network.stream)
        self._network.wait()
        return np.array(self._tensors[OUTPUT].host, dtype=np.float32)

    def run_without_copies(self) -> None:
        """Run the network again on what the last `run` left in its buffers, and wait for it: for measuring alone."""
        self._network.launch()
        self._network.wait()

    def close(self) -> None:
        """Free graph, engine and memory on both sides; a second call does nothing."""
        self._owned.close()


class Network:
    """An execution context on a stream of its own, launched layer by layer or as a graph."""

    def __init__(self, cuda: Cuda, context: Any, stream: Any) -> None:
        self.stream = stream
        self._cuda = cuda
        self._context: Any = context
        self._graph: CudaGraph | None = None

    def launch(self) -> None:
        """Queue the work."""
        if self._graph is None:
            self.enqueue()
        else:
            self._graph.launch(self.stream)

    def enqueue(self) -> None:
        """Queue the work layer by layer."""
        if not self._context.execute_async_v3(stream_handle=int(self.stream)):
            raise CudaError("TensorRT could not enqueue the engine")

    def wait(self) -> None:
        """Until everything queued is done."""
        self._cuda.call("cudaStreamSynchronize", self.stream)

    def use_graph(self, graph: CudaGraph | None) -> None:
        """Launch this from now on; None goes back to layer by layer."""
        self._graph = graph

    def close(self) -> None:
        """Let go of the context, so that it is gone before the buffers it points to."""
        self._context = self._graph = None


def open_tensorrt(path: Path, *, threads: int, precision_hint: str, size: tuple[int, int] | None) -> Runner:
    """Open an engine of TensorRT; see `deploy.runners.registry.open_runner`."""
    return open_engine(path, "tensorrt", threads=threads, size=size)


def open_tensorrt_rtx(path: Path, *, threads: int, precision_hint: str, size: tuple[int, int] | None) -> Runner:
    """Open an engine of TensorRT-RTX; see `deploy.runners.registry.open_runner`."""
    return open_engine(path, "tensorrt_rtx", threads=threads, size=size)


def open_engine(path: Path, runtime: str, *, threads: int, size: tuple[int, int] | None) -> Runner:
    """Check an engine against this place, load it and make it ready to run.

    Args:
        threads: kept for the record; the GPU computes.
        size: (H, W) that it must have; None takes its own.

    Raises:
        UserError: built for elsewhere, damaged, of another size, or the memory does not suffice.
    """
    manifest = read_engine_manifest(path)
    trt = import_flavour(runtime)
    cuda = load_cuda()
    gpu = cuda.gpu()
    here = Here(runtime, str(trt.__version__), gpu.compute_capability, device_here(gpu))
    check_loadable(path, manifest, here)
    if size is not None and size != manifest.size:
        raise UserError(f"was built for {manifest.size[0]}x{manifest.size[1]} and cannot run at {size[0]}x{size[1]}",
                        where=path, fix="leave --size out, or build it from a graph of that size")  # fmt: skip
    with ExitStack() as stack:
        engine = deserialize(trt, path, stack)
        context = engine.create_execution_context()
        if context is None:
            raise UserError("TensorRT made no execution context: the GPU's memory may be used up", where=path,
                            fix="close what else uses the GPU")  # fmt: skip
        stream = cuda.call("cudaStreamCreateWithFlags", cuda.runtime.cudaStreamNonBlocking)
        stack.callback(cuda.call, "cudaStreamDestroy", stream)
        tensors = bind_tensors(trt, engine, context, cuda, mapped=gpu.integrated, size=manifest.size, path=path,
                               stack=stack)  # fmt: skip
        network = Network(cuda, context, stream)
        note = adopt_graph(cuda, network, tensors, stack)
        stack.callback(network.close)
        del context
        return TensorRtRunner(
            runtime=runtime, version=str(trt.__version__), threads=threads, size=manifest.size,
            metadata={**manifest.metadata, **runtime_facts(manifest, engine, gpu, note)},
            owned=stack.pop_all(), network=network, tensors=tensors,
        )  # fmt: skip


def deserialize(trt: Any, path: Path, stack: ExitStack) -> Any:
    """The engine of a file.

    Raises:
        UserError: TensorRT refuses it, or has no driver.
    """
    logger = make_logger(trt)
    try:
        runtime = trt.Runtime(logger)
    except TypeError as error:  # as in building: what the bindings raise without a driver
        raise UserError(f"TensorRT cannot start: {logger.reason()}", fix="it needs a working NVIDIA driver") from error
    engine = runtime.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise UserError(f"TensorRT cannot load it: {logger.reason()}", where=path, fix="build it again on this machine")
    # The engine uses both as long as it lives.
    stack.callback(lambda *kept: None, runtime, logger)
    return engine


def bind_tensors(
    trt: Any, engine: Any, context: Any, cuda: Cuda, *, mapped: bool, size: tuple[int, int], path: Path,
    stack: ExitStack,
) -> dict[str, SharedArray]:  # fmt: skip
    """Allocate a buffer for each tensor that goes in or out, and tell the context where it is.

    Raises:
        UserError: not the tensors of a stereo network of this size.
    """
    types = {trt.DataType.FLOAT: np.float32, trt.DataType.UINT8: np.uint8}
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    if sorted(inputs) != sorted(INPUTS) or OUTPUT not in names:
        raise UserError(f"is not a stereo network of this project: its tensors are {', '.join(names)}", where=path,
                        fix="build it from a graph that stereodistill export wrote")  # fmt: skip
    tensors: dict[str, SharedArray] = {}
    for name in names:
        # A batch that was left open runs with one pair.
        shape = tuple(1 if length < 0 else int(length) for length in engine.get_tensor_shape(name))
        kind = types.get(engine.get_tensor_dtype(name))
        expected = (1, 3, *size) if name in INPUTS else (1, 1, *size)
        if kind is None or (name in (*INPUTS, OUTPUT) and shape != expected):
            raise UserError(f"{name} is {engine.get_tensor_dtype(name)} {shape}, not float or bytes of {expected}",
                            where=path, fix="build the engine again")  # fmt: skip
        if name in INPUTS and not context.set_input_shape(name, shape):
            raise UserError(f"{name} cannot be {shape}", where=path, fix="build the engine again")
        tensors[name] = allocate(cuda, shape, kind, mapped=mapped)
        stack.callback(tensors[name].free)
        if not context.set_tensor_address(name, tensors[name].device):
            raise CudaError(f"TensorRT did not take the buffer of {name}")
    return tensors


def adopt_graph(cuda: Cuda, network: Network, tensors: dict[str, SharedArray], stack: ExitStack) -> str:
    """Capture the engine's work as a graph and use it when it gives the same answer; says what came of it."""
    rng = np.random.default_rng(0)
    for name in INPUTS:
        fill(tensors[name], rng.integers(0, 256, tensors[name].host.shape).astype(np.float32))
        tensors[name].upload(network.stream)
    outputs = [tensor for name, tensor in tensors.items() if name not in INPUTS]
    # TensorRT prepares itself at the first run, which cannot be captured.
    plain = answers(network, outputs)
    try:
        graph = CudaGraph.capture(cuda, network.stream, network.enqueue)
    except CudaError as error:
        log.warning("no CUDA graph, every layer is launched by itself: %s", error)
        return f"no: {error}"
    network.use_graph(graph)
    for output in outputs:
        output.host.fill(0)
        output.upload(network.stream)
    again = answers(network, outputs)
    if not all(np.array_equal(one, other, equal_nan=True) for one, other in zip(plain, again, strict=True)):
        network.use_graph(None)
        graph.free()
        log.warning("the CUDA graph gave another answer than the engine: every layer is launched by itself")
        return "no: it gave another answer"
    stack.callback(graph.free)
    return f"yes, {graph.nodes} nodes"


def answers(network: Network, outputs: Iterable[SharedArray]) -> list[Any]:
    """Run once and copy the outputs."""
    network.launch()
    for output in outputs:
        output.download(network.stream)
    network.wait()
    return [output.host.copy() for output in outputs]


def fill(tensor: SharedArray, image: Floats) -> None:
    """Put an image of raw RGB 0–255 where the engine reads it, rounded where it reads bytes.

    Raises:
        ValueError: another shape.
    """
    if image.shape != tensor.host.shape:
        raise ValueError(f"expected {tensor.host.shape}, got {image.shape}")
    if tensor.host.dtype == np.uint8:
        image = np.rint(image)
    np.copyto(tensor.host, image, casting="unsafe")


def runtime_facts(manifest: EngineManifest, engine: Any, gpu: Gpu, graph: str) -> dict[str, str]:
    """What goes with every number measured on this runner."""
    facts = {
        METADATA_PRECISION: manifest.precision,
        "runtime.gpu": f"{gpu.name}, compute capability {gpu.compute_capability}",
        "runtime.memory": "shared with the GPU, not copied" if gpu.integrated else "pinned, copied",
        "runtime.cuda_graph": graph,
        "runtime.engine_memory_mb": f"{engine.device_memory_size_v2 / 1e6:.1f}",
    }
    # On a board its own name says it better.
    return facts if gpu.integrated else {**facts, "runtime.device": gpu.name}
