import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from stereo.benchmarks import load_pair
from stereo.errors import UserError
from stereo.metrics import errors_against_truth
from stereo.pair import StereoPair
from teacher.config import TeacherOptions
from teacher.onnx_description import read_description, shipped_descriptions
from teacher.onnx_teacher import OnnxTeacher
from teacher.registry import open_teacher

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def save(path, nodes, inputs, outputs, constants=()):
    """Write a graph; inputs and outputs are (name, shape)."""

    def values(pairs):
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in pairs]

    initializers = [numpy_helper.from_array(array, name) for name, array in constants]
    graph = helper.make_graph(nodes, "g", values(inputs), values(outputs), initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return str(path)


def first_channel(path, *, size=("H", "W"), scale=1.0):
    """disparity = scale × the first channel of left: a "network" whose answer tells what it was given."""
    nodes = [
        helper.make_node("Slice", ["left", "zero", "one", "one"], ["first"]),
        helper.make_node("ReduceSum", ["right"], ["sum"], keepdims=1),
        helper.make_node("Mul", ["sum", "nothing"], ["none"]),
        helper.make_node("Add", ["first", "none"], ["both"]),
        helper.make_node("Mul", ["both", "scale"], ["disparity"]),
    ]
    constants = [
        ("zero", np.array([0])),
        ("one", np.array([1])),
        ("nothing", np.array(0, np.float32)),
        ("scale", np.array(scale, np.float32)),
    ]
    shape = ["N", 3, *size]
    # Slice takes its axes from the number of starts: axis 0 would be the batch, so name the channel axis.
    nodes[0].input.insert(3, "one")
    return save(
        path, nodes, [("left", shape), ("right", shape)], [("disparity", ["N", 1, *size])],
        constants,
    )  # fmt: skip


@pytest.fixture
def pair():
    left, right = np.random.default_rng(0).integers(0, 100, (2, 20, 30, 3), np.uint8)
    return StereoPair(left, right, "noise")


def write(path, text):
    path.write_text(text)
    return str(path)


def test_our_own_convention_needs_no_description(tmp_path, pair):
    teacher = open_teacher(TeacherOptions(name="onnx", model=first_channel(tmp_path / "net.onnx")))
    np.testing.assert_array_equal(teacher.predict(pair).disparity, pair.left[:, :, 0])
    assert teacher.describe()["weights_sha256"]


def test_colour_scale_mean_and_sign_follow_the_description(tmp_path, pair):
    first_channel(tmp_path / "net.onnx")
    description = write(tmp_path / "net.yaml", """
name: test
model: net.onnx
inputs: {colour: bgr, scale: 0.5, mean: [10, 0, 0], std: [2, 1, 1]}
output: {scale: -4}
""")  # fmt: skip
    found = OnnxTeacher.open(description).match(pair.left, pair.right)
    np.testing.assert_allclose(found, -4 * (pair.left[:, :, 2] * 0.5 - 10) / 2, rtol=1e-6)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_stacked_gray_input(tmp_path, layout):
    """One input with left and right as channels; the answer is left + 2 × right."""
    axis = 1 if layout == "nchw" else 3
    shape = ["N", 2, "H", "W"] if layout == "nchw" else ["N", "H", "W", 2]
    out = ["N", 1, "H", "W"] if layout == "nchw" else ["N", "H", "W", 1]
    nodes = [
        helper.make_node("Split", ["pair"], ["l", "r"], axis=axis, num_outputs=2),
        helper.make_node("Add", ["r", "r"], ["twice"]),
        helper.make_node("Add", ["l", "twice"], ["disp"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("pair", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("disp", TensorProto.FLOAT, out)],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "net.onnx"
    )
    description = write(
        tmp_path / "net.yaml",
        f"{{name: t, model: net.onnx, output: {{name: disp}}, "
        f"inputs: {{names: [pair], layout: {layout}, colour: gray}}}}",
    )
    left, right = (np.full((20, 30, 3), value, np.uint8) for value in (5, 7))
    np.testing.assert_array_equal(OnnxTeacher.open(description).match(left, right), np.full((20, 30), 19, np.float32))


def test_what_is_out_of_range_is_masked(tmp_path, pair):
    teacher = OnnxTeacher.open(first_channel(tmp_path / "net.onnx"), max_disp=50)
    disparity = teacher.predict(pair).disparity
    expected = pair.left[:, :, 0].astype(np.float32)
    np.testing.assert_array_equal(disparity, np.where(expected <= 50, expected, np.float32(np.nan)))


def test_a_fixed_size_graph_scales_larger_images_and_their_disparity(tmp_path):
    teacher = OnnxTeacher.open(first_channel(tmp_path / "net.onnx", size=(32, 32)))
    left = np.full((64, 48, 3), 12, np.uint8)
    found = teacher.match(left, left)
    assert found.shape == (64, 48)
    np.testing.assert_allclose(found, 24, rtol=1e-5)


def test_a_consistent_pair_is_believed_and_an_inconsistent_one_not(tmp_path):
    teacher = OnnxTeacher.open(first_channel(tmp_path / "net.onnx"))
    left, same, other = (np.full((20, 30, 3), value, np.uint8) for value in (4, 4, 9))
    confidence = teacher.predict(StereoPair(left, same, "a")).confidence
    assert (confidence[:, 4:] == 1).all()
    assert (confidence[:, :4] == 0).all(), "these pixels lie outside the right view"
    assert (teacher.predict(StereoPair(left, other, "b")).confidence == 0).all()


def classifier(path):
    return save(path, [helper.make_node("Identity", ["image"], ["scores"])],
                [("image", [1, 3, 8, 8])], [("scores", [1, 3, 8, 8])])  # fmt: skip


def test_a_network_that_is_no_stereo_network_is_told_with_what_it_has(tmp_path):
    with pytest.raises(UserError, match=r"expected the inputs left, right.*image tensor\(float\) \[1, 3, 8, 8\].*YAML"):
        OnnxTeacher.open(classifier(tmp_path / "net.onnx"))


def test_an_output_that_is_not_there_is_told(tmp_path):
    first_channel(tmp_path / "net.onnx")
    description = write(tmp_path / "net.yaml", "{name: t, model: net.onnx, output: {name: depth}}")
    with pytest.raises(UserError, match=r"expected an output depth.*outputs: disparity"):
        OnnxTeacher.open(description)


def test_wrong_channels_are_told(tmp_path):
    first_channel(tmp_path / "net.onnx")
    description = write(tmp_path / "net.yaml", "{name: t, model: net.onnx, inputs: {colour: gray}}")
    with pytest.raises(UserError, match="expected 1 channels"):
        OnnxTeacher.open(description)


def test_an_output_that_is_no_disparity_map_is_told(tmp_path, pair):
    shape = ["N", 3, "H", "W"]
    model = save(tmp_path / "net.onnx", [helper.make_node("Add", ["left", "right"], ["disparity"])],
                 [("left", shape), ("right", shape)], [("disparity", shape)])  # fmt: skip
    with pytest.raises(UserError, match="expected one plane"):
        OnnxTeacher.open(model).predict(pair)


def test_what_is_not_onnx_is_told(tmp_path):
    with pytest.raises(UserError, match="no such ONNX file"):
        OnnxTeacher.open(str(tmp_path / "none.onnx"))
    with pytest.raises(UserError, match="is it an ONNX file"):
        OnnxTeacher.open(write(tmp_path / "text.onnx", "hello"))
    with pytest.raises(UserError, match="needs a network"):
        open_teacher(TeacherOptions(name="onnx"))


@pytest.mark.parametrize(("text", "message"), [
    ("name: t\ncolor: rgb", "color"),
    ("name: t\ninputs: {layout: chw}", "layout"),
    ("name: t\ninputs: {std: [0]}", r"inputs\.std"),
    ("name: t\nsize: {fixed: [480]}", r"size\.fixed"),
    ("- a list", "not a network description"),
    ("a: [", "cannot be read"),
])  # fmt: skip
def test_mistakes_in_a_description_are_named(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_description(write(tmp_path / "net.yaml", text))


def test_shipped_descriptions_are_valid():
    assert "hitnet_eth3d" in shipped_descriptions()
    for name in shipped_descriptions():
        assert read_description(name).name == name


# EPE px, bad-1 %, bad-2 % of HITNet-ETH3D that the data's own README reports, found with another program (TensorFlow).
HITNET = {
    "middlebury2003_teddy": (0.38, 6.5, 3.4),
    "middlebury2001_tsukuba": (0.37, 4.0, 2.5),
    "middlebury2014_motorcycle_q": (0.69, 7.4, 4.4),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if "motorcycle" in name else ()) for name in HITNET]
)
def test_hitnet_reaches_its_published_errors(shared_data, name):
    """Validates description, size fitting and metrics together; rounding of the published digits is the tolerance."""
    model = shared_data / "peers" / "hitnet_eth3d" / "eth3d_dyn.onnx"
    if not model.exists():
        pytest.skip(f"no {model}")
    pair = load_pair(shared_data / "pairs" / name)
    teacher = OnnxTeacher.open(str(model))
    assert teacher.describe()["network"] == "hitnet_eth3d", "recognised by the names of its input and output"
    output = teacher.predict(pair)
    errors = errors_against_truth(output.disparity, pair.disparity, mask=pair.noc)
    epe_px, bad1_pct, bad2_pct = HITNET[name]
    assert errors.coverage_pct == 100
    assert errors.epe_px == pytest.approx(epe_px, abs=0.006)
    assert errors.bad1_pct == pytest.approx(bad1_pct, abs=0.06)
    assert errors.bad2_pct == pytest.approx(bad2_pct, abs=0.06)
    kept = np.where(output.confidence >= 0.5, output.disparity, np.float32(np.nan))
    sure = errors_against_truth(kept, pair.disparity, mask=pair.noc)
    assert sure.coverage_pct > 90
    assert sure.bad2_pct - (100 - sure.coverage_pct) < 0.6 * errors.bad2_pct, "the confidence must find the errors"
