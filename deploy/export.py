"""A torch module → one ONNX graph that every runtime takes.

Inputs `left`, `right` (N×3×H×W float32, RGB 0–255), output `disparity` (N×1×H×W float32, px), perhaps more outputs.
Torch is imported inside the function: the rest of `deploy` runs on boards without it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from deploy.node_names import name_nodes
from deploy.onnx_stereo import OUTPUT
from deploy.operators import foreign_operators
from stereo.artifacts import atomic_path

if TYPE_CHECKING:
    import torch

METADATA_PREFIX = "stereodistill."
# They narrate every rewriting step, and that torchvision, which nobody needs, is missing.
EXPORTER_LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir")
log = logging.getLogger(__name__)


def export_onnx(
    module: torch.nn.Module,
    path: Path | str,
    *,
    size: tuple[int, int],
    metadata: Mapping[str, str],
    opset: int = 18,
    outputs: Sequence[str] = (OUTPUT,),
    open_batch: bool = False,
) -> Path:
    """Export a stereo network; shapes are static but for the number of pairs, which may be left open.

    Args:
        module: takes (left, right), returns its outputs; put into evaluation mode.
        size: (height, width) of the graph.
        metadata: written into the graph, each key prefixed with "stereodistill.".
        opset: ONNX operator set.
        outputs: names of what the module returns, in its order.
        open_batch: take any number of pairs at a time instead of one.

    Returns: the path written.

    Raises:
        RuntimeError: the network needs an operator that is not in `deploy.operators`, or fixes the number of pairs.
    """
    import torch

    path = Path(path)
    height, width = size
    module = module.eval()
    device = next(module.parameters()).device
    # Unlike constants, random images keep shape inference and constant folding from making special cases of zeros.
    example = 255 * torch.rand(2 if open_batch else 1, 3, height, width, device=device)
    # Two is the least number that the exporter takes for a variable one.
    batch = {0: torch.export.Dim("batch", min=1)} if open_batch else None
    with atomic_path(path) as temporary, quiet_exporter(), torch.inference_mode(False), torch.no_grad():
        torch.onnx.export(
            module,
            (example, example.clone()),
            temporary,
            input_names=["left", "right"],
            output_names=list(outputs),
            dynamic_shapes=[batch, batch] if open_batch else None,
            opset_version=opset,
            dynamo=True,
            external_data=False,
            optimize=True,
        )
        graph = onnx.load(temporary)
        if open_batch and not graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
            raise RuntimeError("the exporter fixed the number of pairs: something in the network depends on it")
        name_nodes(graph)
        if foreign := foreign_operators(graph):
            node, operator = next(iter(foreign.items()))
            raise RuntimeError(f"{len(foreign)} nodes are not for TensorRT, such as {operator} in '{node}'; "
                               "see deploy/operators.py")  # fmt: skip
        set_metadata(graph, {**metadata, "height": str(height), "width": str(width)})
        onnx.checker.check_model(graph)
        onnx.save(graph, temporary)
    log.info("%s: %d nodes, %.1f MB", path.name, len(graph.graph.node), path.stat().st_size / 1e6)
    return path


def set_metadata(graph: onnx.ModelProto, metadata: Mapping[str, str]) -> None:
    """Replace our metadata in a graph; that of others stays, but for the exporter's, which names source files."""
    kept = [(entry.key, entry.value) for entry in graph.metadata_props if not entry.key.startswith(METADATA_PREFIX)]
    del graph.metadata_props[:]
    for key, value in [*kept, *((METADATA_PREFIX + key, value) for key, value in metadata.items())]:
        graph.metadata_props.add(key=key, value=value)
    # The exporter notes the path of every source line: noise for others, and nobody's business where we live.
    for node in graph.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in graph.graph.value_info:
        del value.metadata_props[:]


def get_metadata(graph: onnx.ModelProto) -> dict[str, str]:
    """Our metadata of a graph, prefix removed."""
    return {
        entry.key.removeprefix(METADATA_PREFIX): entry.value
        for entry in graph.metadata_props
        if entry.key.startswith(METADATA_PREFIX)
    }


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """Keep the exporter's progress lines off stdout and its notes and warnings off stderr; real errors still raise."""
    loggers = [logging.getLogger(name) for name in EXPORTER_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
