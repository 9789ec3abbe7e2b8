"""ONNX → serialised engine: one strongly typed network, one builder configuration.

Precision is what stands in the ONNX file (Q/DQ pairs, FP16 casts), because the builder flags for it are gone from
TensorRT 11. Only names that TensorRT 10.3 to 11.4 and TensorRT-RTX share are used.
https://docs.nvidia.com/deeplearning/tensorrt/latest/reference/capabilities.html

Left as TensorRT has it: hardware compatibility is off, since kernels for any newer GPU would be slower on this one. Not
used: the DLA cores of Orin take implicit quantisation and 2-D layers only, so neither our Q/DQ pairs nor the cost
volume would run on them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.engines.build_progress import PERCENT, BuildProgress, make_monitor, run_interruptibly
from deploy.engines.failures import build_failure, parse_failure
from deploy.engines.flavours import make_logger
from deploy.engines.timing_cache import load_timing_cache, save_timing_cache
from deploy.onnx_stereo import StereoGraph
from stereo.errors import UserError
from stereo.progress import progress

MB = 1_000_000


@dataclass(frozen=True)
class BuildOptions:
    """What may be chosen.

    Args:
        compute_capability: such as "8.6", to build ahead of time; None builds for the GPU of this machine.
        workspace_mb: for intermediate results within one layer, MB of 10^6 bytes; 0 sets no limit.
        memory_limit_mb: for the builder's trials of kernels, and on a board for all it holds; 0 sets no limit.
        optimization_level: 0 to 5; higher looks longer.
        timing_cache: file to read, extend and write; None keeps none.
    """

    compute_capability: str | None = None
    workspace_mb: int = 0
    memory_limit_mb: int = 0
    optimization_level: int = 3
    timing_cache: Path | None = None


def build_engine(trt: Any, graph: StereoGraph, options: BuildOptions) -> bytes:
    """Serialised engine of a strongly typed network.

    Args:
        trt: the TensorRT module.

    Raises:
        UserError: the parser or builder refuses the graph, the memory is used up, or there is no such target.
        KeyboardInterrupt: Ctrl-C, once TensorRT has stopped; what it measured is in the timing cache.
    """
    logger = make_logger(trt)
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # what the bindings raise when the library returns no builder, as without a driver
        raise UserError(f"TensorRT cannot start: {logger.reason()}", fix="it needs a working NVIDIA driver") from error
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph.path)):
        raise parse_failure(parser, graph.path)
    config = builder.create_builder_config()
    configure(trt, config, options)
    fix_batch(builder, network, config)
    with progress(f"build {graph.path.name}", PERCENT, unit="%", elapsed=True) as ticker:
        tracker = BuildProgress(ticker)
        config.progress_monitor = make_monitor(trt, tracker)
        engine = with_timing_cache(
            config, options.timing_cache,
            lambda: run_interruptibly(lambda: builder.build_serialized_network(network, config), tracker.cancelled),
        )  # fmt: skip
        if engine is None:
            raise build_failure(
                logger.errors, graph.path, memory_limit_mb=options.memory_limit_mb, workspace_mb=options.workspace_mb
            )
        tracker.complete()
    return bytes(engine)


def configure(trt: Any, config: Any, options: BuildOptions) -> None:
    """Set all that may be chosen on a builder configuration.

    Raises:
        UserError: no such target.
    """
    # On by default, TF32 would round FP32 convolutions to 10 bits of mantissa without the graph saying so.
    config.clear_flag(trt.BuilderFlag.TF32)
    # Layer names and types in the engine, for the inspector and for tables of layers.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.builder_optimization_level = options.optimization_level
    pools = trt.MemoryPoolType
    if options.memory_limit_mb:
        # Where processor and GPU share their memory this counts all that the builder holds (MemoryPoolType).
        config.set_memory_pool_limit(pools.TACTIC_DRAM, options.memory_limit_mb * MB)
    workspace_mb = min(filter(None, (options.workspace_mb, options.memory_limit_mb)), default=0)
    if workspace_mb:
        config.set_memory_pool_limit(pools.WORKSPACE, workspace_mb * MB)
    if options.compute_capability is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(target(trt, options.compute_capability), 0)


def fix_batch(builder: Any, network: Any, config: Any) -> None:
    """Build a graph whose batch is left open for one pair, which is what runners give it."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    if not any(size < 0 for tensor in inputs for size in tensor.shape):
        return
    profile = builder.create_optimization_profile()
    for tensor in inputs:
        shape = tuple(1 if size < 0 else size for size in tensor.shape)
        profile.set_shape(tensor.name, shape, shape, shape)
    config.add_optimization_profile(profile)


def with_timing_cache(config: Any, path: Path | None, build: Callable[[], Any]) -> Any:
    """Build with a timing cache, which is kept however the build ends."""
    if path is None:
        return build()
    load_timing_cache(config, path)
    try:
        return build()
    finally:
        save_timing_cache(config, path)


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
