"""The sensitivity study on a tiny student: graphs with some convolutions quantised, scores, search, files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from calibration import integer_graph, latency_budget
from calibration import sensitivity as room
from calibration.config import SensitivityConfig
from calibration.judge import Judge, Score
from calibration.latency_budget import latency_share
from calibration.mixed import compose_mixed, read_mixed
from calibration.partial import block_of, blocks_of, layers_of, quantise_only
from calibration.precision import quantised_nodes
from calibration.sensitivity import Part, search, sensitivity, tell_missed, within
from calibration.sensitivity_pictures import bar_chart, markdown, rows
from deploy.runners.registry import open_runner
from stereo.artifacts import sha256_file, write_json
from stereo.benchmarks import write_pair
from stereo.cli import main
from stereo.errors import UserError
from stereo.pair import StereoPair
from student.checkpoint import load_student
from student.export import export_student

SIZE = (96, 160)
NOTHING = Score(1.0, 10.0, 5.0, 0.0, 0.0, 0.0)


def test_blocks_are_named_after_their_part_of_the_network() -> None:
    names = ["backbone.stem.0/Conv", "backbone.stage_eighth.1.conv1.0/Conv", "mask.0/Conv", "mask.2/Conv_1"]
    assert [block_of(name) for name in names] == ["backbone.stem", "backbone.stage_eighth", "mask", "mask"]
    assert blocks_of(names)["mask"] == names[2:]


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory, scene_frames: Any) -> Path:
    """Two pairs with exact disparity, one of them of another size than the graph."""
    folder = tmp_path_factory.mktemp("truth")
    for number, size in enumerate([SIZE, (120, 200)]):
        (frame,) = scene_frames(1, size)
        pair = StereoPair(frame.left, frame.right, f"scene_{number}", disparity=frame.disparity)
        write_pair(folder / pair.name, pair)
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, student_file: Path, label_set: Path, truth: Path) -> Path:
    """By block, with a search that nothing satisfies: it takes everything out."""
    out = tmp_path_factory.mktemp("study") / "out"
    config = SensitivityConfig(str(student_file), frames=label_set, truth=truth, out=out, size="96x160", frame_count=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "within", lambda *_: False)
        assert sensitivity(config) == out / "sensitivity.md"
    return out


@pytest.fixture(scope="module")
def content(study: Path) -> dict[str, Any]:
    return json.loads((study / "sensitivity.json").read_text())


def test_files_and_what_they_were_made_from(study: Path, content: dict[str, Any], student_file: Path) -> None:
    assert {path.name for path in study.iterdir()} == {*room.NAMES} - {"mixed.json"}
    assert {"pair scene_0", "pair scene_1"} < content["made_from"].keys()
    assert content["made_from"]["student"] == sha256_file(student_file)
    assert content["pairs"] == ["scene_0", "scene_1"]
    assert content["calibration"]["used"] == 4


def test_every_quantised_convolution_is_asked_once(content: dict[str, Any]) -> None:
    everything = content["search"][0]["quantised"]
    asked = [name for part in content["parts"] for name in part["convolutions"]]
    assert sorted(asked) == sorted(everything)
    assert len(everything) > 10
    assert 0 < content["multiply_adds"]["quantisable"] <= content["multiply_adds"]["all"]


def test_fp32_moves_by_nothing_and_quantising_by_something(content: dict[str, Any]) -> None:
    assert content["fp32"]["moved_px"] == content["fp32"]["moved_max_px"] == 0
    assert content["everything"]["moved_px"] > 0
    moved = [part["alone"]["moved_px"] for part in content["parts"]]
    assert max(moved) > 0
    assert any(part["without"]["moved_px"] != content["everything"]["moved_px"] for part in content["parts"])


def test_a_search_that_takes_everything_out_ends_at_fp32(study: Path, content: dict[str, Any]) -> None:
    """Every convolution is led back to its own weights: the graph computes what the FP32 one does."""
    last = content["search"][-1]
    assert last["quantised"] == []
    # modelopt orders some sums in another way, which is rounding of float32
    assert last["moved_max_px"] < 1e-3 < content["everything"]["moved_max_px"]
    assert last["epe_px"] == pytest.approx(content["fp32"]["epe_px"], abs=1e-4)
    assert sorted(last["keep_float"]) == sorted(content["search"][0]["quantised"])


def test_table_and_chart_show_every_part(study: Path, content: dict[str, Any]) -> None:
    text = (study / "sensitivity.md").read_text()
    drawing = ElementTree.fromstring((study / "sensitivity.svg").read_text())
    words = {element.text for element in drawing.iter() if element.tag.endswith("text")}
    for part in content["parts"]:
        assert f"| {part['name']}" in text
        assert part["name"] in words
    assert markdown(content) == text
    assert bar_chart(content) == (study / "sensitivity.svg").read_text()
    added = [row["moved_alone_px"] for row in rows(content)]
    assert added == sorted(added, reverse=True)


@pytest.mark.slow
def test_the_search_makes_a_graph(content: dict[str, Any], student_file: Path, label_set: Path, tmp_path: Path) -> None:
    kept = content["search"][-1]["keep_float"][:10]
    write_json(tmp_path / "mixed.json", compose_mixed(content, kept))
    arguments = ["quantize", str(student_file), "--frames", str(label_set), "--size", "96x160"]
    out = tmp_path / "out"
    assert main([*arguments, "--out", str(out), "--mixed", str(tmp_path / "mixed.json")]) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    quantised = quantised_nodes(onnx.load(out / "mixed.onnx"))
    assert manifest["mixed"]["quantised"] == quantised
    assert not set(quantised) & set(kept)
    assert manifest["variants"]["mixed"]["difference_from_fp32"]["mean_px"] > 0
    assert len(manifest["calibration"]["frames"]) == 4
    runner = open_runner(out / "mixed.onnx", "onnxruntime", threads=1)
    runner.close()


def test_the_search_of_another_student_or_graph_is_refused(content: dict[str, Any], tmp_path: Path) -> None:
    path, own = tmp_path / "mixed.json", content["made_from"]["student"]
    write_json(path, compose_mixed(content, ["mask.0/Conv"]))
    assert read_mixed(path, own, iterations=2, apc_form="conv3d") == ["mask.0/Conv"]
    with pytest.raises(UserError, match="was searched for another student"):
        read_mixed(path, "0", iterations=2, apc_form="conv3d")
    with pytest.raises(UserError, match="was searched with iterations 2, not 3"):
        read_mixed(path, own, iterations=3, apc_form="conv3d")
    with pytest.raises(UserError, match="was searched with apc_form conv3d, not conv2d"):
        read_mixed(path, own, iterations=2, apc_form="conv2d")
    for text, words in (("[]", "is no result of a search"), ('{"kind": "mixed precision"}', "has version None")):
        path.write_text(text)
        with pytest.raises(UserError, match=words):
            read_mixed(path, own, iterations=2, apc_form="conv3d")


def test_a_convolution_that_runs_twice_is_one_layer() -> None:
    names = ["a.0/Conv", "b/Conv", "a.0/Conv_1"]
    assert layers_of(names) == {"a.0": ["a.0/Conv", "a.0/Conv_1"], "b": ["b/Conv"]}


def tiny_graphs() -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Two convolutions in a row, FP32 and with Q/DQ around both."""
    weights = [onnx.numpy_helper.from_array(np.full((1, 1, 1, 1), value, np.float32), name)
               for name, value in (("w0", 0.3), ("w1", 0.7), ("scale", 0.5))]  # fmt: skip
    zero = onnx.numpy_helper.from_array(np.zeros((), np.int8), "zero")
    shape = [1, 1, 2, 2]
    ends = [onnx.helper.make_tensor_value_info(name, 1, shape) for name in ("x", "y")]
    plain = [onnx.helper.make_node("Conv", ["x", "w0"], ["h"], "a/Conv"),
             onnx.helper.make_node("Conv", ["h", "w1"], ["y"], "b/Conv")]  # fmt: skip
    nodes = []
    for conv in plain:
        read = []
        for name in conv.input:
            nodes.append(onnx.helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"{name}_q"], f"{name}/Q"))
            nodes.append(onnx.helper.make_node("DequantizeLinear", [f"{name}_q", "scale", "zero"], [f"{name}_d"]))
            read.append(f"{name}_d")
        nodes.append(onnx.helper.make_node("Conv", read, list(conv.output), conv.name))
    scale = onnx.numpy_helper.from_array(np.array(0.5, np.float32), "scale")
    original = onnx.helper.make_graph(plain, "g", ends[:1], ends[1:], weights[:2])
    quantised = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], [*weights[:2], scale, zero])
    opset = [onnx.helper.make_opsetid("", 21)]
    return tuple(onnx.helper.make_model(graph, opset_imports=opset) for graph in (original, quantised))  # type: ignore[return-value]


@pytest.mark.parametrize("names", [["a/Conv", "b/Conv"], ["a/Conv"], ["b/Conv"], []])
def test_only_the_named_convolutions_round(names: list[str]) -> None:
    """1 × .3 × .7 in steps of .5: .3 becomes .5, .7 becomes .5, and .3 entering the second becomes .5 too."""
    original, quantised = tiny_graphs()
    made = quantise_only(quantised, original, names)
    onnx.checker.check_model(made)
    assert quantised_nodes(made) == names
    (found,) = ReferenceEvaluator(made).run(None, {"x": np.ones((1, 1, 2, 2), np.float32)})
    first = 0.5 if "a/Conv" in names else 0.3
    expected = (0.5 if "b/Conv" in names else first) * (0.5 if "b/Conv" in names else 0.7)
    assert np.asarray(found).ravel().tolist() == pytest.approx([expected] * 4, rel=1e-6)
    assert len(made.graph.node) == 2 + 4 * len(names)


def test_a_convolution_that_is_not_quantised_is_refused() -> None:
    original, quantised = tiny_graphs()
    with pytest.raises(KeyError, match="c/Conv"):
        quantise_only(quantised, original, ["c/Conv"])


def test_a_study_that_is_stopped_goes_on_with_its_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, quantised = tiny_graphs()
    truth = np.full((2, 2), 4, np.float32)
    pair = StereoPair(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 3), np.uint8), "p", disparity=truth)
    ran: list[int] = []

    def run(judge: Judge, model: onnx.ModelProto) -> list[np.ndarray]:
        ran.append(len(quantised_nodes(model)))
        return [truth + len(quantised_nodes(model))]

    monkeypatch.setattr(Judge, "_run", run)

    def study(identity: str) -> list[Score]:
        judge = Judge([pair], tmp_path, runtime="onnxruntime", threads=1, kept=tmp_path / "kept", identity=identity)
        return [judge.score(model) for model in (original, quantised, quantise_only(quantised, original, ["a/Conv"]))]

    first = study("these pairs")
    assert [score.moved_px for score in first] == [0, 2, 1]
    assert ran == [0, 2, 1]
    assert study("these pairs") == first
    assert ran == [0, 2, 1, 0]  # FP32 alone, for the maps that others are compared with
    study("other pairs")
    assert ran == [0, 2, 1, 0, 0, 2, 1]


class Recorder:
    """A judge that knows how much each quantised convolution moves the map."""

    def score(self, model: onnx.ModelProto) -> Score:
        moved = sum({"a/Conv": 0.03, "b/Conv": 0.05}[name] for name in quantised_nodes(model))
        return dataclasses.replace(NOTHING, epe_px=1 + moved, moved_px=moved)


def test_search_takes_out_what_removes_most_for_its_size_and_stops_within_the_budget(tmp_path: Path) -> None:
    original, quantised = tiny_graphs()
    config = SensitivityConfig("s", frames=tmp_path, truth=tmp_path, out=tmp_path, epe_budget_px=0.06)
    everything = Recorder().score(quantised)
    parts = [Part(name[0], [name], adds, 0, NOTHING, Recorder().score(quantise_only(quantised, original, [other])))
             for name, other, adds in (("a/Conv", "b/Conv", 10), ("b/Conv", "a/Conv", 100))]  # fmt: skip
    steps = search(parts, original, quantised, Recorder(), config, fp32=NOTHING, everything=everything)  # type: ignore[arg-type]
    assert [step["taken_out"] for step in steps] == [None, "a"]
    assert steps[-1]["keep_float"] == ["a/Conv"]
    assert within(everything, NOTHING, dataclasses.replace(config, epe_budget_px=0.09))
    assert not within(everything, NOTHING, config)


@pytest.mark.slow
def test_a_study_by_layer_asks_each_convolution(
    student_file: Path, label_set: Path, truth: Path, tmp_path: Path, content: dict[str, Any]
) -> None:
    out = tmp_path / "by_layer"
    words = ["--size", f"{SIZE[0]}x{SIZE[1]}", "--layers", "true", "--images", "1", "--epe_budget_px", "1000",
             "--bad2_budget_points", "100"]  # fmt: skip
    paths = [str(student_file), "--frames", str(label_set), "--truth", str(truth), "--out", str(out)]
    assert main(["sensitivity", *paths, *words]) == 0
    found = json.loads((out / "sensitivity.json").read_text())
    assert found["by"] == "layer"
    assert {part["name"]: part["convolutions"] for part in found["parts"]} == layers_of(found["search"][0]["quantised"])
    assert len(found["parts"]) > len(content["parts"])
    assert [step["taken_out"] for step in found["search"]] == [None]  # the budget is met at once


def half_each(model: onnx.ModelProto) -> float:
    """Latency that each quantised convolution lowers by .4 of FP32's."""
    return 1 - 0.4 * len(quantised_nodes(model))


@pytest.mark.parametrize(
    ("budget", "taken", "warned"),
    [
        (1.0, ["b", "a"], ""),
        (0.7, ["b"], "no more fits into the budget of latency"),
        (0.5, [], "no more fits into the budget of latency"),
        (0.1, [], "INT8 everywhere takes 0.20 of FP32's latency (here), more than the budget of 0.1"),
    ],
)
def test_nothing_is_taken_out_that_the_budget_of_latency_does_not_allow(
    budget: float, taken: list[str], warned: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    original, quantised = tiny_graphs()
    config = SensitivityConfig(
        "s", frames=tmp_path, truth=tmp_path, out=tmp_path, epe_budget_px=0.01, latency_budget=budget
    )
    everything = Recorder().score(quantised)
    parts = [Part(name[0], [name], 10, 0, NOTHING, Recorder().score(quantise_only(quantised, original, [other])))
             for name, other in (("a/Conv", "b/Conv"), ("b/Conv", "a/Conv"))]  # fmt: skip
    steps = search(parts, original, quantised, Recorder(), config, fp32=NOTHING, everything=everything,  # type: ignore[arg-type]
                   latency=half_each)  # fmt: skip
    assert [step["taken_out"] for step in steps] == [None, *taken]
    assert steps[-1]["latency_share"] == pytest.approx(0.2 + 0.4 * len(taken))
    tell_missed(steps[-1], NOTHING, config)
    assert warned in caplog.text
    assert bool(warned) == bool(caplog.text)


def test_latency_is_estimated_as_a_share_of_fp32(tmp_path: Path, student_file: Path) -> None:
    config = SensitivityConfig(
        "s", frames=tmp_path, truth=tmp_path, out=tmp_path, latency_budget=0.7, latency_on="orin-nx-16gb@25W"
    )
    full, once = (
        onnx.load(export_student(load_student(student_file, iterations=iterations), tmp_path / f"{iterations}.onnx",
                                 size=SIZE, source_sha256="0" * 64))
        for iterations in (2, 1)
    )  # fmt: skip
    with latency_share(config, full, tmp_path) as share:
        assert share is not None
        assert share(full) == pytest.approx(1)
        assert share(once) < 0.95
    with latency_share(dataclasses.replace(config, latency_budget=None), full, tmp_path) as share:
        assert share is None


def test_latency_is_measured_in_turns(tmp_path: Path, student_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    turns: list[int] = []

    def three_rounds(steps: Any, timing: Any) -> np.ndarray:
        for step in steps:
            assert step().shape == (1, 1, *SIZE)
            turns.append(len(turns))
        return np.array([[4.0, 2.0], [8.0, 4.0], [1.0, 3.0]])

    monkeypatch.setattr(latency_budget, "time_rounds", three_rounds)
    path = export_student(load_student(student_file), tmp_path / "fp32.onnx", size=SIZE, source_sha256="0" * 64)
    config = SensitivityConfig(
        "s", frames=tmp_path, truth=tmp_path, out=tmp_path, latency_budget=0.7, runtime="openvino"
    )
    with latency_share(config, onnx.load(path), tmp_path) as share:
        assert share is not None
        assert share(onnx.load(path)) == 0.5  # the median of the rounds' ratios, graph by FP32
    assert turns == [0, 1]


def test_bad_input_ends_in_one_line(
    student_file: Path, label_set: Path, truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    for arguments, words in [
        (
            [str(student_file), "--frames", str(label_set), "--truth", str(tmp_path)],
            "no pairs with truth in a known layout",
        ),
        ([str(student_file), "--frames", str(tmp_path), "--truth", str(truth)], "no such label set"),
        (["nothing.safetensors", "--frames", str(label_set), "--truth", str(truth)], "no such student file"),
        ([str(student_file), "--frames", str(label_set), "--truth", str(truth), "--epe_budget_px", "-1"], "no budget"),
        (
            [str(student_file), "--frames", str(label_set), "--truth", str(truth), "--latency_budget", "-1"],
            "no share of FP32's latency",
        ),
        (
            [str(student_file), "--frames", str(label_set), "--truth", str(truth), "--latency_budget", "0.7"],
            "its times say nothing of INT8",
        ),
        (
            [str(student_file), "--frames", str(label_set), "--truth", str(truth), "--latency_on", "orin-nx-16gb@25W"],
            "a place without a budget",
        ),
        (
            [
                str(student_file),
                "--frames",
                str(label_set),
                "--truth",
                str(truth),
                "--latency_budget",
                "0.5",
                "--latency_on",
                "orin-nx-16gb@99W",
            ],
            "has no power mode '99W'",
        ),
    ]:
        assert main(["sensitivity", *arguments, "--out", out]) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1
        assert words in error[0]
    assert not (tmp_path / "out").exists()


def test_a_graph_without_anything_to_quantise_is_told(
    student_file: Path, label_set: Path, truth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave_it(request: Any, folder: Path) -> list[Any]:
        Path(request.int8).write_bytes(Path(request.fp32).read_bytes())
        return []

    monkeypatch.setattr(integer_graph, "run_modelopt", leave_it)
    config = SensitivityConfig(str(student_file), frames=label_set, truth=truth, out=tmp_path / "out", size="96x160")
    with pytest.raises(UserError, match="no convolution of this student could be quantised"):
        sensitivity(config)
    assert not (tmp_path / "out").exists()
