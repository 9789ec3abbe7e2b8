"""ONNX through onnxruntime on the CPU: the portable reference, https://onnxruntime.ai.

Its CPU kernels compute in float32 unless the graph says otherwise, so "f32" is the only precision hint there is.
"""

from __future__ import annotations

import functools
import logging
import tempfile
from pathlib import Path
from typing import Any

import onnx

from deploy.onnx_stereo import StereoGraph, read_stereo_graph
from deploy.runners.protocol import Floats, Runner
from deploy.runners.registry import import_runtime
from stereo.errors import UserError

PROVIDER = "CPUExecutionProvider"
# It rounds biases to 32-bit steps of input scale × weight scale, and computes that product in the scales' own type: in
# FP16 small ones lose their digits, and the biases with them. Nothing here needs integer biases.
DISABLED_OPTIMISERS = ["WeightBiasQuantization"]
# Operators of an optimised graph that do the arithmetic, in floating point and in integers.
FLOAT_OPERATORS = ("Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "MatMul", "FusedMatMul", "Gemm", "FusedGemm")
INTEGER_OPERATORS = (
    "QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul",
    "QGemm",
)  # fmt: skip
# It has integer convolutions only for those whose output is quantised as well; in this project's graphs outputs stay in
# float for all others who read them.
RUNS_IN_FLOAT = (
    "onnxruntime computes this quantised graph in float: its errors are those of INT8, its times are not (openvino has "
    "integer kernels for it)"
)
log = logging.getLogger(__name__)


class OnnxRuntimeRunner:
    """A session; see `deploy.runners.protocol.Runner`."""

    runtime = "onnxruntime"
    precision_hint = "f32"

    def __init__(
        self,
        session: Any,
        graph: StereoGraph,
        *,
        version: str,
        threads: int,
        size: tuple[int, int] | None,
        metadata: dict[str, str],
        problems: tuple[str, ...],
    ):
        self.runtime_version, self.threads, self.input_size, self.metadata = version, threads, size, metadata
        self.problems = problems
        self._session: Any = session
        self._graph = graph

    def run(self, left: Floats, right: Floats) -> Floats:
        """See `Runner.run`."""
        (disparity,) = self._session.run([self._graph.output], self._graph.feed(left, right))
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
    facts: dict[str, str] = {}
    problems: tuple[str, ...] = ()
    with tempfile.TemporaryDirectory(prefix="stereodistill.") as folder:
        optimised = Path(folder) / "optimised.onnx"
        if graph.precision == "int8":
            options.optimized_model_filepath = str(optimised)
        try:
            session = ort.InferenceSession(
                str(path), options, providers=[PROVIDER], disabled_optimizers=DISABLED_OPTIMISERS
            )
        except failures as error:
            raise UserError(f"onnxruntime {ort.__version__} cannot load it: {error}", where=path) from error
        if graph.precision == "int8":
            integer, computing = count_kernels(optimised)
            facts = {"runtime.integer_kernels": f"{integer} of {computing} convolutions and matrix products"}
            if not integer:
                warn_of_float(path)
                problems = (RUNS_IN_FLOAT,)
    if session.get_providers() != [PROVIDER]:
        raise UserError(f"onnxruntime chose {session.get_providers()} instead of {PROVIDER}", where=path)
    return OnnxRuntimeRunner(
        session,
        graph,
        version=ort.__version__,
        threads=threads,
        size=graph.size or size,
        metadata={**graph.metadata, **facts},
        problems=problems,
    )


def count_kernels(optimised: Path) -> tuple[int, int]:
    """How many of the operators that compute became integer ones, and how many compute.

    Args:
        optimised: the graph as onnxruntime runs it.
    """
    kinds = [node.op_type for node in onnx.load(optimised, load_external_data=False).graph.node]
    integer = sum(kind in INTEGER_OPERATORS for kind in kinds)
    return integer, integer + sum(kind in FLOAT_OPERATORS for kind in kinds)


@functools.cache  # once for each file: a study opens the same one many times
def warn_of_float(path: Path) -> None:
    """Tell that a quantised graph runs in floating point."""
    log.warning("%s: %s", path, RUNS_IN_FLOAT)
