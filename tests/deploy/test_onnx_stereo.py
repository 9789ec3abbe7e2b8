"""deploy.onnx_stereo: the form is checked before any runtime sees the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploy.onnx_stereo import read_stereo_graph
from stereo.errors import UserError


def test_reads_size_metadata_and_precision(network: Path) -> None:
    graph = read_stereo_graph(network)
    assert graph.size == (64, 96)
    assert graph.metadata["stereodistill.preset"] == "toy"
    assert graph.precision == "fp32"


def test_open_size_is_none_and_takes_any(tmp_path: Path, make_network: Callable[..., Path]) -> None:
    graph = read_stereo_graph(make_network(tmp_path / "open.onnx", size=None))
    assert graph.size is None
    graph.check_size((480, 640))


def test_another_size_is_refused_with_both_sizes(network: Path) -> None:
    with pytest.raises(UserError, match="exported for 64x96 and cannot run at 480x640"):
        read_stereo_graph(network).check_size((480, 640))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such ONNX file"):
        read_stereo_graph(tmp_path / "none.onnx")


@pytest.mark.parametrize("content", [b"", b"not a network", b"\x89PNG\r\n\x1a\n" + bytes(100)])
def test_not_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is not an ONNX file"):
        read_stereo_graph(path)


def test_truncated_onnx(tmp_path: Path, network: Path) -> None:
    path = tmp_path / "half.onnx"
    path.write_bytes(network.read_bytes()[: network.stat().st_size // 2])
    with pytest.raises(UserError, match="is not an ONNX file"):
        read_stereo_graph(path)


def test_wrong_input_names_are_told(tmp_path: Path, make_network: Callable[..., Path]) -> None:
    path = make_network(tmp_path / "renamed.onnx", names=("image_a", "image_b"))
    with pytest.raises(UserError, match=r"not a stereo network.*inputs are image_a, image_b.*label --teacher onnx"):
        read_stereo_graph(path)


def save_identity(path: Path, *, shape: list[int], output_shape: list[int], kind: int = TensorProto.FLOAT) -> Path:
    inputs = [helper.make_tensor_value_info(name, kind, shape) for name in ("left", "right")]
    output = helper.make_tensor_value_info("disparity", kind, output_shape)
    node = helper.make_node("Sub", ["left", "right"], ["disparity"])
    onnx.save(helper.make_model(helper.make_graph([node], "g", inputs, [output])), path)
    return path


@pytest.mark.parametrize(
    ("shape", "output_shape", "kind", "told"),
    [
        ([1, 1, 8, 8], [1, 1, 8, 8], TensorProto.FLOAT, "left is 1x1x8x8"),
        ([2, 3, 8, 8], [2, 3, 8, 8], TensorProto.FLOAT, "left is 2x3x8x8"),
        ([1, 3, 8, 8], [1, 3, 8, 8], TensorProto.FLOAT, "disparity is 1x3x8x8"),
        ([1, 8, 8], [1, 8, 8], TensorProto.FLOAT, "left is 1x8x8"),
        ([1, 3, 8, 8], [1, 3, 8, 8], TensorProto.FLOAT16, "left is float16"),
    ],
)
def test_wrong_shapes_and_types(
    tmp_path: Path, shape: list[int], output_shape: list[int], kind: int, told: str
) -> None:
    path = save_identity(tmp_path / "wrong.onnx", shape=shape, output_shape=output_shape, kind=kind)
    with pytest.raises(UserError, match=told):
        read_stereo_graph(path)


def test_precision_of_half_weights_and_quantised_activations(tmp_path: Path, network: Path) -> None:
    model = onnx.load(network)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(2, np.float16), "half"))
    onnx.save(model, tmp_path / "half.onnx")
    assert read_stereo_graph(tmp_path / "half.onnx").precision == "fp16"
    model.graph.node.append(helper.make_node("QuantizeLinear", ["disparity", "scale"], ["quantised"]))
    onnx.save(model, tmp_path / "quantised.onnx")
    assert read_stereo_graph(tmp_path / "quantised.onnx").precision == "int8"
