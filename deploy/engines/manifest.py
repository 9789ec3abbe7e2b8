"""What an engine says of itself, and the refusal to load it where it was not built for.

An engine holds kernels chosen on one GPU by one TensorRT. On another it may fail, or, which is worse, run slowly or
wrongly without a word; so everything is compared before the file is handed to TensorRT.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.cuda import Gpu
from deploy.engines.flavours import FLAVOURS
from deploy.jetson import find_jetson
from stereo.artifacts import read_json, sha256_file
from stereo.errors import UserError

KIND = "engine"
PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class EngineManifest:
    """NAME.manifest.json beside NAME.engine, as far as loading needs it.

    Args:
        runtime: "tensorrt" or "tensorrt_rtx".
        runtime_version: of the TensorRT that built it.
        compute_capability: of the GPU it is for, such as "8.7".
        device: board or GPU it was built on; None when it was built ahead of time.
        precision: of the graph it was built from.
        size: (H, W) in pixels.
        metadata: `metadata_props` of the graph.
        sha256: of the engine file.
    """

    runtime: str
    runtime_version: str
    compute_capability: str
    device: str | None
    precision: str
    size: tuple[int, int]
    metadata: dict[str, str]
    sha256: str


@dataclass(frozen=True)
class Here:
    """What an engine is compared with: the TensorRT, GPU and board of this machine."""

    runtime: str
    runtime_version: str
    compute_capability: str
    device: str


def device_here(gpu: Gpu) -> str:
    """The module of a Jetson, such as "Jetson Orin NX 16GB"; elsewhere the GPU."""
    board = find_jetson()
    return (board.module or board.name or gpu.name) if board else gpu.name


def manifest_path(engine: Path) -> Path:
    """The manifest beside an engine."""
    return engine.with_suffix(".manifest.json")


def read_engine_manifest(engine: Path) -> EngineManifest:
    """Read and check the manifest beside an engine.

    Raises:
        UserError: it is missing, of something else, or lacks a field.
    """
    path = manifest_path(engine)
    if not path.is_file():
        raise UserError("has no manifest beside it, so nobody can tell what it was built for", where=engine,
                        fix=f"bring {path.name} too, or build it again with stereodistill build")  # fmt: skip
    content: Any = read_json(path, what="manifest")
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise UserError("is not the manifest of an engine", where=path, fix="build the engine again")
    texts = ("runtime", "runtime_version", "compute_capability", "precision", "sha256")
    device: Any = content.get("device")
    metadata: Any = content.get("metadata")
    wrong = [name for name in texts if not isinstance(content.get(name), str)]
    wrong += [name for name in ("height", "width") if type(content.get(name)) is not int]
    if not (isinstance(metadata, dict) and all(isinstance(text, str) for text in metadata.values())):
        wrong.append("metadata")
    if not (device is None or isinstance(device, str)):
        wrong.append("device")
    if content.get("runtime") not in FLAVOURS and "runtime" not in wrong:
        wrong.append("runtime")
    if wrong:
        raise UserError(f"'{wrong[0]}' is missing or not what it should be", where=path, fix="build the engine again")
    return EngineManifest(
        device=device, size=(content["height"], content["width"]), metadata=metadata,
        **{name: content[name] for name in texts},
    )  # fmt: skip


def check_loadable(engine: Path, manifest: EngineManifest, here: Here) -> None:
    """Refuse an engine that was not built for this place, or that is not the one its manifest speaks of.

    Raises:
        UserError: with the reason.
    """
    fix = f"build it here: stereodistill build FILE.onnx --runtime {here.runtime} --out {engine.name}"
    if manifest.runtime != here.runtime:
        raise UserError(f"was built for {manifest.runtime}, not {here.runtime}", where=engine,
                        fix=f"--runtime {manifest.runtime}")  # fmt: skip
    if manifest.runtime_version != here.runtime_version:
        raise UserError(f"was built by {manifest.runtime} {manifest.runtime_version}, and here is "
                        f"{here.runtime_version}: engines run only on the version that built them",
                        where=engine, fix=fix)  # fmt: skip
    if manifest.compute_capability != here.compute_capability:
        raise UserError(f"was built for compute capability {manifest.compute_capability}, and this GPU has "
                        f"{here.compute_capability}", where=engine, fix=fix)  # fmt: skip
    if manifest.device is not None and manifest.device != here.device:
        raise UserError(f"was built on another board: {manifest.device}; this is {here.device}", where=engine, fix=fix)
    check_precision(engine, manifest)
    if sha256_file(engine) != manifest.sha256:
        raise UserError("is damaged, or not the engine that its manifest speaks of: sha256 differs", where=engine,
                        fix="copy engine and manifest again, together, or build it again")  # fmt: skip


def check_precision(engine: Path, manifest: EngineManifest) -> None:
    """Refuse an engine that is called after a precision it does not have.

    Raises:
        UserError: it is.
    """
    if engine.stem in PRECISIONS and engine.stem != manifest.precision:
        raise UserError(f"is called {engine.stem}, and was built from a graph in {manifest.precision}", where=engine,
                        fix="rename both files, or build the engine from the graph it is named after")  # fmt: skip
