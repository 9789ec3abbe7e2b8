"""A stand-in for TensorRT's Python module: its names are those of one real version, its engines run in onnxruntime.

A name that the version lacks raises AttributeError, one that it has and the stand-in lacks NotImplementedError. An
engine file is one line of JSON and the ONNX file behind it.
"""

from __future__ import annotations

import enum
import hashlib
import json
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from typing import Any

import numpy as np
import onnx

Table = dict[str, list[str]]
TYPES = {onnx.TensorProto.FLOAT: ("FLOAT", np.float32), onnx.TensorProto.UINT8: ("UINT8", np.uint8),
         onnx.TensorProto.INT64: ("INT64", np.int64)}  # fmt: skip
PHASES = (("Building Engine", None, 2), ("Optimizing", "Building Engine", 5), ("Timing", "Building Engine", 10))


@dataclass
class Workshop:
    """What a test may set, and what the stand-in notes.

    Args:
        has_driver: without, nothing starts.
        build_errors: what a failing build logs; with any, it fails.
        during_build: called at each step.
        configs: every builder configuration that was built with.
        no_context: an execution context finds no memory.
        measured: how many kernels builds timed, those in a timing cache not.
    """

    has_driver: bool = True
    build_errors: list[str] = field(default_factory=list)
    during_build: Callable[[], None] | None = None
    no_context: bool = False
    configs: list[Any] = field(default_factory=list)
    measured: int = 0


class Dims:
    """A sequence and nothing more."""

    def __init__(self, sizes: list[int]) -> None:
        self._sizes = sizes

    def __len__(self) -> int:
        return len(self._sizes)

    def __getitem__(self, index: int) -> int:
        return self._sizes[index]


def dims_of(value: onnx.ValueInfoProto) -> Dims:
    return Dims([d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim])


def make_tensorrt(table: Table, version: str, machine: Any, workshop: Workshop) -> types.ModuleType:
    """The module of one version.

    Args:
        table: class → its members.
        version: such as "10.3".
        machine: the GPU, of the CUDA stand-in.
    """
    full_version = f"{version}.0.26"
    enums: dict[str, Any] = {
        name: enum.IntEnum(name, table[name], start=0)
        for name in ("BuilderFlag", "MemoryPoolType", "ProfilingVerbosity", "LayerInformationFormat", "TensorIOMode",
                     "NetworkDefinitionCreationFlag", "DataType")
    }  # fmt: skip

    def strict(kind: type) -> type:
        """Hold a class to the members that the table lists; those of a subclass written by others are its own."""
        allowed = set(table[kind.__name__])
        extra = {name for name in vars(kind) if not name.startswith("_")} - allowed
        assert not extra, f"TensorRT {version}: {kind.__name__} has no {extra}"

        def get(self: Any, name: str) -> Any:
            if name in allowed:
                raise NotImplementedError(f"the stand-in lacks {kind.__name__}.{name}")
            raise AttributeError(f"TensorRT {version}: {kind.__name__} has no '{name}'")

        def put(self: Any, name: str, value: Any) -> None:
            if type(self) is kind and not name.startswith("_") and name not in allowed:
                raise AttributeError(f"TensorRT {version}: {kind.__name__} has no '{name}'")
            object.__setattr__(self, name, value)

        kind.__getattr__, kind.__setattr__ = get, put  # type: ignore[attr-defined, method-assign, assignment]
        return kind

    def starting(logger: Any) -> Any:
        if not getattr(logger, "_ready", False):
            raise TypeError("__init__() must be called when overriding __init__")
        if not workshop.has_driver:
            logger.log(ILogger.Severity.ERROR, "CUDA initialization failure with error: 35")  # type: ignore[attr-defined]
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return logger

    class ILogger:
        Severity = enum.IntEnum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"], start=0)

        def __init__(self) -> None:
            self._ready = True

    class IProgressMonitor:
        def __init__(self) -> None:
            self._ready = True

    class IProfiler:
        def __init__(self) -> None:
            self._ready = True

    class IHostMemory:
        def __init__(self, data: bytes) -> None:
            self._data = data
            self.nbytes = len(data)

        def __bytes__(self) -> bytes:
            return self._data

    class ITensor:
        def __init__(self, value: onnx.ValueInfoProto) -> None:
            self.name, self.shape = value.name, dims_of(value)

    class INetworkDefinition:
        def __init__(self) -> None:
            self._model = onnx.ModelProto()
            self._bytes = b""

        @property
        def num_inputs(self) -> int:
            return len(self._model.graph.input)

        def get_input(self, index: int) -> Any:
            return ITensor(self._model.graph.input[index])

    class IOptimizationProfile:
        def __init__(self) -> None:
            self._shapes: dict[str, Any] = {}

        def set_shape(self, name: str, low: Any, best: Any, high: Any) -> None:
            self._shapes[name] = (tuple(low), tuple(best), tuple(high))

    class ITimingCache:
        def __init__(self, data: bytes) -> None:
            content = json.loads(data) if data else {"version": full_version, "timed": []}
            self._version, self._timed = content["version"], set(content["timed"])

        def serialize(self) -> IHostMemory:
            return IHostMemory(json.dumps({"version": self._version, "timed": sorted(self._timed)}).encode())

        def combine(self, other: ITimingCache, ignore_mismatch: bool) -> bool:
            if other._version != self._version:
                return False
            self._timed |= other._timed
            return True

    class IBuilderConfig:
        def __init__(self) -> None:
            self._pools: dict[Any, int] = {}
            self._cleared: list[Any] = []
            self._cache: Any = None
            self._profiles: list[Any] = []
            self.builder_optimization_level = 3
            self.profiling_verbosity = enums["ProfilingVerbosity"].LAYER_NAMES_ONLY
            self.progress_monitor = None

        def clear_flag(self, flag: Any) -> None:
            self._cleared.append(enums["BuilderFlag"](flag))

        def set_memory_pool_limit(self, pool: Any, size: int) -> None:
            self._pools[enums["MemoryPoolType"](pool).name] = size

        def create_timing_cache(self, data: bytes) -> Any:
            return ITimingCache(data) if data[:1] in (b"", b"{") else None

        def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
            if cache._version != full_version and not ignore_mismatch:
                return False
            self._cache = cache
            return True

        def get_timing_cache(self) -> Any:
            return self._cache

        def add_optimization_profile(self, profile: Any) -> int:
            self._profiles.append(profile._shapes)
            return len(self._profiles) - 1

    class Builder:
        def __init__(self, logger: Any) -> None:
            self._logger = starting(logger)

        def create_network(self, flags: int) -> Any:
            kinds = enums["NetworkDefinitionCreationFlag"]
            assert flags == 1 << kinds.STRONGLY_TYPED, "the network is not strongly typed"
            return INetworkDefinition()

        def create_builder_config(self) -> Any:
            return IBuilderConfig()

        def create_optimization_profile(self) -> Any:
            return IOptimizationProfile()

        def build_serialized_network(self, network: Any, config: Any) -> Any:
            workshop.configs.append(config)
            error = self._logger.log
            inputs = [network.get_input(index) for index in range(network.num_inputs)]
            if any(size < 0 for tensor in inputs for size in tensor.shape) and not config._profiles:
                error(ILogger.Severity.ERROR, "Network has dynamic inputs, but no optimization profile")  # type: ignore[attr-defined]
                return None
            for name, parent, steps in PHASES:
                config.progress_monitor.phase_start(name, parent, steps)
                for step in range(steps if parent else 0):
                    if workshop.during_build:
                        workshop.during_build()
                    if not config.progress_monitor.step_complete(name, step):
                        error(ILogger.Severity.ERROR, "Build was cancelled")  # type: ignore[attr-defined]
                        return None
                    self._time(config, network, step if name == "Timing" else None)
                if parent:
                    config.progress_monitor.phase_finish(name)
            config.progress_monitor.phase_finish("Building Engine")
            for message in workshop.build_errors:
                error(ILogger.Severity.ERROR, message)  # type: ignore[attr-defined]
            if workshop.build_errors:
                return None
            header = {"version": full_version, "detailed": config.profiling_verbosity.name == "DETAILED"}
            return IHostMemory(json.dumps(header).encode() + b"\n" + network._bytes)

        def _time(self, config: Any, network: Any, kernel: int | None) -> None:
            if kernel is None:
                return
            name = f"{hashlib.sha256(network._bytes).hexdigest()[:8]}.{kernel}"
            cache = config._cache
            if cache is None or name not in cache._timed:
                workshop.measured += 1
            if cache is not None:
                cache._timed.add(name)

    class ParserError:
        def __init__(self, node: onnx.NodeProto) -> None:
            self._node = node

        def node_operator(self) -> str:
            return self._node.op_type

        def node_name(self) -> str:
            return self._node.name

        def desc(self) -> str:
            return "Plugin not found, are the plugin name, version, and namespace correct?"

    class OnnxParser:
        def __init__(self, network: Any, logger: Any) -> None:
            self._network, self._errors = network, []

        def parse_from_file(self, path: str) -> bool:
            model = onnx.load(path)
            self._network._model, self._network._bytes = model, model.SerializeToString()
            self._errors = [ParserError(node) for node in model.graph.node if not onnx.defs.has(node.op_type)]
            return not self._errors

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def get_error(self, index: int) -> Any:
            return self._errors[index]

    class EngineInspector:
        def __init__(self, engine: Any) -> None:
            self._engine = engine

        def get_engine_information(self, form: Any) -> str:
            assert form.name == "JSON"
            names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
            nodes = self._engine._model.graph.node
            detail = [
                {
                    "Name": node.name or node.output[0],
                    "LayerType": node.op_type,
                    "Outputs": [{"Format/Datatype": "Float"}],
                }
                for node in nodes
            ]
            layers = detail if self._engine._detailed else [layer["Name"] for layer in detail]
            return json.dumps({"Layers": layers, "I/O Tensors" if version.startswith("11") else "Bindings": names})

    class IExecutionContext:
        def __init__(self, engine: Any) -> None:
            self._engine, self._addresses, self._ran = engine, {}, False
            self.profiler: Any = None

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            return all(own in (-1, size) for own, size in zip(self._engine.get_tensor_shape(name), shape, strict=True))

        def set_tensor_address(self, name: str, address: int) -> bool:
            self._addresses[name] = address
            return machine.reaches(address)

        def execute_async_v3(self, stream_handle: int) -> bool:
            names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
            assert sorted(self._addresses) == sorted(names), "a tensor without an address"
            capturing = machine.streams[stream_handle].captured is not None
            if capturing and not self._ran:
                return False
            self._ran = True
            if self.profiler is not None:
                for node in self._engine._model.graph.node:
                    self.profiler.report_layer_time(node.name or node.output[0], 0.5)
            return machine.put(stream_handle, self._compute)

        def _compute(self) -> None:
            graph, session = self._engine._model.graph, self._engine._session
            feed = {value.name: self._array(value) for value in graph.input}
            for value, result in zip(graph.output, session.run(None, feed), strict=True):
                self._array(value)[...] = result

        def _array(self, value: onnx.ValueInfoProto) -> np.ndarray:
            kind = TYPES[value.type.tensor_type.elem_type][1]
            shape = [1 if size < 0 else size for size in dims_of(value)]
            return machine.at(self._addresses[value.name]).view(kind).reshape(shape)

    class ICudaEngine:
        def __init__(self, header: dict[str, Any], data: bytes) -> None:
            import onnxruntime

            self._detailed = header["detailed"]
            self._model = onnx.load_model_from_string(data)
            self._session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
            self._values = [*self._model.graph.input, *self._model.graph.output]
            self.device_memory_size_v2 = 12_345_678

        @property
        def num_io_tensors(self) -> int:
            return len(self._values)

        def get_tensor_name(self, index: int) -> str:
            return self._values[index].name

        def get_tensor_mode(self, name: str) -> Any:
            modes = enums["TensorIOMode"]
            return modes.INPUT if name in [value.name for value in self._model.graph.input] else modes.OUTPUT

        def get_tensor_shape(self, name: str) -> Any:
            return dims_of(next(value for value in self._values if value.name == name))

        def get_tensor_dtype(self, name: str) -> Any:
            value = next(value for value in self._values if value.name == name)
            return enums["DataType"][TYPES[value.type.tensor_type.elem_type][0]]

        def create_execution_context(self) -> Any:
            return None if workshop.no_context else IExecutionContext(self)

        def create_engine_inspector(self) -> Any:
            return EngineInspector(self)

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self._logger = starting(logger)

        def deserialize_cuda_engine(self, data: bytes) -> Any:
            line, _, graph = data.partition(b"\n")
            header = json.loads(line)
            if header["version"] != full_version:
                self._logger.log(ILogger.Severity.ERROR, "Serialization assertion stdVersionRead == kVERSION failed")  # type: ignore[attr-defined]
                return None
            return ICudaEngine(header, graph)

    if "ComputeCapability" in table:  # TensorRT-RTX, which builds for GPUs that are elsewhere
        enums["ComputeCapability"] = enum.IntEnum("ComputeCapability", table["ComputeCapability"])
        IBuilderConfig.num_compute_capabilities = 0  # type: ignore[attr-defined]
        IBuilderConfig.set_compute_capability = lambda self, capability, index: None  # type: ignore[attr-defined]
    classes = (
        ILogger, IProgressMonitor, IProfiler, IHostMemory, ITensor, INetworkDefinition, IOptimizationProfile,
        ITimingCache, IBuilderConfig, Builder, ParserError, OnnxParser, EngineInspector, IExecutionContext, ICudaEngine,
        Runtime,
    )  # fmt: skip
    known = {**enums, **{kind.__name__: strict(kind) for kind in classes}}

    class Module(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name in known:
                return known[name]
            if name in table:
                raise NotImplementedError(f"the stand-in lacks {name}")
            raise AttributeError(f"TensorRT {version} has no '{name}'")

    module = Module("tensorrt")
    module.__version__ = full_version  # type: ignore[attr-defined]
    module.__spec__ = ModuleSpec("tensorrt", None)
    return module
