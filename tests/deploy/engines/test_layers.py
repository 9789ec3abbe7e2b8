"""deploy.engines.layers: the inspector's JSON of TensorRT 10 and 11."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.engines.layers import EngineLayer, layers_path, parse_layers, read_layers
from stereo.errors import UserError

LAYERS = [
    {"Name": "backbone.stem/Conv + backbone.stem/Relu", "LayerType": "CaskConvolution",
     "Outputs": [{"Name": "x", "Format/Datatype": "Half NHWC8"}]},
    {"Name": "volume/Conv", "LayerType": "CaskConvolution",
     "Outputs": [{"Name": "y", "Format/Datatype": "Int8 NC/32HW32 format"}]},
    {"Name": "done", "LayerType": "Signal", "Outputs": []},
]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "tensors"),
    [("Bindings", ["left", "right", "disparity"]), ("I/O Tensors", ["left", "right", "disparity"]),
     ("I/O Tensors", [{"Name": "left"}, {"Name": "right"}, {"Name": "disparity"}])],
)  # fmt: skip
def test_both_spellings(tmp_path: Path, key: str, tensors: list[Any]) -> None:
    path = layers_path(tmp_path / "nano.engine")
    assert path.name == "nano.layers.json"
    path.write_text(json.dumps({"Layers": LAYERS, key: tensors}))
    found = read_layers(path)
    assert found.io_tensors == ("left", "right", "disparity")
    assert found.layers[1] == EngineLayer("volume/Conv", "CaskConvolution", "Int8 NC/32HW32 format")
    assert found.precisions() == {"Half": 1, "Int8": 1}


def test_an_engine_without_detail_lists_names() -> None:
    found = parse_layers({"Layers": ["a", "b"], "Bindings": []}, where="x")
    assert [layer.name for layer in found.layers] == ["a", "b"]
    assert found.precisions() == {}


@pytest.mark.parametrize("content", [[], {"layers": []}, {"Layers": "none"}])
def test_something_else(content: Any) -> None:
    with pytest.raises(UserError, match="not what the engine inspector writes"):
        parse_layers(content, where="x.layers.json")
