"""An engine bound to its buffers: queued on one stream, as a CUDA graph where that works, timed layer by layer.

https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/python-api-docs.html
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from deploy.cuda import Cuda, CudaError, SharedArray
from deploy.runners.cuda_graph import CudaGraph
from stereo.errors import UserError

PROFILED_RUNS = 10
PROFILED_WARMUP = 2
log = logging.getLogger(__name__)


class TensorRtNetwork:
    """The engine's work on what its buffers hold.

    Args:
        trt: the TensorRT module.
        engine: deserialised.
        tensors: a buffer for each tensor that goes in or out.

    Raises:
        UserError: the GPU's memory does not suffice.
    """

    def __init__(self, trt: Any, engine: Any, cuda: Cuda, stream: Any, tensors: Mapping[str, SharedArray]) -> None:
        self.stream = stream
        self._trt, self._cuda, self._tensors = trt, cuda, tensors
        self._engine: Any = engine
        self._context: Any = self._bind()
        self._graph: CudaGraph | None = None

    def _bind(self) -> Any:
        """An execution context that knows where its tensors are."""
        context = self._engine.create_execution_context()
        if context is None:
            raise UserError("TensorRT made no execution context: the GPU's memory may be used up",
                            fix="close what else uses the GPU")  # fmt: skip
        for name, tensor in self._tensors.items():
            is_input = self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT
            if is_input and not context.set_input_shape(name, tensor.host.shape):
                raise CudaError(f"TensorRT did not take {tensor.host.shape} for {name}")
            if not context.set_tensor_address(name, tensor.device):
                raise CudaError(f"TensorRT did not take the buffer of {name}")
        return context

    def launch(self) -> None:
        """Queue the work."""
        if self._graph is None:
            self.enqueue()
        else:
            self._graph.launch(self.stream)

    def enqueue(self) -> None:
        """Queue the work layer by layer."""
        self._enqueue(self._context)

    def _enqueue(self, context: Any) -> None:
        if not context.execute_async_v3(stream_handle=int(self.stream)):
            raise CudaError("TensorRT could not enqueue the engine")

    def wait(self) -> None:
        """Until everything queued is done."""
        self._cuda.call("cudaStreamSynchronize", self.stream)

    def adopt_graph(self) -> str:
        """Capture the work as a graph and use it when it gives the same answer; says what came of it.

        The buffers must hold inputs; the outputs are overwritten.
        """
        inputs = self._trt.TensorIOMode.INPUT
        outputs = [tensor for name, tensor in self._tensors.items() if self._engine.get_tensor_mode(name) != inputs]
        # TensorRT prepares itself at the first run, which cannot be captured.
        plain = self._answers(outputs)
        try:
            graph = CudaGraph.capture(self._cuda, self.stream, self.enqueue)
        except CudaError as error:
            log.warning("no CUDA graph, every layer is launched by itself: %s", error)
            return f"no: {error}"
        self._graph = graph
        for output in outputs:
            output.host.fill(0)
            output.upload(self.stream)
        again = self._answers(outputs)
        if not all(np.array_equal(one, other, equal_nan=True) for one, other in zip(plain, again, strict=True)):
            self._drop_graph()
            log.warning("the CUDA graph gave another answer than the engine: every layer is launched by itself")
            return "no: it gave another answer"
        return f"yes, {graph.nodes} nodes"

    def _answers(self, outputs: list[SharedArray]) -> list[Any]:
        """Run once and copy the outputs."""
        self.launch()
        for output in outputs:
            output.download(self.stream)
        self.wait()
        return [output.host.copy() for output in outputs]

    def layer_times_ms(self) -> dict[str, float]:
        """Mean time of each layer, in a context of its own: a profiler slows the engine, and keeps it from graphs."""
        profiler = make_profiler(self._trt)
        context = self._bind()
        context.profiler = profiler
        for run in range(PROFILED_WARMUP + PROFILED_RUNS):
            if run == PROFILED_WARMUP:
                profiler.times_ms.clear()
            self._enqueue(context)
            self.wait()
        return {name: total / PROFILED_RUNS for name, total in profiler.times_ms.items()}

    def close(self) -> None:
        """Free the graph and let go of engine and context, before the buffers that they point to."""
        self._drop_graph()
        self._context = self._engine = None

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._graph.free()
            self._graph = None


def make_profiler(trt: Any) -> Any:
    """A TensorRT profiler that sums the times of each layer in `.times_ms`."""

    class Sums(trt.IProfiler):
        def __init__(self) -> None:
            super().__init__()
            self.times_ms: dict[str, float] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times_ms[layer_name] = self.times_ms.get(layer_name, 0.0) + ms

    return Sums()
