"""What TensorRT's refusals mean, told by node, by the module it came from, and by the flag that helps.

TensorRT speaks through its log: the patterns below are its own words in versions 10 and 11.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import onnx

from deploy.node_names import module_of_name
from stereo.errors import UserError

OUT_OF_MEMORY = ("out of memory", "outofmemory", "could not be allocated", "insufficient memory", "failed_allocation",
                 "failed to allocate", "not enough memory")  # fmt: skip
TOO_LITTLE_WORKSPACE = ("insufficient workspace", "could not find any implementation")
NAMED_AT_MOST = 3


def parse_failure(parser: Any, path: Path) -> UserError:
    """The error for a graph that the parser refused.

    Args:
        parser: TensorRT's OnnxParser after parsing.
    """
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    if not errors:
        return UserError("TensorRT cannot parse it and gives no reason", where=path)
    told = [
        f"operator {error.node_operator() or 'unknown'} at {describe_node(error.node_name())}: {error.desc()}"
        for error in errors[:NAMED_AT_MOST]
    ]
    if len(errors) > NAMED_AT_MOST:
        told.append(f"and {len(errors) - NAMED_AT_MOST} more")
    return UserError(f"TensorRT cannot parse it: {'; '.join(told)}", where=path,
                     fix="export it again with this version: its graphs hold what TensorRT has")  # fmt: skip


def build_failure(errors: Sequence[str], path: Path, *, memory_limit_mb: int, workspace_mb: int) -> UserError:
    """The error for a graph that was parsed but not built.

    Args:
        errors: what TensorRT logged, oldest first.
        memory_limit_mb, workspace_mb: that the build had; 0 for none.
    """
    text = " ".join(errors).lower()
    reason = errors[-1] if errors else "no reason given"
    if any(words in text for words in OUT_OF_MEMORY):
        limits = [f"{value} MB of {name}" for name, value in (("memory", memory_limit_mb), ("workspace", workspace_mb))
                  if value]  # fmt: skip
        had = f" with {' and '.join(limits)}" if limits else ", which had no limit"
        lower = (memory_limit_mb or 4000) // 2
        return UserError(f"ran out of memory during the build{had}: {reason}", where=path,
                         fix=f"--memory-limit-mb {lower} lowers it, --optimization-level 2 as well; close what else "
                             "uses memory")  # fmt: skip
    modules = [describe_node(name) for name in nodes_named_in(errors[-1:], path)]
    at = f" (at {', '.join(modules[:NAMED_AT_MOST])})" if modules else ""
    limited = workspace_mb or memory_limit_mb
    if limited and any(words in text for words in TOO_LITTLE_WORKSPACE):
        return UserError(f"TensorRT cannot build it: {reason}{at}", where=path,
                         fix="the memory may be too little for any kernel: raise --workspace-mb or "
                             "--memory-limit-mb")  # fmt: skip
    return UserError(f"TensorRT cannot build it: {reason}{at}", where=path)


def describe_node(name: str) -> str:
    """A node's name with the module it came from, as far as the name tells."""
    module = module_of_name(name)
    return f"node '{name}'" + (f" of module {module}" if module else "")


def nodes_named_in(messages: Iterable[str], path: Path) -> list[str]:
    """Names of the graph's nodes that stand in some messages, each once; longer names hide those they begin with."""
    text = " ".join(messages)
    found = [node.name for node in onnx.load(path, load_external_data=False).graph.node if node.name in text]
    named = dict.fromkeys(name for name in found if "/" in name)
    return [name for name in named if not any(name != other and name in other for other in named)]
