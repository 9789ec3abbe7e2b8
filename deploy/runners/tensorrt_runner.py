"""Engines through TensorRT or TensorRT-RTX: tensors by name, one stream, one CUDA graph.

Where processor and GPU share their memory, as on a Jetson, both read and write the same pages; elsewhere pinned memory
is copied to the GPU and back. The engine's work is launched as one CUDA graph, once a graph was captured that gives the
same answer; where that fails it is told and each layer is launched by itself.
https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/python-api-docs.html

    # H height, W width
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from deploy.cuda import Gpu, load_cuda
from deploy.engines.flavours import import_flavour, make_logger
from deploy.engines.manifest import EngineManifest, Here, check_loadable, device_here, read_engine_manifest
from deploy.runners.protocol import Floats, Runner
from deploy.runners.tensorrt_network import TensorRtNetwork
from deploy.runners.tensorrt_tensors import EngineTensors, allocate_tensors
from stereo.errors import UserError

METADATA_PRECISION = "stereodistill.precision"


class TensorRtRunner:
    """An engine with its buffers; see `deploy.runners.protocol.Runner`.

    Args:
        runtime: "tensorrt" or "tensorrt_rtx".
        owned: what `close` frees, last in first out.
        network: the engine's work on what its buffers hold.
        tensors: its buffers.
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
        network: TensorRtNetwork,
        tensors: EngineTensors,
    ) -> None:
        self.runtime, self.runtime_version, self.threads = runtime, version, threads
        self.input_size: tuple[int, int] | None = size
        self.metadata = metadata
        self._owned, self._network, self._tensors = owned, network, tensors

    def run(self, left: Floats, right: Floats) -> Floats:
        """See `Runner.run`."""
        self._tensors.put(left, right, self._network.stream)
        self._network.launch()
        self._tensors.disparity.download(self._network.stream)
        self._network.wait()
        return self._tensors.disparity.host.copy()

    def run_without_copies(self) -> None:
        """Run the network again on what the last `run` left in its buffers, and wait for it: for measuring alone."""
        self._network.launch()
        self._network.wait()

    def layer_times_ms(self) -> dict[str, float]:
        """See `deploy.runners.protocol.TellsLayerTimes`: layers as TensorRT fused them, named after their nodes."""
        return self._network.layer_times_ms()

    def close(self) -> None:
        """Free graph, engine and memory on both sides; a second call does nothing."""
        self._owned.close()


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
        stream = cuda.call("cudaStreamCreateWithFlags", cuda.runtime.cudaStreamNonBlocking)
        stack.callback(cuda.call, "cudaStreamDestroy", stream)
        tensors = allocate_tensors(trt, engine, cuda, mapped=gpu.integrated, size=manifest.size, path=path, stack=stack)
        network = TensorRtNetwork(trt, engine, cuda, stream, tensors.buffers)
        stack.callback(network.close)
        noise = np.random.default_rng(0).integers(0, 256, (2, 1, 3, *manifest.size)).astype(np.float32)
        tensors.put(noise[0], noise[1], stream)
        note = network.adopt_graph()
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
