"""An exponential moving average of a network's weights (Polyak and Juditsky 1992), kept beside them while they train.

The average moves smoothly where the weights jump from batch to batch. Batch statistics are averaged too, because those
of the jumping weights are not those of the average.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn


class WeightAverage:
    """The average of a network's state.

    Args:
        network: whose weights and buffers are averaged; it is changed by `swapped` alone, and only for its length.
        decay: share of the average that is left after a step. Early averages forget faster, or the first random
            weights would be in them for long: after n steps the decay is at most (1 + n) / (10 + n).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay, self.steps = network, decay, 0
        self.average = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights after a step in."""
        self.steps += 1
        keep = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, tensor in self.network.state_dict().items():
            average = self.average[name]
            if average.device != tensor.device:
                average = self.average[name] = average.to(tensor.device)
            if average.is_floating_point():
                average.lerp_(tensor, 1 - keep)
            else:
                average.copy_(tensor)  # counters

    @contextlib.contextmanager
    def swapped(self) -> Iterator[None]:
        """The network with the averaged weights in place, within a `with` block; bit by bit its own afterwards."""
        own = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        self.network.load_state_dict(self.average)
        try:
            yield
        finally:
            self.network.load_state_dict(own)

    def state_dict(self) -> dict[str, object]:
        """What a checkpoint keeps."""
        return {"steps": self.steps, "average": self.average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.steps = int(state["steps"])
        self.average = {name: tensor.clone() for name, tensor in state["average"].items()}
