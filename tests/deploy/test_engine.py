"""deploy.engine: real builds with TensorRT-RTX, and only calls that every supported TensorRT has."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from deploy import engine
from deploy.config import BuildConfig
from deploy.engine import build, build_engine
from deploy.onnx_stereo import read_stereo_graph
from stereo.artifacts import sha256_file
from stereo.cli import main
from stereo.errors import UserError


@pytest.fixture
def rtx() -> None:
    """Skips without the TensorRT-RTX wheels."""
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed (extra rtx)")


@pytest.mark.usefixtures("rtx")
def test_engine_and_manifest(tmp_path: Path, network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "toy.engine"
    words = ["build", str(network), "--runtime", "tensorrt_rtx", "--compute-capability", "8.9", "--out", str(out)]
    assert main(words) == 0
    assert capsys.readouterr().out == f"{out}\n"
    manifest = json.loads((tmp_path / "toy.manifest.json").read_text())
    assert manifest["sha256"] == sha256_file(out)
    assert manifest["size_bytes"] == out.stat().st_size > 1000
    assert manifest["made_from"]["onnx"] == sha256_file(network)
    assert (manifest["compute_capability"], manifest["precision"], manifest["tf32"]) == ("8.9", "fp32", False)
    assert (manifest["height"], manifest["width"]) == (64, 96)


@pytest.mark.usefixtures("rtx")
def test_unknown_target_lists_the_known(tmp_path: Path, network: Path) -> None:
    config = BuildConfig(str(network), runtime="tensorrt_rtx", out=str(tmp_path / "e.engine"), compute_capability="8.7")
    with pytest.raises(UserError, match=r"no target 8\.7 in this builder \(it has .*8\.6"):
        build(config)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("rtx")
def test_graph_the_parser_refuses(tmp_path: Path, network: Path) -> None:
    model = onnx.load(network)
    next(node for node in model.graph.node if node.op_type == "Softmax").op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "odd.onnx")
    config = BuildConfig(str(tmp_path / "odd.onnx"), runtime="tensorrt_rtx", out=str(tmp_path / "e.engine"))
    with pytest.raises(UserError, match="TensorRT cannot parse it: NoSuchOperator"):
        build(config)
    assert not (tmp_path / "e.engine").exists()


def test_open_size_is_refused(tmp_path: Path, make_network: Callable[..., Path]) -> None:
    path = make_network(tmp_path / "open.onnx", size=None)
    with pytest.raises(UserError, match="leaves its image size open"):
        build(BuildConfig(str(path), runtime="tensorrt_rtx", out=str(tmp_path / "e.engine")))


def test_target_is_refused_where_the_gpu_decides(tmp_path: Path, network: Path) -> None:
    config = BuildConfig(str(network), runtime="tensorrt", out=str(tmp_path / "e.engine"), compute_capability="8.7")
    with pytest.raises(UserError, match="tensorrt builds for the GPU it runs on"):
        build(config)


def test_missing_builder_says_what_to_install(tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = engine.Builder("tensorrt_that_is_not_there", "apt install it", ahead_of_time=False)
    monkeypatch.setitem(engine.BUILDERS, "tensorrt", missing)
    with pytest.raises(UserError, match=r"cannot import tensorrt_that_is_not_there.*apt install it"):
        build(BuildConfig(str(network), runtime="tensorrt", out=str(tmp_path / "e.engine")))


class FakeTensorRT:
    """Refuses as TensorRT does: without a driver its bindings raise TypeError, a failed build returns None."""

    class ILogger:
        class Severity:
            INTERNAL_ERROR, ERROR, WARNING = range(3)

    class NetworkDefinitionCreationFlag:
        STRONGLY_TYPED = 4

    class BuilderFlag:
        TF32 = "tf32"

    def __init__(self, *, has_driver: bool) -> None:
        self.has_driver = has_driver
        self.flags: list[object] = []

    def Builder(self, logger: object) -> FakeTensorRT:
        self.logger = logger
        if not self.has_driver:
            logger.log(self.ILogger.Severity.ERROR, "CUDA initialization failure with error: 35")  # type: ignore[attr-defined]
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return self

    def create_network(self, flags: int) -> int:
        self.flags.append(flags)
        return flags

    def OnnxParser(self, network: object, logger: object) -> FakeTensorRT:
        return self

    def parse_from_file(self, path: str) -> bool:
        return True

    def create_builder_config(self) -> FakeTensorRT:
        return self

    def clear_flag(self, flag: object) -> None:
        self.flags.append(flag)

    def build_serialized_network(self, network: object, config: object) -> None:
        self.logger.log(self.ILogger.Severity.WARNING, "slow")  # type: ignore[attr-defined]
        self.logger.log(self.ILogger.Severity.ERROR, "no implementation for node Softmax")  # type: ignore[attr-defined]


def test_without_a_driver_the_reason_is_told(network: Path) -> None:
    with pytest.raises(UserError, match=r"cannot start: CUDA initialization failure.*NVIDIA driver"):
        build_engine(
            FakeTensorRT(has_driver=False), read_stereo_graph(network), compute_capability=None, workspace_mb=0
        )


def test_a_failed_build_tells_the_last_error_and_is_strongly_typed(network: Path) -> None:
    trt = FakeTensorRT(has_driver=True)
    with pytest.raises(UserError, match="cannot build it: no implementation for node Softmax"):
        build_engine(trt, read_stereo_graph(network), compute_capability=None, workspace_mb=0)
    assert trt.flags == [1 << 4, "tf32"]


def attributes_used() -> set[str]:
    """Every attribute name in the source of deploy.engine."""
    tree = ast.parse(Path(engine.__file__).read_text(encoding="utf-8"))
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


CALLS = {
    "Builder": {"create_network", "create_builder_config", "build_serialized_network"},
    "NetworkDefinitionCreationFlag": {"STRONGLY_TYPED"},
    "OnnxParser": {"parse_from_file", "get_error"},
    "ParserError": {"node_operator", "node_name", "desc"},
    "IBuilderConfig": {"clear_flag", "set_memory_pool_limit"},
    "BuilderFlag": {"TF32"},
    "MemoryPoolType": {"WORKSPACE"},
    "ILogger": {"Severity"},
}


@pytest.mark.parametrize("version", ["10.3", "10.7", "10.16", "11.4"])
def test_every_tensorrt_call_exists_in_every_supported_version(shared_data: Path, version: str) -> None:
    table = shared_data.parent / "reference" / "tensorrt_api" / f"tensorrt-{version}.json"
    if not table.exists():
        pytest.skip(f"no API table of TensorRT {version}")
    api = json.loads(table.read_text())
    for kind, members in CALLS.items():
        assert members <= attributes_used(), f"the list above names calls of {kind} that deploy.engine does not make"
        assert members <= set(api[kind]), f"TensorRT {version} lacks a member of {kind}"
