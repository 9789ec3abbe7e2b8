"""deploy.engines.manifest: an engine from elsewhere is refused, with the reason."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from deploy.engines.manifest import EngineManifest, Here, check_loadable, read_engine_manifest
from stereo.artifacts import sha256_bytes
from stereo.errors import UserError

DATA = b"an engine"
CONTENT: dict[str, Any] = {
    "kind": "engine", "runtime": "tensorrt", "runtime_version": "10.3.0.26", "compute_capability": "8.7",
    "device": "Jetson Orin NX", "precision": "int8", "height": 480, "width": 640, "metadata": {"a": "b"},
    "sha256": sha256_bytes(DATA), "more": [1],
}  # fmt: skip
HERE = Here("tensorrt", "10.3.0.26", "8.7", "Jetson Orin NX")


def write(folder: Path, name: str = "nano", **changes: Any) -> Path:
    engine = folder / f"{name}.engine"
    engine.write_bytes(DATA)
    content = {key: value for key, value in {**CONTENT, **changes}.items() if value != "gone"}
    engine.with_suffix(".manifest.json").write_text(json.dumps(content))
    return engine


def test_what_is_read(tmp_path: Path) -> None:
    engine = write(tmp_path)
    manifest = read_engine_manifest(engine)
    assert manifest == EngineManifest(
        "tensorrt", "10.3.0.26", "8.7", "Jetson Orin NX", "int8", (480, 640), {"a": "b"}, sha256_bytes(DATA)
    )
    check_loadable(engine, manifest, HERE)


@pytest.mark.parametrize(
    ("here", "told"),
    [
        ({"runtime": "tensorrt_rtx"}, "was built for tensorrt, not tensorrt_rtx (--runtime tensorrt)"),
        ({"runtime_version": "10.16.2"}, "was built by tensorrt 10.3.0.26, and here is 10.16.2"),
        ({"compute_capability": "8.6"}, "was built for compute capability 8.7, and this GPU has 8.6"),
        ({"device": "Jetson Orin Nano"}, "was built on another board: Jetson Orin NX; this is Jetson Orin Nano"),
    ],
)
def test_another_place_is_refused_with_what_to_do(tmp_path: Path, here: dict[str, str], told: str) -> None:
    engine = write(tmp_path)
    with pytest.raises(UserError) as caught:
        check_loadable(engine, read_engine_manifest(engine), dataclasses.replace(HERE, **here))
    assert told in str(caught.value)
    again = "stereodistill build FILE.onnx --runtime tensorrt --out nano.engine"
    assert ("runtime" in here) or again in str(caught.value)


def test_another_precision_and_another_file_are_refused(tmp_path: Path) -> None:
    engine = write(tmp_path, "fp16")
    with pytest.raises(UserError, match="is called fp16, and was built from a graph in int8"):
        check_loadable(engine, read_engine_manifest(engine), HERE)
    engine = write(tmp_path, "int8")
    check_loadable(engine, read_engine_manifest(engine), HERE)
    engine.write_bytes(DATA + b"!")
    with pytest.raises(UserError, match="damaged, or not the engine that its manifest speaks of"):
        check_loadable(engine, read_engine_manifest(engine), HERE)


def test_built_ahead_of_time_it_runs_on_any_board_of_its_capability(tmp_path: Path) -> None:
    engine = write(tmp_path, runtime="tensorrt_rtx", device=None, compute_capability="8.6")
    here = Here("tensorrt_rtx", "10.3.0.26", "8.6", "NVIDIA RTX A6000")
    check_loadable(engine, read_engine_manifest(engine), here)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "quantised student"}, "is not the manifest of an engine"),
        ({"sha256": "gone"}, "'sha256' is missing"),
        ({"height": "480"}, "'height' is missing or not what it should be"),
        ({"metadata": {"a": 1}}, "'metadata' is missing"),
        ({"runtime": "openvino"}, "'runtime' is missing"),
        ({"device": 7}, "'device' is missing"),
    ],
)
def test_altered_manifest(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_engine_manifest(write(tmp_path, **changes))


def test_engine_without_manifest(tmp_path: Path) -> None:
    engine = write(tmp_path)
    engine.with_suffix(".manifest.json").unlink()
    with pytest.raises(UserError, match=r"has no manifest beside it.*bring nano\.manifest\.json"):
        read_engine_manifest(engine)
