"""A stream's work recorded once and launched as a whole, which saves the launch of every kernel.

https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#cuda-graphs
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deploy.cuda import Cuda, CudaError


@dataclass
class CudaGraph:
    """A captured and instantiated graph.

    Args:
        nodes: how many it holds.
    """

    cuda: Cuda
    executable: Any
    nodes: int

    @staticmethod
    def capture(cuda: Cuda, stream: Any, enqueue: Callable[[], None]) -> CudaGraph:
        """Record what `enqueue` puts on a stream, without running it.

        Raises:
            CudaError: the work cannot be captured, or nothing was.
        """
        mode = cuda.runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        cuda.call("cudaStreamBeginCapture", stream, mode)
        try:
            enqueue()
        except CudaError:
            # A broken capture must be ended too, or the stream takes no more work; its error is that of the work.
            ended = cuda.runtime.cudaStreamEndCapture(stream)
            if ended[0] == cuda.runtime.cudaError_t.cudaSuccess:
                cuda.call("cudaGraphDestroy", ended[1])
            # Otherwise TensorRT would find the capture's error after its next launch and take it for its own.
            cuda.runtime.cudaGetLastError()
            raise
        graph = cuda.call("cudaStreamEndCapture", stream)
        try:
            nodes = int(cuda.call("cudaGraphGetNodes", graph)[1])
            if not nodes:
                raise CudaError("the captured graph is empty")
            return CudaGraph(cuda, cuda.call("cudaGraphInstantiate", graph, 0), nodes)
        finally:
            cuda.call("cudaGraphDestroy", graph)

    def launch(self, stream: Any) -> None:
        """Queue it on a stream."""
        self.cuda.call("cudaGraphLaunch", self.executable, stream)

    def free(self) -> None:
        """Free the executable graph."""
        self.cuda.call("cudaGraphExecDestroy", self.executable)
