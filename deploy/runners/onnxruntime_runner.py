"""ONNX through onnxruntime on the CPU: the portable reference, https://onnxruntime.ai.

Its CPU kernels compute in float32 unless the graph says otherwise, so "f32" is the only precision hint there is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deploy.onnx_stereo import OUTPUT, read_stereo_graph
from deploy.runners.protocol import Floats, Runner
from deploy.runners.registry import import_runtime
from stereo.errors import UserError

PROVIDER = "CPUExecutionProvider"


class OnnxRuntimeRunner:
    """A session; see `deploy.runners.protocol.Runner`."""

    runtime = "onnxruntime"
    precision_hint = "f32"

    def __init__(
        self, session: Any, *, version: str, threads: int, size: tuple[int, int] | None, metadata: dict[str, str]
    ):
        self.runtime_version, self.threads, self.input_size, self.metadata = version, threads, size, metadata
        self._session: Any = session

    def run(self, left: Floats, right: Floats) -> Floats:
        """See `Runner.run`."""
        (disparity,) = self._session.run([OUTPUT], {"left": left, "right": right})
        return disparity

    def close(self) -> None:
        """Drop the session."""
        self._session = None


def open_onnxruntime(
    path: Path, *, threads: int, precision_hint: str = "f32", size: tuple[int, int] | None = None
) -> Runner:
    """Open an ONNX stereo network; see `deploy.runners.registry.open_runner`.

    Raises:
        UserError: not a stereo network, of another size, or refused by onnxruntime.
    """
    graph = read_stereo_graph(path)
    graph.check_size(size)
    ort = import_runtime("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # Idle workers would spin on the cores that the next variant of an interleaved measurement is timed on.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # onnxruntime raises its own exception types, one per status code, without a common base but Exception's.
    failures = tuple(
        kind for kind in vars(ort.capi.onnxruntime_pybind11_state).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    )  # fmt: skip
    try:
        session = ort.InferenceSession(str(path), options, providers=[PROVIDER])
    except failures as error:
        raise UserError(f"onnxruntime {ort.__version__} cannot load it: {error}", where=path) from error
    if session.get_providers() != [PROVIDER]:
        raise UserError(f"onnxruntime chose {session.get_providers()} instead of {PROVIDER}", where=path)
    return OnnxRuntimeRunner(
        session, version=ort.__version__, threads=threads, size=graph.size or size, metadata=dict(graph.metadata)
    )
