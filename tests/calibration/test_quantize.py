"""The real thing on a tiny student: modelopt runs, and every runtime takes what comes out."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from calibration import quantize as room
from calibration.precision import KEEP_FLOAT, convolutions_kept_float, node_names, nodes_kept_fp32, quantised_nodes
from calibration.quantize import quantize_student
from calibration.variants import finish_graph
from deploy.device import has_byte_dot_products
from deploy.export import get_metadata
from deploy.models import shipped_students
from deploy.runners.registry import open_runner
from stereo.artifacts import sha256_file
from stereo.benchmarks import motorcycle_pair
from stereo.cli import main
from stereo.errors import UserError
from stereo.label_set import LabelSet
from stereo.label_set_writer import LabelSetWriter
from student.checkpoint import load_student

SIZE = (96, 160)
ROLES = ("fp32", "fp16", "int8")


@pytest.fixture(scope="module")
def variants(label_set, student_file, tmp_path_factory):
    """The output folder, made from an empty working folder that must stay empty."""
    folder = tmp_path_factory.mktemp("quantised")
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    before = Path.cwd()
    os.chdir(elsewhere)
    try:
        quantize_student(student_file, LabelSet.open(label_set), size=SIZE, out=folder / "out", frame_count=4)
    finally:
        os.chdir(before)
    assert list(elsewhere.iterdir()) == []
    return folder / "out"


@pytest.fixture(scope="module")
def graphs(variants):
    return {role: onnx.load(variants / f"{role}.onnx") for role in ROLES}


@pytest.fixture(scope="module")
def inputs():
    """A crop of a real pair."""
    pair = motorcycle_pair()
    return [
        np.ascontiguousarray(view[200 : 200 + SIZE[0], 300 : 300 + SIZE[1]].transpose(2, 0, 1)[None], np.float32)
        for view in (pair.left, pair.right)
    ]


def disparity(path, inputs, runtime="onnxruntime"):
    runner = open_runner(path, runtime, threads=1)
    try:
        return runner.run(*inputs)
    finally:
        runner.close()


def test_nothing_else_is_left_in_the_folder(variants):
    assert sorted(path.name for path in variants.iterdir()) == [
        "calibration.json", "fp16.onnx", "fp32.onnx", "int8.onnx", "manifest.json",
    ]  # fmt: skip


def test_manifest_says_from_what_and_how(variants, student_file, label_set):
    manifest = json.loads((variants / "manifest.json").read_text())
    assert manifest["made_from"]["student"] == sha256_file(student_file)
    assert manifest["made_from"]["label set journal"] == sha256_file(label_set / "journal.jsonl")
    for role in ROLES:
        told = manifest["variants"][role]
        assert told["sha256"] == sha256_file(variants / told["file"])
        assert told["bytes"] == (variants / told["file"]).stat().st_size
    frames = manifest["calibration"]["frames"]
    assert [frame["name"] for frame in frames] == LabelSet.open(label_set).names
    assert manifest["calibration"]["fits"] == {"as is": 0, "padded": 0, "scaled": 4}
    assert manifest["config"]["size"] == "96x160"


def test_manifest_names_every_convolution_once(variants, graphs):
    precision = json.loads((variants / "manifest.json").read_text())["precision"]
    kept = [name for rule in precision["kept_float"] for name in rule["nodes"]]
    told = [*precision["quantised"], *kept, *precision["left_by_modelopt"]]
    assert sorted(told) == sorted(node_names(graphs["fp32"], operators=["Conv"]))
    assert all(rule["why"] for rule in precision["kept_float"] + precision["kept_fp32"])
    assert [rule["name"] for rule in precision["kept_float"]] == [rule.name for rule in KEEP_FLOAT]


def test_graphs_say_what_they_are(graphs, student_file):
    for role, model in graphs.items():
        told = get_metadata(model)
        assert told == {
            "preset": "tiny", "max_disp": "64", "iterations": "2", "precision": role, "apc_form": "conv3d",
            "source_sha256": sha256_file(student_file), "height": "96", "width": "160",
        }  # fmt: skip
        names = node_names(model)
        assert len(set(names)) == len(names)
        assert {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)} == {
            TensorProto.FLOAT
        }


def test_fp32_equals_pytorch_on_a_real_pair(variants, student_file, inputs):
    with torch.no_grad():
        wanted = load_student(student_file)(*map(torch.from_numpy, inputs)).numpy()
    difference = np.abs(disparity(variants / "fp32.onnx", inputs) - wanted)
    assert wanted.std() > 0.5  # a constant map would agree too easily
    assert difference.mean() <= 1e-3
    assert difference.max() <= 1e-2


def test_fp16_and_int8_stay_near_fp32_on_a_real_pair(variants, inputs):
    wanted = disparity(variants / "fp32.onnx", inputs)
    # Half precision carries 11 bits; a student that was never trained amplifies rounding more than a trained one.
    assert np.abs(disparity(variants / "fp16.onnx", inputs) - wanted).mean() <= 0.05
    moved = np.abs(disparity(variants / "int8.onnx", inputs) - wanted)
    assert 0 < moved.mean() <= 0.5


def extreme_pairs():
    """Black, white, one of each, a checkerboard of single pixels, and noise that differs between the eyes."""
    random = np.random.default_rng(0)
    board = 255 * (np.indices(SIZE).sum(axis=0) % 2).astype(np.float32)
    noise = random.integers(0, 256, (2, 1, 3, *SIZE)).astype(np.float32)
    black, white = np.zeros((1, 3, *SIZE), np.float32), np.full((1, 3, *SIZE), 255, np.float32)
    return [(black, black), (white, white), (black, white), (board + black, board + black), tuple(noise)]


@pytest.mark.parametrize("role", ROLES)
def test_extreme_images_give_finite_disparities_in_range(variants, role):
    for pair in extreme_pairs():
        found = disparity(variants / f"{role}.onnx", pair)
        assert np.isfinite(found).all()
        assert found.min() >= 0
        assert found.max() < 2 * 64  # twice the range: refinement may leave it, garbage would leave it far behind


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(shipped_students()))
def test_a_shipped_student_stands_extreme_images_and_openvino_agrees(name, label_set, inputs, tmp_path):
    """Trained weights have ranges that fresh ones do not; and a runtime that computes something else moves them far."""
    quantize_student(name, LabelSet.open(label_set), size=SIZE, out=tmp_path, frame_count=4)
    for role in ROLES:
        for pair in extreme_pairs():
            found = disparity(tmp_path / f"{role}.onnx", pair)
            assert np.isfinite(found).all()
            assert 0 <= found.min() <= found.max() < 2 * 192
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    exact, wanted = (disparity(tmp_path / f"{role}.onnx", inputs) for role in ("fp32", "int8"))
    runner = open_runner(tmp_path / "int8.onnx", "openvino", threads=1, precision_hint="f32")
    difference = np.abs(runner.run(*inputs) - wanted).mean()
    if has_byte_dot_products():
        quantised = len(quantised_nodes(onnx.load(tmp_path / "int8.onnx")))
        assert runner.metadata["runtime.integer_kernels"].startswith(f"{quantised} of ")
    runner.close()
    assert difference < (1 if has_byte_dot_products() else 3) * np.abs(exact - wanted).mean()


def test_a_graph_in_which_nothing_became_integer_is_refused(variants, tmp_path):
    path = tmp_path / "int8.onnx"
    shutil.copy(variants / "fp32.onnx", path)
    metadata = {**get_metadata(onnx.load(path)), "precision": "int8"}
    with pytest.raises(UserError, match="int8 came out as fp32: no convolution could be converted"):
        finish_graph(path, metadata=metadata, size=SIZE)


def element_types(model):
    """Tensor → element type, inferred from the graph."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    values = (*graph.input, *graph.output, *graph.value_info)
    return types | {value.name: value.type.tensor_type.elem_type for value in values}


@pytest.mark.parametrize("role", ["fp16", "int8"])
def test_named_nodes_compute_in_float32_and_the_rest_does_not(graphs, role):
    model, types = graphs[role], element_types(graphs[role])
    kept = set(nodes_kept_fp32(graphs["fp32"]))
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
    for node in model.graph.node:
        if node.op_type in ("Cast", "QuantizeLinear", "DequantizeLinear"):
            continue
        values = node.input[:1] if node.op_type == "Resize" else node.input  # its factors are float32 by definition
        found = {types[name] for name in (*values, *node.output) if types.get(name) in floats}
        wanted = TensorProto.FLOAT if node.name in kept else TensorProto.FLOAT16
        assert found <= {wanted}, (node.name, found)
    assert kept <= set(node_names(model))


def test_only_convolutions_are_quantised_per_channel_and_none_of_the_excluded(graphs):
    model = graphs["int8"]
    quantised = quantised_nodes(model)
    assert quantised
    assert not set(quantised) & set(convolutions_kept_float(graphs["fp32"]))
    makers = {name: node for node in model.graph.node for name in node.output}
    scales = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in ("Conv", "DequantizeLinear"):
            assert not [name for name in node.input if name in makers and makers[name].op_type == "DequantizeLinear"]
        if node.name in quantised:
            weights = makers[node.input[1]]
            channels = [tensor.dims[0] for tensor in model.graph.initializer if tensor.name == weights.input[1]]
            assert list(scales[weights.input[1]]) == channels
            assert channels[0] > 1


def test_openvino_runs_integer_kernels_and_agrees(variants, graphs, inputs):
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    runner = open_runner(variants / "int8.onnx", "openvino", threads=1, precision_hint="f32")
    found = runner.run(*inputs)
    integer, _, total = runner.metadata["runtime.integer_kernels"].split()[:3]
    runner.close()
    # Without 8-bit dot products OpenVINO computes some convolutions in float, and the runner says how many. With them
    # (VNNI) but without AMX, it does so for the eight of this student that read 24 channels or write 8; a shipped
    # student has none of these.
    quantised = len(quantised_nodes(graphs["int8"]))
    assert quantised * (0.75 if has_byte_dot_products() else 0.5) < int(integer) <= quantised, f"{integer} of {total}"
    wanted, exact = (disparity(variants / f"{role}.onnx", inputs) for role in ("int8", "fp32"))
    difference = np.abs(found - wanted).mean()
    if has_byte_dot_products():
        # The same values rounded to the same 256 steps: nearer to each other than to the graph that does not round.
        assert difference < 0.7 * np.abs(exact - wanted).mean()
    else:
        # 16-bit sums saturate; disparities here are of the order of 30 px.
        assert difference < 0.5


@pytest.mark.parametrize("role", ROLES)
def test_tensorrt_rtx_builds_it(variants, role):
    trt = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(variants / f"{role}.onnx")), [
        parser.get_error(index).desc() for index in range(parser.num_errors)
    ]
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    assert builder.build_serialized_network(network, config) is not None


# What people hand over by mistake.


def test_quantised_graph_is_refused(variants, label_set, tmp_path):
    with pytest.raises(UserError, match="already quantised"):
        quantize_student(variants / "int8.onnx", LabelSet.open(label_set), size=SIZE, out=tmp_path / "out")
    with pytest.raises(UserError, match="exported graph"):
        quantize_student(variants / "fp32.onnx", LabelSet.open(label_set), size=SIZE, out=tmp_path / "out")
    with pytest.raises(UserError, match="is a folder"):
        quantize_student(variants, LabelSet.open(label_set), size=SIZE, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_student_and_no_label_set_ends_in_one_line(label_set, student_file, tmp_path, capsys):
    text = tmp_path / "text.safetensors"
    text.write_text("not a student")
    out = str(tmp_path / "out")
    for arguments, words in [
        ([str(text), "--frames", str(label_set)], "not a safetensors file"),
        ([str(tmp_path / "missing.safetensors"), "--frames", str(label_set)], "no such student file"),
        ([str(student_file), "--frames", str(tmp_path)], "no such label set"),
        ([str(student_file), "--frames", str(label_set), "--size", "100x160"], "multiples of 32"),
        ([str(student_file), "--frames", str(label_set), "--frame_count", "0"], "0 calibration frames"),
    ]:
        assert main(["quantize", *arguments, "--out", out]) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1
        assert words in error[0]
    assert not (tmp_path / "out").exists()


def test_output_that_cannot_be_a_folder_is_refused(label_set, student_file, tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="is a file, not a folder"):
            quantize_student(student_file, LabelSet.open(label_set), size=SIZE, out=out)


@pytest.fixture
def failing(monkeypatch, variants):
    """Let the step after the export fail with an exception; the export itself is a copy of an earlier one."""

    def use(error):
        def fail(request, folder):
            (folder / "half.onnx").write_bytes(b"half")
            raise error

        monkeypatch.setattr(room, "export_student", lambda _, path, **__: shutil.copy(variants / "fp32.onnx", path))
        monkeypatch.setattr(room, "run_modelopt", fail)

    return use


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_run_that_fails_leaves_no_trace_and_keeps_what_was_there(failing, label_set, student_file, tmp_path, error):
    failing(error)
    expected = UserError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        quantize_student(student_file, LabelSet.open(label_set), size=SIZE, out=tmp_path / "new")
    assert not (tmp_path / "new").exists()
    old = tmp_path / "old"
    old.mkdir()
    for name in ("fp32.onnx", "manifest.json"):
        (old / name).write_text("earlier")
    with pytest.raises(expected):
        quantize_student(student_file, LabelSet.open(label_set), size=SIZE, out=old)
    assert {path.name: path.read_text() for path in old.iterdir()} == {
        "fp32.onnx": "earlier", "manifest.json": "earlier",
    }  # fmt: skip


@pytest.mark.slow
def test_the_verb_repeats_a_calibration_bit_by_bit(variants, label_set, student_file, tmp_path, capsys):
    """The record decides, whatever the other options say."""
    out = tmp_path / "repeated"
    assert main(
        ["quantize", str(student_file), "--frames", str(label_set), "--size", "96x160", "--selection", "random",
         "--seed", "9", "--calibration", str(variants / "calibration.json"), "--out", str(out)]
    ) == 0  # fmt: skip
    assert capsys.readouterr().out.strip() == str(out)
    for role in ROLES:
        assert sha256_file(out / f"{role}.onnx") == sha256_file(variants / f"{role}.onnx"), role
    first, second = (json.loads((folder / "calibration.json").read_text()) for folder in (variants, out))
    assert first["frames"] == second["frames"]
    assert second["selection"] == f"repeated: {first['selection']}"
    assert first["made_from"] == second["made_from"] == {"student": sha256_file(student_file)}


@pytest.mark.slow
def test_all_graphs_in_the_form_of_another_program(variants, label_set, student_file, tmp_path, inputs):
    out = tmp_path / "formed"
    words = ["quantize", str(student_file), "--frames", str(label_set), "--out", str(out), "--size", "96x160"]
    assert main([*words, "--io", "isaac_ros", "--pixels", "uint8", "--outputs", "[confidence]"]) == 0
    for role in ROLES:
        model = onnx.load(out / f"{role}.onnx")
        assert [value.name for value in model.graph.input] == ["left_image", "right_image"]
        assert [value.name for value in model.graph.output] == ["disparity", "confidence"]
        assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
        assert model.graph.output[1].type.tensor_type.elem_type == TensorProto.FLOAT
        # INT8 is calibrated on the same frames; what it computes does not depend on the form.
        found, wanted = disparity(out / f"{role}.onnx", inputs), disparity(variants / f"{role}.onnx", inputs)
        assert np.abs(found - wanted).max() < 1e-3


@pytest.mark.slow
def test_entropy_finds_other_ranges(variants, label_set, student_file, tmp_path, inputs):
    out = quantize_student(
        student_file, LabelSet.open(label_set), size=SIZE, out=tmp_path / "entropy", frame_count=4, method="entropy"
    )
    by_entropy, by_max = (disparity(folder / "int8.onnx", inputs) for folder in (out, variants))
    assert not np.array_equal(by_entropy, by_max)


@pytest.mark.slow
def test_altered_frame_is_named(scene_frames, student_file, tmp_path):
    writer = LabelSetWriter(tmp_path / "set", identity={"source": {}, "teacher": {}}, max_disp=64)
    for index, frame in enumerate(scene_frames(2, SIZE)):
        writer.add(index, frame)
    path = writer.finish() / "right" / "000001.png"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"000001\.png.*checksum"):
        quantize_student(student_file, LabelSet.open(tmp_path / "set"), size=SIZE, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_interrupt_in_the_middle_leaves_nothing(label_set, student_file, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "stereo.cli", "quantize", str(student_file), "--frames", str(label_set),
               "--size", "96x160", "--out", str(out)]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(out.glob(".quantize.*/modelopt.log")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "interrupted" in error
    assert not out.exists()
