"""`stereodistill build`: ONNX → engine, with TensorRT-RTX ahead of time or with TensorRT on the board.

Networks are always strongly typed: precision is what stands in the ONNX file (Q/DQ pairs, FP16 casts), because the
builder flags for it are gone from TensorRT 11. Only calls that TensorRT 10.3 to 11.4 and TensorRT-RTX share are used.
https://docs.nvidia.com/deeplearning/tensorrt/latest/reference/capabilities.html
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.config import BuildConfig
from deploy.onnx_stereo import StereoGraph, read_stereo_graph
from stereo.artifacts import make_manifest, sha256_bytes, sha256_file, write_bytes, write_json
from stereo.errors import UserError, require

DEFAULT_COMPUTE_CAPABILITY = "8.6"


@dataclass(frozen=True)
class Builder:
    """One TensorRT flavour.

    Args:
        module: import name.
        install: what to do when it is missing.
        ahead_of_time: builds for a named compute capability, also without a GPU.
    """

    module: str
    install: str
    ahead_of_time: bool


BUILDERS = {
    "tensorrt_rtx": Builder("tensorrt_rtx_bindings", "pip install 'stereodistill[rtx]'", ahead_of_time=True),
    "tensorrt": Builder(
        "tensorrt", "on a Jetson: apt install python3-libnvinfer; elsewhere: pip install 'stereodistill[tensorrt]'",
        ahead_of_time=False,
    ),
}  # fmt: skip


def build(config: BuildConfig) -> Path:
    """Build an engine and write it with its manifest, NAME.manifest.json.

    Raises:
        UserError: the builder is missing, the graph is refused, or the target is unknown.
    """
    flavour = BUILDERS[config.runtime]
    if config.compute_capability and not flavour.ahead_of_time:
        raise UserError(f"{config.runtime} builds for the GPU it runs on", where="--compute-capability",
                        fix="leave it out, or use --runtime tensorrt_rtx")  # fmt: skip
    graph = read_stereo_graph(config.onnx)
    if graph.size is None:
        raise UserError("leaves its image size open", where=config.onnx, fix="export it with --size")
    trt: Any = require(flavour.module, hint=flavour.install)
    capability = (config.compute_capability or DEFAULT_COMPUTE_CAPABILITY) if flavour.ahead_of_time else None
    start = time.perf_counter()
    engine = build_engine(trt, graph, compute_capability=capability, workspace_mb=config.workspace_mb)
    out = Path(config.out)
    write_bytes(out, engine)
    content = {
        "runtime": config.runtime,
        "runtime_version": trt.__version__,
        "compute_capability": capability,
        "precision": graph.precision,
        "height": graph.size[0],
        "width": graph.size[1],
        "tf32": False,
        "metadata": graph.metadata,
        "build_s": round(time.perf_counter() - start, 1),
        "size_bytes": len(engine),
        "sha256": sha256_bytes(engine),
    }
    manifest = make_manifest("engine", made_from={"onnx": sha256_file(graph.path)}, config=config, content=content)
    write_json(out.with_suffix(".manifest.json"), manifest)
    return out


def build_engine(trt: Any, graph: StereoGraph, *, compute_capability: str | None, workspace_mb: int) -> bytes:
    """Serialized engine of a strongly typed network.

    Args:
        trt: the TensorRT module.
        compute_capability: such as "8.6"; None builds for the GPU of this machine.
        workspace_mb: limit for intermediate results in MB of 10^6 bytes; 0 sets none.

    Raises:
        UserError: the parser or builder refuses the graph.
    """
    logger = make_logger(trt)
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # what the bindings raise when the library returns no builder, as without a driver
        raise UserError(f"TensorRT cannot start: {logger.reason()}", fix="it needs a working NVIDIA driver") from error
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph.path)):
        error = parser.get_error(0)
        raise UserError(f"TensorRT cannot parse it: {error.node_operator()} '{error.node_name()}': {error.desc()}",
                        where=graph.path, fix="export it again with this version")  # fmt: skip
    config = builder.create_builder_config()
    # On by default, TF32 would round FP32 convolutions to 10 bits of mantissa without the graph saying so.
    config.clear_flag(trt.BuilderFlag.TF32)
    if workspace_mb:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mb * 1_000_000)
    if compute_capability is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(target(trt, compute_capability), 0)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise UserError(f"TensorRT cannot build it: {logger.reason()}", where=graph.path)
    return bytes(engine)


def target(trt: Any, compute_capability: str) -> Any:
    """The ComputeCapability of a text such as "8.6".

    Raises:
        UserError: this builder has no such target.
    """
    name = "SM" + compute_capability.replace(".", "")
    known = [member for member in trt.ComputeCapability.__members__ if member.startswith("SM")]
    if name not in known:
        texts = ", ".join(f"{member[2:-1]}.{member[-1]}" for member in known)
        raise UserError(f"no target {compute_capability} in this builder", where="--compute-capability",
                        fix=f"it has {texts}")  # fmt: skip
    return getattr(trt.ComputeCapability, name)


def make_logger(trt: Any) -> Any:
    """A TensorRT logger that keeps its errors in `.errors` instead of printing them."""

    class Errors(trt.ILogger):
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

        def reason(self) -> str:
            return self.errors[-1] if self.errors else "no reason given"

    return Errors()
