"""The finished graphs: their last touches, and what the manifest says of each."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx

from calibration.difference import Difference
from calibration.precision import (
    KEEP_FLOAT,
    KEEP_FP32,
    QUANTISED_OPERATORS,
    Rule,
    by_rule,
    node_names,
    nodes_kept_fp32,
    quantised_nodes,
)
from deploy.export import set_metadata
from deploy.onnx_stereo import read_stereo_graph
from stereo.artifacts import sha256_file
from stereo.errors import UserError

CONVERTED = ("fp16", "int8")
ROLES = ("fp32", *CONVERTED)
# Made on request: INT8 with the convolutions in float that a search on true disparities took out.
MIXED = "mixed"

log = logging.getLogger(__name__)


def finish_graph(path: Path, *, metadata: Mapping[str, str], size: tuple[int, int]) -> None:
    """Write our metadata into a converted graph and check that it is still a stereo network of the project's form.

    Raises:
        UserError: it is not.
        onnx.checker.ValidationError: it is not valid ONNX.
    """
    model = onnx.load(path)
    set_metadata(model, {**metadata, "height": str(size[0]), "width": str(size[1])})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    graph = read_stereo_graph(path)
    if graph.precision != metadata["precision"]:
        raise UserError(
            f"{metadata['precision']} came out as {graph.precision}: no convolution could be converted",
            where=path.name,
            fix="modelopt wants convolutions of 16 channels and more; choose a larger preset",
        )


def describe_variants(
    folder: Path, differences: Mapping[str, Difference], roles: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Role → file, checksum, size and what changed against FP32."""
    return {
        role: {
            "file": f"{role}.onnx",
            "sha256": sha256_file(folder / f"{role}.onnx"),
            "bytes": (folder / f"{role}.onnx").stat().st_size,
            "nodes": len(onnx.load(folder / f"{role}.onnx").graph.node),
            "difference_from_fp32": asdict(differences[role]) if role in differences else None,
        }
        for role in roles
    }


def describe_precision(folder: Path) -> dict[str, Any]:
    """What is quantised, what is not and why, what stays float32 and why."""
    original = onnx.load(folder / "fp32.onnx")
    convolutions = node_names(original, operators=QUANTISED_OPERATORS)
    quantised = quantised_nodes(onnx.load(folder / "int8.onnx"))
    kept_float = describe_rules(KEEP_FLOAT, convolutions)
    kept_fp32 = describe_rules(KEEP_FP32, node_names(original))
    named = {name for rule in kept_float for name in rule["nodes"]}
    ruled = {name for rule in kept_fp32 for name in rule["nodes"]}
    return {
        "convolutions": len(convolutions),
        "quantised": quantised,
        "kept_float": kept_float,
        "left_by_modelopt": [name for name in convolutions if name not in quantised and name not in named],
        "kept_fp32": kept_fp32,
        "kept_fp32_between": [name for name in nodes_kept_fp32(original) if name not in ruled],
    }


def describe_rules(rules: Sequence[Rule], names: Sequence[str]) -> list[dict[str, Any]]:
    """Each rule with its reason and its nodes; warns of a rule that finds none."""
    found = by_rule(rules, names)
    for name, nodes in found.items():
        if not nodes:
            log.warning("no node for '%s': was the network renamed? (calibration/precision.py)", name)
    return [{"name": rule.name, "why": rule.why, "nodes": found[rule.name]} for rule in rules]
