"""ONNX through OpenVINO on the CPU, the runtime in which BF16 and INT8 mean something on Intel and ARM processors.

OpenVINO chooses BF16 by itself on a processor that has it; here the precision hint is always set, read back from the
compiled model, and refused when it differs. https://docs.openvino.ai
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from deploy.device import has_byte_dot_products
from deploy.onnx_stereo import StereoGraph, read_stereo_graph
from deploy.runners.protocol import Floats, Runner
from deploy.runners.registry import import_runtime
from stereo.errors import UserError

DEVICE = "CPU"
INTEGER_PRECISIONS = ("i8", "u8")
# Layers that do the arithmetic; the others move or convert data and say nothing about how a model computes.
COMPUTING_LAYERS = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")
# What OpenVINO moves a rounding past without changing it.
MOVES_ONLY = ("Convert", "Reshape", "Squeeze", "Unsqueeze", "Transpose")
NO_BYTE_DOT_PRODUCTS = (
    "this processor has no 8-bit dot products: sums of OpenVINO's INT8 can saturate on it, and some quantised layers "
    "run in float; errors and times are not those of other processors"
)
RUNS_IN_FLOAT = "OpenVINO computes this quantised graph in float: its errors are those of INT8, its times are not"
log = logging.getLogger(__name__)


class OpenVinoRunner:
    """A compiled model with one request; see `deploy.runners.protocol.Runner`."""

    runtime = "openvino"

    def __init__(
        self,
        request: Any,
        graph: StereoGraph,
        *,
        version: str,
        precision_hint: str,
        threads: int,
        size: tuple[int, int] | None,
        metadata: dict[str, str],
        problems: tuple[str, ...],
    ):
        self.runtime_version, self.precision_hint, self.threads = version, precision_hint, threads
        self.input_size, self.metadata, self.problems = size, metadata, problems
        self._request: Any = request
        self._graph = graph

    def run(self, left: Floats, right: Floats) -> Floats:
        """See `Runner.run`."""
        # The inputs are only read while the request runs; the output is copied out of the request's own memory.
        self._request.infer(self._graph.feed(left, right), share_inputs=True)
        return self._request.get_tensor(self._graph.output).data.copy()

    def close(self) -> None:
        """Drop the request and with it the compiled model."""
        self._request = None


def open_openvino(path: Path, *, threads: int, precision_hint: str = "f32", size: tuple[int, int] | None) -> Runner:
    """Open an ONNX stereo network; see `deploy.runners.registry.open_runner`.

    Raises:
        UserError: not a stereo network, of another size, refused by OpenVINO, or a setting that did not take.
    """
    graph = read_stereo_graph(path)
    graph.check_size(size)
    ov = import_runtime("openvino")
    wanted: dict[str, str | int] = {
        "INFERENCE_PRECISION_HINT": precision_hint,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    try:
        core = ov.Core()
        model = core.read_model(str(path))
        if graph.size is None and size is not None:
            shape = [1, 3, *size] if graph.pixels == "float32" else [1, *size, 3]
            model.reshape(dict.fromkeys(graph.inputs, shape))
        keep_concatenations(ov, model)
        compiled = core.compile_model(model, DEVICE, wanted)
    except RuntimeError as error:
        raise UserError(f"OpenVINO {ov.__version__} cannot load it: {last_line(error)}", where=path) from error
    check_settings(compiled, wanted, path)
    integer, computing = count_kernels(compiled)
    problems = kernel_problems(graph, integer)
    for problem in problems:
        log.warning("%s", problem)
    kernels = f"{integer} of {computing} convolutions and matrix products"
    return OpenVinoRunner(
        compiled.create_infer_request(),
        graph,
        version=ov.__version__.split("-")[0],
        precision_hint=precision_hint,
        threads=threads,
        size=graph.size or size,
        metadata={**graph.metadata, "runtime.integer_kernels": kernels},
        problems=problems,
    )


def kernel_problems(graph: StereoGraph, integer_kernels: int) -> tuple[str, ...]:
    """What stands beside every number of a graph that runs so."""
    if graph.precision == "int8" and not integer_kernels:
        return (RUNS_IN_FLOAT,)
    return (NO_BYTE_DOT_PRODUCTS,) if integer_kernels and not has_byte_dot_products() else ()


def keep_concatenations(ov: Any, model: Any) -> None:
    """Put something between each concatenation and the rounding of its result that does nothing.

    OpenVINO (seen with 2026.4 on AVX2 and AVX-512) moves the rounding in front of a concatenation and loses its scale:
    values are rounded to steps of about 1, to 0 mostly, and the convolution that reads them is left with little but its
    bias; tests/deploy/runners/test_openvino_concatenation.py has the smallest graph. It does not move it past a PRelu,
    and one of slope 1 joins the rounding in one kernel.
    """
    for rounding in model.get_ops():
        if rounding.get_type_name() != "FakeQuantize":
            continue
        source = rounding.input_value(0)
        beyond = source.get_node()
        while beyond.get_type_name() in MOVES_ONLY:
            beyond = beyond.input_value(0).get_node()
        if beyond.get_type_name() == "Concat":
            one = ov.opset13.constant(1.0, dtype=source.get_element_type().to_dtype())
            rounding.input(0).replace_source_output(ov.opset13.prelu(source, one).output(0))


def check_settings(compiled: Any, wanted: dict[str, str | int], path: Path) -> None:
    """Compare what the compiled model says with what was asked for.

    Raises:
        UserError: they differ.
    """
    for key in ("INFERENCE_PRECISION_HINT", "INFERENCE_NUM_THREADS", "NUM_STREAMS"):
        found = compiled.get_property(key)
        text = found.to_string() if hasattr(found, "to_string") else str(found)
        if text != str(wanted[key]):
            raise UserError(f"OpenVINO took {key}={text} instead of {wanted[key]}", where=path,
                            fix="this processor may not have it: see stereodistill doctor")  # fmt: skip


def count_kernels(compiled: Any) -> tuple[int, int]:
    """How many of the layers that compute were compiled to integer kernels, and how many compute.

    A Q/DQ graph whose pairs did not fuse runs in floating point and is slower than FP32: this shows it.
    """
    kinds = []
    for node in compiled.get_runtime_model().get_ops():
        facts = node.get_rt_info()
        if facts["layerType"].astype(str) in COMPUTING_LAYERS:
            kinds.append(facts["runtimePrecision"].astype(str))
    return sum(kind in INTEGER_PRECISIONS for kind in kinds), len(kinds)


def last_line(error: Exception) -> str:
    """OpenVINO wraps its reason in many lines of source positions; the reason comes last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
