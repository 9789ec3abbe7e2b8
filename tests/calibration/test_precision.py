import onnx
import pytest
import torch
from onnx import TensorProto, helper

from calibration.precision import (
    KEEP_FLOAT,
    KEEP_FP32,
    Rule,
    by_rule,
    convolutions_kept_float,
    node_names,
    nodes_kept_fp32,
    quantised_nodes,
)
from deploy.multiply_adds import multiply_adds
from student.export import export_student
from student.presets import build_student
from student.summary import count_macs


@pytest.fixture(scope="module", params=["conv3d", "conv2d"])
def student_graph(request, tmp_path_factory):
    torch.manual_seed(0)
    student = build_student("tiny", max_disp=32)
    path = tmp_path_factory.mktemp("graph") / "tiny.onnx"
    return onnx.load(export_student(student, path, size=(64, 64), source_sha256="", apc_form=request.param))


def test_every_rule_finds_its_nodes(student_graph):
    names = node_names(student_graph)
    for rules in (KEEP_FP32, KEEP_FLOAT):
        assert [name for name, nodes in by_rule(rules, names).items() if not nodes] == []


def test_rules_have_names_of_their_own_and_speak_of_different_nodes(student_graph):
    for rules in (KEEP_FP32, KEEP_FLOAT):
        assert len({rule.name for rule in rules}) == len(rules)
        found = [name for nodes in by_rule(rules, node_names(student_graph)).values() for name in nodes]
        assert len(set(found)) == len(found)


def test_exponentials_divisions_and_sums_of_squares_stay_float32(student_graph):
    kept = set(nodes_kept_fp32(student_graph))
    risky = {node.name for node in student_graph.graph.node if node.op_type in ("Exp", "Pow", "Floor", "ReduceSum")}
    assert risky
    assert risky <= kept
    assert student_graph.graph.node[-1].name in kept


def test_convolutions_are_never_float32_nodes_and_the_last_ones_are_not_quantised(student_graph):
    kept_float = convolutions_kept_float(student_graph)
    assert not set(nodes_kept_fp32(student_graph)) & set(node_names(student_graph, operators=["Conv"]))
    convolutions = node_names(student_graph, operators=["Conv"])
    assert {convolutions[0], convolutions[-1], "classifier/Conv"} <= set(kept_float)
    assert len(kept_float) < len(convolutions) / 3


def test_a_rule_matches_the_whole_name_and_any_number():
    rule = Rule("r", r"gru/(?:Add|Mul)", "")
    assert rule.matches("gru/Add")
    assert rule.matches("gru/Mul_12")
    assert not rule.matches("gru/Addition")
    assert not rule.matches("big.gru/Add")
    assert not rule.matches("gru/Add/then/Exp")


def test_moving_nodes_between_kept_nodes_are_kept():
    nodes = [
        helper.make_node("Exp", ["x"], ["a"], name="kept/Exp"),
        helper.make_node("Reshape", ["a", "shape"], ["b"], name="between"),
        helper.make_node("Transpose", ["b"], ["c"], name="between too"),
        helper.make_node("Sqrt", ["c"], ["d"], name="kept/Sqrt"),
        helper.make_node("Reshape", ["d", "shape"], ["e"], name="leaves"),
        helper.make_node("Relu", ["e"], ["f"], name="elsewhere"),
        helper.make_node("Transpose", ["f"], ["g"], name="enters"),
        helper.make_node("Concat", ["g", "d"], ["h"], name="half"),
        helper.make_node("Sqrt", ["h"], ["y"], name="kept/Sqrt_1"),
    ]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy"]
    model = helper.make_model(helper.make_graph(nodes, "g", value[:1], value[1:]))
    kept = nodes_kept_fp32(model, [Rule("r", "kept/.*", "")])
    assert kept == ["kept/Exp", "between", "between too", "kept/Sqrt", "kept/Sqrt_1"]


def test_quantised_needs_both_input_and_weights_dequantised():
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s"], ["dx"], name="dx"),
        helper.make_node("DequantizeLinear", ["w", "s"], ["dw"], name="dw"),
        helper.make_node("Conv", ["dx", "dw"], ["a"], name="both"),
        helper.make_node("Conv", ["a", "dw"], ["b"], name="weights only"),
        helper.make_node("Conv", ["dx", "w"], ["y"], name="input only"),
    ]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy"]
    assert quantised_nodes(helper.make_model(helper.make_graph(nodes, "g", value[:1], value[1:]))) == ["both"]


def test_multiply_adds_agree_with_torchs_own_counter(student_graph):
    counted = count_macs(build_student("tiny", max_disp=32), (64, 64))["total"]
    found = multiply_adds(student_graph)
    # torch's counter leaves out the two products of fused attention.
    attention = sum(found[f"cost_filter.transformer.layers.0/{name}"] for name in ("MatMul", "MatMul_1"))
    assert (sum(found.values()) - attention) / 1e9 == pytest.approx(counted, rel=1e-9)
    assert set(multiply_adds(student_graph)) <= set(node_names(student_graph))
