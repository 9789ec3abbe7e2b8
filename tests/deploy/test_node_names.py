import onnx
import pytest
from onnx import TensorProto, helper

from deploy.export import export_onnx
from deploy.node_names import SCOPES_KEY, name_nodes
from student.presets import build_student


def graph_of(nodes):
    """A model of (operator, inputs, outputs, name scopes or None)."""
    made = []
    for number, (operator, inputs, outputs, scopes) in enumerate(nodes):
        node = helper.make_node(operator, inputs, outputs, name=f"node_{number}")
        if scopes is not None:
            node.metadata_props.add(key=SCOPES_KEY, value=repr(scopes))
        made.append(node)
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    return helper.make_model(helper.make_graph(made, "g", [value], [value]))


def names_of(model):
    return [node.name for node in model.graph.node]


def test_nodes_are_named_after_their_module():
    model = graph_of(
        [
            ("Sub", ["x", "mean"], ["a"], ["", "sub"]),
            ("Conv", ["a", "stem.0.weight"], ["b"], ["", "stem", "stem.1", "batch_norm"]),
            ("Relu", ["b"], ["c"], ["", "stem", "stem.2", "relu"]),
            ("Exp", ["c"], ["d"], ["", "exp"]),
            ("Split", ["d"], ["e"], None),
            ("Conv", ["e", "gru.weight"], ["f"], ["", "gru", "conv2d"]),
            ("Conv", ["f", "gru.weight"], ["g"], ["", "gru", "conv2d_1"]),
            ("Add", ["d", "g"], ["h"], ["", "add"]),
        ]
    )
    name_nodes(model)
    assert names_of(model) == [
        "inputs/Sub", "stem.0/Conv", "stem.2/Relu", "stem.2/then/Exp", "stem.2/then/Split", "gru/Conv", "gru/Conv_1",
        "gru/then/Add",
    ]  # fmt: skip


def test_a_graph_without_the_exporters_notes_keeps_its_names():
    model = graph_of([("Relu", ["x"], ["a"], None), ("Exp", ["a"], ["b"], None)])
    name_nodes(model)
    assert names_of(model) == ["node_0", "node_1"]


@pytest.mark.parametrize("form", ["conv3d", "conv2d"])
def test_names_of_an_exported_student_are_unique_and_say_where_they_belong(tmp_path, form):
    student = build_student("tiny", max_disp=32)
    student.set_apc_form(form)
    model = onnx.load(export_onnx(student, tmp_path / "tiny.onnx", size=(64, 64), metadata={}))
    names = names_of(model)
    assert len(set(names)) == len(names)
    assert not [name for name in names if name.startswith("node_")]
    modules = {name for name, _ in student.named_modules()}
    for name in names:
        module = name.rsplit("/", 1)[0].removesuffix("/then")
        assert module == "inputs" or module in modules, name
    assert {"backbone.stem.0/Conv", "classifier/then/Exp", "mask.2/then/Exp", "cost_volume/MatMul"} <= set(names)
