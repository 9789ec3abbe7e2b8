"""deploy.engines.failures: which flag, which node, which module."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from deploy.engines.failures import build_failure, nodes_named_in

# TensorRT's own words, of versions 10 and 11.
OUT_OF_MEMORY = (
    "[defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)",
    "Requested amount of GPU memory (1073741824 bytes) could not be allocated. There may not be enough free memory",
    "[executionContext.cpp::initializeExecutionContext::532] Error Code 2: OutOfMemory (no further information)",
)


@pytest.mark.parametrize("message", OUT_OF_MEMORY)
def test_out_of_memory_names_the_flag_and_what_to_give(network: Path, message: str) -> None:
    error = build_failure(["x", message, "Engine could not be created"], network, memory_limit_mb=3000, workspace_mb=0)
    assert "ran out of memory during the build with 3000 MB of memory" in str(error)
    assert "--memory-limit-mb 1500" in str(error)
    assert "--optimization-level 2" in str(error)


def test_out_of_memory_without_a_limit(network: Path) -> None:
    error = build_failure([OUT_OF_MEMORY[0]], network, memory_limit_mb=0, workspace_mb=0)
    assert "which had no limit" in str(error)
    assert "--memory-limit-mb 2000" in str(error)


def test_too_small_a_limit_says_to_raise_it(network: Path) -> None:
    message = "Error Code 10: Could not find any implementation for node conv due to insufficient workspace"
    assert "raise --workspace-mb" in str(build_failure([message], network, memory_limit_mb=0, workspace_mb=8))
    plain = str(build_failure([message], network, memory_limit_mb=0, workspace_mb=0))
    assert "workspace-mb" not in plain
    assert message in plain


def test_nodes_in_a_message_are_told_with_their_module(tmp_path: Path, network: Path) -> None:
    model = onnx.load(network)
    names = ("gru.gates/Conv", "gru.gates/Conv_1", "mask.2/then/Exp", "inputs/Sub")
    for node, name in zip(model.graph.node, names, strict=False):
        node.name = name
    onnx.save(model, tmp_path / "named.onnx")
    message = "Could not find any implementation for node {ForeignNode[gru.gates/Conv_1...mask.2/then/Exp]}."
    assert nodes_named_in([message], tmp_path / "named.onnx") == ["gru.gates/Conv_1", "mask.2/then/Exp"]
    error = str(build_failure([message], tmp_path / "named.onnx", memory_limit_mb=0, workspace_mb=0))
    assert "node 'gru.gates/Conv_1' of module gru.gates" in error
    assert "node 'mask.2/then/Exp' of module after mask.2" in error
