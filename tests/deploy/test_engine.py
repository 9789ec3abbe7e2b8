"""deploy.engine: real builds with TensorRT-RTX, and with stand-ins that hold it to every supported TensorRT."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from deploy.config import BuildConfig
from deploy.engine import build
from deploy.engines import flavours
from deploy.engines.layers import read_layers
from stereo.artifacts import sha256_file
from stereo.cli import main
from stereo.errors import UserError

VERSIONS = ("10.3", "10.7", "10.16", "11.4")


@pytest.fixture
def rtx() -> None:
    """Skips without the TensorRT-RTX wheels."""
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed (extra rtx)")


@pytest.mark.usefixtures("rtx")
def test_engine_and_manifest(tmp_path: Path, network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "toy.engine"
    words = ["build", str(network), "--runtime", "tensorrt_rtx", "--compute-capability", "8.9", "--out", str(out)]
    assert main([*words, "--workspace-mb", "512", "--memory-limit-mb", "2000", "--optimization-level", "2"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{out}\n"
    assert "100/100 %" in captured.err
    assert "so far" in captured.err
    manifest = json.loads((tmp_path / "toy.manifest.json").read_text())
    assert manifest["sha256"] == sha256_file(out)
    assert manifest["size_bytes"] == out.stat().st_size > 1000
    assert manifest["made_from"]["onnx"] == sha256_file(network)
    assert (manifest["compute_capability"], manifest["precision"], manifest["tf32"]) == ("8.9", "fp32", False)
    assert (manifest["height"], manifest["width"]) == (64, 96)
    assert (manifest["device"], manifest["layers"]) == (None, None), "nobody has opened it on a GPU"
    assert not (tmp_path / "toy.layers.json").exists()


@pytest.mark.usefixtures("rtx")
def test_unknown_target_lists_the_known(tmp_path: Path, network: Path) -> None:
    config = BuildConfig(str(network), runtime="tensorrt_rtx", out=str(tmp_path / "e.engine"), compute_capability="8.7")
    with pytest.raises(UserError, match=r"no target 8\.7 in this builder \(it has .*8\.6"):
        build(config)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("rtx")
def test_graph_the_parser_refuses(tmp_path: Path, network: Path) -> None:
    """Named with the node and the module it came from; every one of them, up to three."""
    model = onnx.load(network)
    chosen = [node for node in model.graph.node if node.op_type in ("Softmax", "Abs")][:5]
    for index, node in enumerate(chosen):
        node.op_type, node.name = "NoSuchOperator", f"volume.attention.{index}/NoSuchOperator"
    onnx.save(model, tmp_path / "odd.onnx")
    config = BuildConfig(str(tmp_path / "odd.onnx"), runtime="tensorrt_rtx", out=str(tmp_path / "e.engine"))
    told = r"operator NoSuchOperator at node 'volume\.attention\.0/NoSuchOperator' of module volume\.attention\.0"
    with pytest.raises(UserError, match=f"TensorRT cannot parse it: {told}"):
        build(config)
    assert not (tmp_path / "e.engine").exists()


def test_open_size_is_refused(tmp_path: Path, make_network: Callable[..., Path]) -> None:
    path = make_network(tmp_path / "open.onnx", size=None)
    with pytest.raises(UserError, match="leaves its image size open"):
        build(BuildConfig(str(path), runtime="tensorrt_rtx", out=str(tmp_path / "e.engine")))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"runtime": "tensorrt", "compute_capability": "8.7"}, "tensorrt builds for the GPU it runs on"),
        ({"timing_cache": "t.cache"}, "tensorrt_rtx measures nothing, so it has no timing cache"),
        ({"optimization_level": 6}, "6 is no optimisation level"),
        ({"memory_limit_mb": -1}, "--memory-limit-mb: -1 MB"),
        ({"out": "nano.plan"}, "does not end in .engine"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, network: Path, options: dict[str, Any], told: str) -> None:
    given = {"runtime": "tensorrt_rtx", "out": str(tmp_path / "e.engine"), **options}
    with pytest.raises(UserError, match=told):
        build(BuildConfig(str(network), **given))
    assert not list(tmp_path.iterdir())


def test_missing_builder_says_what_to_install(tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = flavours.Flavour("tensorrt_not_there", "apt install it", "", False, (10, 3), (11, 4))
    monkeypatch.setitem(flavours.FLAVOURS, "tensorrt", missing)
    with pytest.raises(UserError, match=r"cannot import tensorrt_not_there.*apt install it"):
        build(BuildConfig(str(network), runtime="tensorrt", out=str(tmp_path / "e.engine")))


@pytest.mark.parametrize("version", VERSIONS)
def test_build_on_a_board_with_every_version(
    tmp_path: Path, network: Path, make_gpu: Callable[..., Any], version: str
) -> None:
    pytest.importorskip("onnxruntime")
    board = make_gpu(version, "12.6" if version.startswith("10.3") else "13.2")
    out = tmp_path / "toy.engine"
    build(BuildConfig(str(network), runtime="tensorrt", out=str(out), timing_cache=str(tmp_path / "t.cache")))
    manifest = json.loads((tmp_path / "toy.manifest.json").read_text())
    assert manifest["runtime_version"].startswith(version + ".")
    assert (manifest["compute_capability"], manifest["device"]) == (
        "8.7", "Jetson Orin NX 16GB",
    )  # fmt: skip
    (config,) = board.workshop.configs
    assert [flag.name for flag in config._cleared] == ["TF32"]
    assert manifest["memory_limit_mb"] == 3072, "60 % of the 5.12 GB that are free"
    assert config._pools == {"TACTIC_DRAM": 3_072_000_000, "WORKSPACE": 3_072_000_000}
    layers = read_layers(tmp_path / "toy.layers.json")
    assert layers.io_tensors == ("left", "right", "disparity")
    assert manifest["layers"] == {"Float": len(layers.layers)}
    assert board.workshop.measured == 10
    build(BuildConfig(str(network), runtime="tensorrt", out=str(out), timing_cache=str(tmp_path / "t.cache")))
    assert board.workshop.measured == 10, "the second build found all in the timing cache"


def test_a_gpu_of_its_own_memory_has_no_limit_but_the_given(
    tmp_path: Path, network: Path, make_gpu: Callable[..., Any]
) -> None:
    pytest.importorskip("onnxruntime")
    board = make_gpu("10.16", "13.5", integrated=False)
    build(BuildConfig(str(network), runtime="tensorrt", out=str(tmp_path / "e.engine")))
    build(BuildConfig(str(network), runtime="tensorrt", out=str(tmp_path / "e.engine"), workspace_mb=900,
                      memory_limit_mb=700, optimization_level=1))  # fmt: skip
    free, limited = board.workshop.configs
    assert (free._pools, free.builder_optimization_level) == ({}, 3)
    assert limited._pools == {"TACTIC_DRAM": 700_000_000, "WORKSPACE": 700_000_000}
    assert limited.builder_optimization_level == 1
    assert json.loads((tmp_path / "e.manifest.json").read_text())["device"] == "NVIDIA RTX A6000"


def test_without_a_driver_the_reason_is_told(tmp_path: Path, network: Path, make_gpu: Callable[..., Any]) -> None:
    config = BuildConfig(str(network), runtime="tensorrt", out=str(tmp_path / "e.engine"))
    make_gpu().workshop.has_driver = False
    with pytest.raises(UserError, match=r"cannot start: CUDA initialization failure.*NVIDIA driver"):
        build(config)
    make_gpu(cuda="13.2", failing={"cudaGetDeviceProperties": "cudaErrorInsufficientDriver"})
    with pytest.raises(UserError, match=r"CUDA cannot start: cudaErrorInsufficientDriver.*NVIDIA driver"):
        build(config)


def test_a_failed_build_leaves_nothing(tmp_path: Path, network: Path, make_gpu: Callable[..., Any]) -> None:
    board = make_gpu()
    board.workshop.build_errors = ["first", "no implementation for node Softmax"]
    with pytest.raises(UserError, match="cannot build it: no implementation for node Softmax"):
        build(BuildConfig(str(network), runtime="tensorrt", out=str(tmp_path / "out" / "e.engine")))
    assert not (tmp_path / "out").exists()


def test_an_old_manifest_never_describes_a_new_engine(
    tmp_path: Path, network: Path, make_gpu: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills between engine and manifest leaves an engine that nobody will load."""
    pytest.importorskip("onnxruntime")
    make_gpu()
    config = BuildConfig(str(network), runtime="tensorrt", out=str(tmp_path / "e.engine"))
    build(config)

    def full(*_: object) -> None:
        raise UserError("no space left on the disk")

    monkeypatch.setattr("deploy.engine.write_json", full)
    with pytest.raises(UserError, match="no space left"):
        build(config)
    assert not (tmp_path / "e.manifest.json").exists()
    assert not (tmp_path / "e.layers.json").exists()
