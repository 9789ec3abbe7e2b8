"""What processes that train together tell each other; a single process tells itself."""

from __future__ import annotations

from typing import Any, TypeVar

import torch

Value = TypeVar("Value")


def several() -> bool:
    """Whether there are other processes."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def mean_over_processes(values: torch.Tensor) -> torch.Tensor:
    """Mean of each entry over all processes; without several of them, the values themselves. No gradient."""
    if not several():
        return values.detach()
    mean = values.detach().clone()
    torch.distributed.all_reduce(mean)
    return mean / torch.distributed.get_world_size()


def of_all_processes(value: Value) -> list[Value]:
    """The values of all processes, in their order."""
    if not several():
        return [value]
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values
