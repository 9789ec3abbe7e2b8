from onnx import TensorProto, helper

from calibration.exact_readers import restore_exact_readers


def test_only_the_convolution_keeps_reading_the_quantised_copy():
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], name="d"),
        helper.make_node("DequantizeLinear", ["w8", "s", "z"], ["w"], name="dw"),
        helper.make_node("Conv", ["d", "w"], ["c"], name="conv"),
        helper.make_node("Conv", ["d", "v"], ["f"], name="convolution in float"),
        helper.make_node("Add", ["d", "c"], ["a"], name="shortcut"),
        helper.make_node("Mul", ["d", "d"], ["m"], name="square"),
        helper.make_node("Add", ["a", "w"], ["y"], name="weights have no float original"),
    ]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy"]
    model = helper.make_model(helper.make_graph(nodes, "g", value[:1], value[1:]))
    assert restore_exact_readers(model) == ["convolution in float", "shortcut", "square"]
    inputs = {node.name: list(node.input) for node in model.graph.node}
    assert inputs["conv"] == ["d", "w"]
    assert inputs["convolution in float"] == ["x", "v"]
    assert inputs["shortcut"] == ["x", "c"]
    assert inputs["square"] == ["x", "x"]
    assert inputs["d"] == ["q", "s", "z"]
    assert inputs["weights have no float original"] == ["a", "w"]
