"""How much memory the maps inside a network take while it runs, block by block.

Counted over tensors alive at the same time in PyTorch's order of execution, one storage once however many views it has;
weights and the scratch memory of kernels are left out. A runtime that fuses operators or reuses buffers needs less, so
this compares designs; `stereodistill profile` measures what a runtime takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class ActivationMeter(TorchDispatchMode):
    """Follow the storages that operators make while the mode is on.

    Args:
        network: whose parameters and buffers are not counted.

    Attributes:
        peak_bytes: most bytes alive at once.
        block_peak_bytes: of each direct child of the network, most bytes alive while it ran, those of earlier blocks
            that were still needed included.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        owned = [*network.parameters(), *network.buffers()]
        self._ignored = {tensor.untyped_storage()._cdata for tensor in owned}
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self._blocks: list[str] = []
        self.peak_bytes = 0
        self.block_peak_bytes = {name: 0 for name, _ in network.named_children()}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                storage = value.untyped_storage()
                if storage._cdata not in self._ignored:
                    self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self._alive = {key: entry for key, entry in self._alive.items() if not entry[0].expired()}
        now = sum(size for _, size in self._alive.values())
        self.peak_bytes = max(self.peak_bytes, now)
        for name in self._blocks:
            self.block_peak_bytes[name] = max(self.block_peak_bytes[name], now)
        return result

    def enter_block(self, name: str) -> None:
        """A block begins."""
        self._blocks.append(name)

    def leave_block(self) -> None:
        """The block that began last ends."""
        self._blocks.pop()


def activation_memory_mb(network: nn.Module, *inputs: torch.Tensor) -> dict[str, float]:
    """Peak memory of the activations of one forward pass, in MB (10⁶ bytes).

    Args:
        network: run as it is, without gradients.
        inputs: of its forward.

    Returns: for every direct child that ran, and in all ("total").
    """
    meter = ActivationMeter(network)
    hooks = []
    for name, block in network.named_children():
        hooks.append(block.register_forward_pre_hook(lambda *_, name=name: meter.enter_block(name)))
        hooks.append(block.register_forward_hook(lambda *_: meter.leave_block()))
    try:
        with torch.no_grad(), meter:
            network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    blocks = {name: size / 1e6 for name, size in meter.block_peak_bytes.items() if size}
    return {**blocks, "total": meter.peak_bytes / 1e6}
