"""onnxruntime and OpenVINO behind one protocol: the same disparity, settings set and read back, nothing silent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from deploy.device import cpu_features
from deploy.results import read_results
from deploy.runners.openvino_runner import check_settings
from deploy.runners.protocol import Runner
from deploy.runners.registry import import_runtime, open_runner
from stereo.cli import main
from stereo.errors import UserError
from stereo.pair import StereoPair

RUNTIMES = ("onnxruntime", "openvino")


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    """Each ONNX runtime in turn."""
    pytest.importorskip(request.param)
    return request.param


def inputs_of(pair: StereoPair) -> tuple[np.ndarray, np.ndarray]:
    left, right = (image.transpose(2, 0, 1)[None].astype(np.float32) for image in (pair.left, pair.right))
    return left, right


def run(runner: Runner, pair: StereoPair) -> np.ndarray:
    return runner.run(*inputs_of(pair))[0, 0]


def test_disparity_is_right_where_the_left_pixel_is_seen_twice(
    runtime: str, network: Path, make_pair: Callable[..., StereoPair]
) -> None:
    pair = make_pair(5)
    runner = open_runner(network, runtime)
    disparity = run(runner, pair)
    runner.close()
    # The exact match costs 0 and its neighbours tens of gray levels at sharpness 2: the softmax is one-hot.
    assert pair.noc is not None
    assert np.abs(disparity - 5)[pair.noc].mean() < 0.01


def test_runner_tells_what_it_is(runtime: str, network: Path) -> None:
    runner = open_runner(network, runtime, threads=2)
    assert (runner.runtime, runner.precision_hint, runner.threads) == (runtime, "f32", 2)
    assert runner.input_size == (64, 96)
    assert runner.metadata["stereodistill.preset"] == "toy"
    assert runner.runtime_version[0].isdigit()
    assert "releases" not in runner.runtime_version


def test_both_runtimes_agree(network: Path, make_pair: Callable[..., StereoPair]) -> None:
    for name in RUNTIMES:
        pytest.importorskip(name)
    one, other = (run(open_runner(network, name), make_pair(7)) for name in RUNTIMES)
    np.testing.assert_allclose(one, other, atol=1e-3)


def test_output_survives_the_next_run(runtime: str, network: Path, make_pair: Callable[..., StereoPair]) -> None:
    runner = open_runner(network, runtime)
    first = run(runner, make_pair(3))
    copy = first.copy()
    run(runner, make_pair(9))
    np.testing.assert_array_equal(first, copy)


def test_network_of_any_size_is_compiled_for_the_size_given(
    runtime: str, tmp_path: Path, make_network: Callable[..., Path], make_pair: Callable[..., StereoPair]
) -> None:
    path = make_network(tmp_path / "open.onnx", size=None)
    runner = open_runner(path, runtime, size=(32, 64))
    assert runner.input_size == (32, 64)
    assert run(runner, make_pair(4, 32, 64)).shape == (32, 64)
    free = open_runner(path, runtime)
    assert free.input_size is None
    assert run(free, make_pair(4, 40, 72)).shape == (40, 72)


def test_wrong_size_is_refused(runtime: str, network: Path) -> None:
    with pytest.raises(UserError, match="exported for 64x96"):
        open_runner(network, runtime, size=(480, 640))


def test_a_graph_the_runtime_refuses_ends_in_one_line(runtime: str, tmp_path: Path, network: Path) -> None:
    model = onnx.load(network)
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(UserError, match="cannot load it") as caught:
        open_runner(tmp_path / "odd.onnx", runtime)
    assert "\n" not in str(caught.value)


def test_openvino_bf16_is_set_and_changes_the_arithmetic(network: Path, make_pair: Callable[..., StereoPair]) -> None:
    pytest.importorskip("openvino")
    if "avx512_bf16" not in cpu_features():
        pytest.skip("this processor has no BF16")
    plain = open_runner(network, "openvino")
    rounded = open_runner(network, "openvino", precision_hint="bf16")
    assert (plain.precision_hint, rounded.precision_hint) == ("f32", "bf16")
    noise = tuple(np.random.default_rng(0).uniform(100, 120, (2, 1, 3, 64, 96)).astype(np.float32))
    assert np.abs(plain.run(*noise) - rounded.run(*noise)).max() > 1e-4


class Compiled:
    """Answers as a compiled model whose settings did not take."""

    def __init__(self, answers: dict[str, object]) -> None:
        self.answers = answers

    def get_property(self, key: str) -> object:
        return self.answers[key]


def test_a_setting_that_did_not_take_is_refused() -> None:
    wanted: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    check_settings(Compiled(dict(wanted)), wanted, Path("m.onnx"))
    with pytest.raises(UserError, match="INFERENCE_PRECISION_HINT=f32 instead of bf16"):
        check_settings(Compiled({**wanted, "INFERENCE_PRECISION_HINT": "f32"}), wanted, Path("m.onnx"))
    with pytest.raises(UserError, match="INFERENCE_NUM_THREADS=8 instead of 1"):
        check_settings(Compiled({**wanted, "INFERENCE_NUM_THREADS": 8}), wanted, Path("m.onnx"))


def quantise_convolutions(source: Path, out: Path) -> Path:
    """Put Q/DQ before the first convolution's two inputs, as a quantiser would."""
    model = onnx.load(source)
    nodes = list(model.graph.node)
    index = next(i for i, node in enumerate(nodes) if node.op_type == "Conv")
    constants = {"scale": np.float32(1.0), "zero": np.uint8(0), "weight_scale": np.float32(1 / 127),
                 "weight_zero": np.int8(0)}  # fmt: skip
    model.graph.initializer.extend(numpy_helper.from_array(np.array(v), k) for k, v in constants.items())
    added = []
    for position, (scale, zero) in enumerate((("scale", "zero"), ("weight_scale", "weight_zero"))):
        name = nodes[index].input[position]
        added.append(helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}_q"]))
        added.append(helper.make_node("DequantizeLinear", [f"{name}_q", scale, zero], [f"{name}_dq"]))
        nodes[index].input[position] = f"{name}_dq"
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:index], *added, *nodes[index:]])
    onnx.save(model, out)
    return out


def quantise_output(path: Path, out: Path) -> Path:
    """The graph with the output of its quantised convolution rounded too."""
    model = onnx.load(path)
    nodes = list(model.graph.node)
    index, convolution = next((i, n) for i, n in enumerate(nodes) if n.op_type == "Conv" and n.input[1].endswith("_dq"))
    name, convolution.output[0] = convolution.output[0], f"{convolution.output[0]}_exact"
    pair = [
        helper.make_node("QuantizeLinear", [convolution.output[0], "scale", "zero"], [f"{name}_q"]),
        helper.make_node("DequantizeLinear", [f"{name}_q", "scale", "zero"], [name]),
    ]
    del model.graph.node[:]
    model.graph.node.extend([*nodes[: index + 1], *pair, *nodes[index + 1 :]])
    onnx.save(model, out)
    return out


def test_onnxruntime_tells_that_a_quantised_graph_runs_in_float(
    tmp_path: Path, network: Path, caplog: pytest.LogCaptureFixture
) -> None:
    count = "runtime.integer_kernels"
    assert count not in open_runner(network, "onnxruntime").metadata
    quantised = quantise_convolutions(network, tmp_path / "int8.onnx")
    assert open_runner(quantised, "onnxruntime").metadata[count] == "0 of 16 convolutions and matrix products"
    assert "in float" in caplog.text
    caplog.clear()
    integer = open_runner(quantise_output(quantised, tmp_path / "integer.onnx"), "onnxruntime")
    assert integer.metadata[count] == "1 of 16 convolutions and matrix products"
    assert not caplog.text


def test_openvino_counts_integer_kernels(tmp_path: Path, network: Path) -> None:
    pytest.importorskip("openvino")
    count = "runtime.integer_kernels"
    assert open_runner(network, "openvino").metadata[count] == "0 of 16 convolutions and matrix products"
    quantised = quantise_convolutions(network, tmp_path / "int8.onnx")
    assert open_runner(quantised, "openvino").metadata[count] == "1 of 16 convolutions and matrix products"


@pytest.mark.parametrize("able", [True, False])
def test_openvino_tells_where_int8_is_not_what_it_is_elsewhere(
    tmp_path: Path, network: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, able: bool
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr("deploy.runners.openvino_runner.has_byte_dot_products", lambda: able)
    open_runner(network, "openvino")
    assert "8-bit dot products" not in caplog.text, "a graph without integers"
    open_runner(quantise_convolutions(network, tmp_path / "int8.onnx"), "openvino")
    assert ("8-bit dot products" in caplog.text) is not able


def test_openvino_tells_of_a_quantised_graph_in_float(
    tmp_path: Path, network: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr("deploy.runners.openvino_runner.count_kernels", lambda compiled: (0, 16))
    assert open_runner(network, "openvino").problems == ()
    runner = open_runner(quantise_convolutions(network, tmp_path / "int8.onnx"), "openvino")
    assert "computes this quantised graph in float" in runner.problems[0]
    assert "computes this quantised graph in float" in caplog.text


@pytest.mark.parametrize(("runtime", "problem"), [("onnxruntime", "its times are not"), ("openvino", "can saturate")])
def test_rows_carry_what_a_runner_warns_of(
    tmp_path: Path, network: Path, pairs_folder: Path, monkeypatch: pytest.MonkeyPatch, runtime: str, problem: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    pytest.importorskip(runtime)
    monkeypatch.setattr("deploy.runners.openvino_runner.has_byte_dot_products", lambda: False)
    models = [str(network), str(quantise_convolutions(network, tmp_path / "int8.onnx"))]
    out = str(tmp_path / "results.json")
    same = ["--runtime", runtime, "--out", out]
    assert main(["profile", *models, "--runs", "2", "--warmup", "0", "--memory", "false", *same]) == 0
    caplog.clear()
    assert main(["evaluate", *models, "--data", str(pairs_folder), "--pictures", "false", *same]) == 0
    assert sum(problem in record.getMessage() for record in caplog.records) <= 1, "told when it is opened"
    rows = read_results(out)
    assert len(rows) >= 4
    for row in rows:
        of_runner = [told for told in row.problems if problem in told]
        assert len(of_runner) == str(row.model.path).endswith("int8.onnx"), (row.model, row.problems)


def test_onnxruntime_writes_no_device_id(tmp_path: Path, network: Path) -> None:
    """Its wheels for Linux do at import, below the home folder, unless told not to before."""
    program = f"from deploy.runners.registry import open_runner; open_runner({str(network)!r}, 'onnxruntime').close()"
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("ORT_", "XDG_"))}
    for words in (["-c", program], ["-m", "stereo.cli", "doctor"]):
        subprocess.run([sys.executable, *words], env={**clean, "HOME": str(tmp_path)}, capture_output=True, check=True)
    assert not list(tmp_path.rglob("*onnxruntime*"))


def test_openvino_sends_no_telemetry(tmp_path: Path, network: Path) -> None:
    """Its telemetry leaves a client id in ~/intel at every import; ours must not."""
    pytest.importorskip("openvino")
    program = (
        "import sys; from deploy.runners.registry import open_runner; "
        f"open_runner({str(network)!r}, 'openvino'); print('openvino_telemetry' in sys.modules)"
    )
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "False"
    assert not (tmp_path / "intel").exists()


def test_import_runtime_gives_the_package() -> None:
    pytest.importorskip("onnxruntime")
    assert import_runtime("onnxruntime").__name__ == "onnxruntime"
