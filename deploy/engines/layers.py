"""The engine inspector's account of an engine's layers: kept beside it as NAME.layers.json, and read again.

    layers = read_layers(Path("nano.layers.json")).layers
    layers[0].name, layers[0].precision

TensorRT fuses many nodes into one layer; a layer's name is made of theirs, so it tells the modules.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stereo.artifacts import read_json
from stereo.errors import UserError

# TensorRT 11 renamed the first to the second.
IO_KEYS = ("Bindings", "I/O Tensors")


@dataclass(frozen=True)
class EngineLayer:
    """One layer.

    Args:
        name: made of the fused nodes' names.
        kind: such as "CaskConvolution"; "" where the engine does not tell.
        precision: of its first output, as TensorRT writes it: "Int8 NC/32HW32 format"; "" where it does not tell.
    """

    name: str
    kind: str
    precision: str


@dataclass(frozen=True)
class EngineLayers:
    """What the inspector said."""

    layers: tuple[EngineLayer, ...]
    io_tensors: tuple[str, ...]

    def precisions(self) -> dict[str, int]:
        """How many layers put out which type: {"Half": 40, "Int8": 35}."""
        return dict(Counter(layer.precision.split()[0] for layer in self.layers if layer.precision))


def layers_path(engine: Path) -> Path:
    """The account beside an engine."""
    return engine.with_suffix(".layers.json")


def inspect_engine(trt: Any, engine: Any) -> Any:
    """The inspector's JSON of a deserialised engine."""
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return json.loads(text)


def parse_layers(content: Any, *, where: object) -> EngineLayers:
    """Read the inspector's JSON, of TensorRT 10 or 11.

    Raises:
        UserError: it is something else.
    """
    if not isinstance(content, dict) or not isinstance(content.get("Layers"), list):
        raise UserError("is not what the engine inspector writes", where=where, fix="build the engine again")
    key = next((key for key in IO_KEYS if key in content), None)
    tensors = content[key] if key else []
    return EngineLayers(
        layers=tuple(_layer(layer) for layer in content["Layers"]),
        io_tensors=tuple(str(t["Name"]) if isinstance(t, Mapping) else str(t) for t in tensors),
    )


def _layer(layer: Any) -> EngineLayer:
    """Engines built without detail list bare names."""
    if not isinstance(layer, Mapping):
        return EngineLayer(str(layer), "", "")
    outputs = layer.get("Outputs") or [{}]
    return EngineLayer(
        str(layer.get("Name", "")), str(layer.get("LayerType", "")), str(outputs[0].get("Format/Datatype", ""))
    )


def read_layers(path: Path) -> EngineLayers:
    """Read NAME.layers.json.

    Raises:
        UserError: missing, or something else.
    """
    return parse_layers(read_json(path, what="account of an engine's layers"), where=path)
