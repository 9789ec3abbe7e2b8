"""`stereodistill build`: ONNX → engine, with TensorRT-RTX ahead of time or with TensorRT on the board.

Three files come of it, the manifest last:

    NAME.engine            the engine
    NAME.manifest.json     what it is and where it may run: see `deploy.engines.manifest`
    NAME.layers.json       what became of the graph, layer by layer: see `deploy.engines.layers`

How it is built stands in `deploy.engines.build`.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.config import BuildConfig
from deploy.cuda import load_cuda
from deploy.device import memory_mb
from deploy.engines.build import BuildOptions, build_engine
from deploy.engines.flavours import FLAVOURS, import_flavour, make_logger
from deploy.engines.layers import inspect_engine, layers_path, parse_layers
from deploy.engines.manifest import KIND, device_here, manifest_path
from deploy.onnx_stereo import StereoGraph, read_stereo_graph
from stereo.artifacts import make_manifest, sha256_bytes, sha256_file, write_bytes, write_json
from stereo.errors import UserError
from stereo.progress import clock

DEFAULT_COMPUTE_CAPABILITY = "8.6"
# Of what is free on a board when the build starts: the rest is for the system, and for what the builder underestimates.
SHARE_OF_BOARD_MEMORY = 0.6
LEVELS = range(6)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """What an engine is built for.

    Args:
        compute_capability: such as "8.7".
        device: board or GPU; None when it is built ahead of time.
        shared_memory: processor and GPU share their memory, as on a Jetson.
    """

    compute_capability: str
    device: str | None
    shared_memory: bool


def build(config: BuildConfig) -> Path:
    """Build an engine and write it with its manifest.

    Raises:
        UserError: the builder is missing, the graph is refused, the memory is used up, or the target is unknown.
    """
    check(config)
    graph = read_stereo_graph(config.onnx)
    if graph.size is None:
        raise UserError("leaves its image size open", where=config.onnx, fix="export it with --size")
    trt = import_flavour(config.runtime)
    target = find_target(config)
    limit_mb = config.memory_limit_mb or default_memory_limit_mb(target)
    options = BuildOptions(
        compute_capability=target.compute_capability if target.device is None else None,
        workspace_mb=config.workspace_mb,
        memory_limit_mb=limit_mb,
        optimization_level=config.optimization_level,
        timing_cache=Path(config.timing_cache) if config.timing_cache else None,
    )
    if limit_mb:
        log.info("the builder may use %d MB (--memory-limit-mb)", limit_mb)
    start = time.perf_counter()
    engine = build_engine(trt, graph, options)
    seconds = time.perf_counter() - start
    write_engine(Path(config.out), engine, config, {
        **graph_facts(graph),
        "runtime": config.runtime,
        "runtime_version": trt.__version__,
        "compute_capability": target.compute_capability,
        "device": target.device,
        "tf32": False,
        "hardware_compatible": False,
        "memory_limit_mb": limit_mb or None,
        "build_s": round(seconds, 1),
    }, account=None if target.device is None else inspect(trt, engine))  # fmt: skip
    log.info("%s: %.1f MB in %s", config.out, len(engine) / 1e6, clock(seconds))
    return Path(config.out)


def check(config: BuildConfig) -> None:
    """Refuse options that do not fit, before anything is read.

    Raises:
        UserError: they do not.
    """
    ahead_of_time = FLAVOURS[config.runtime].ahead_of_time
    if config.compute_capability and not ahead_of_time:
        raise UserError(f"{config.runtime} builds for the GPU it runs on", where="--compute-capability",
                        fix="leave it out, or use --runtime tensorrt_rtx")  # fmt: skip
    if config.timing_cache and ahead_of_time:
        raise UserError(f"{config.runtime} measures nothing, so it has no timing cache", where="--timing-cache",
                        fix="leave it out")  # fmt: skip
    if config.optimization_level not in LEVELS:
        raise UserError(f"{config.optimization_level} is no optimisation level", where="--optimization-level",
                        fix=f"give {LEVELS[0]} to {LEVELS[-1]}; 3 is TensorRT's own")  # fmt: skip
    for name in ("workspace_mb", "memory_limit_mb"):
        if getattr(config, name) < 0:
            raise UserError(f"{getattr(config, name)} MB", where=f"--{name.replace('_', '-')}",
                            fix="0 leaves it to the builder")  # fmt: skip
    if Path(config.out).suffix != ".engine":
        raise UserError(f"'{config.out}' does not end in .engine", where="--out", fix="name it so, such as int8.engine")


def find_target(config: BuildConfig) -> Target:
    """What to build for.

    Raises:
        UserError: TensorRT builds for the GPU of this machine, and there is none.
    """
    if FLAVOURS[config.runtime].ahead_of_time:
        return Target(config.compute_capability or DEFAULT_COMPUTE_CAPABILITY, None, shared_memory=False)
    gpu = load_cuda().gpu()
    return Target(gpu.compute_capability, device_here(gpu), gpu.integrated)


def default_memory_limit_mb(target: Target) -> int:
    """A share of what is free on a board, whose system would be killed by a builder that takes all; 0 elsewhere."""
    memory = memory_mb() if target.shared_memory else None
    return int(SHARE_OF_BOARD_MEMORY * memory[1]) if memory else 0


def graph_facts(graph: StereoGraph) -> dict[str, Any]:
    """What the manifest takes from the graph."""
    assert graph.size is not None
    return {"precision": graph.precision, "height": graph.size[0], "width": graph.size[1], "metadata": graph.metadata,
            "onnx_sha256": sha256_file(graph.path)}  # fmt: skip


def inspect(trt: Any, engine: bytes) -> Any:
    """The inspector's account; None, and said, where the engine cannot be opened to inspect it."""
    logger = make_logger(trt)
    opened = trt.Runtime(logger).deserialize_cuda_engine(engine)
    if opened is None:
        log.warning("the engine cannot be opened to list its layers: %s", logger.reason())
        return None
    return inspect_engine(trt, opened)


def write_engine(out: Path, engine: bytes, config: BuildConfig, facts: dict[str, Any], *, account: Any) -> None:
    """Write the engine, its layers where they are known, and last its manifest."""
    manifest_path(out).unlink(missing_ok=True)  # of an earlier build: it must not describe this engine
    layers_path(out).unlink(missing_ok=True)
    write_bytes(out, engine)
    precisions = None
    if account is not None:
        write_json(layers_path(out), account)
        precisions = parse_layers(account, where=layers_path(out)).precisions()
    content = {**facts, "layers": precisions, "size_bytes": len(engine), "sha256": sha256_bytes(engine)}
    made_from = {"onnx": content.pop("onnx_sha256")}
    write_json(manifest_path(out), make_manifest(KIND, made_from=made_from, config=config, content=content))
