"""Where FoundationStereo spends its time: clocks around its parts, for benchmarks/foundation_stereo.py.

The parts of one inference follow each other and some nest: a part's line holds what is inside it, too.
"""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from teacher.foundation_stereo import FoundationStereo, Start

# Name in the table → module. Names of one part begin with the same word.
PARTS = {
    "features": "features",
    "features: vit": "features.mono.vit",
    "features: dpt": "features.mono.head",
    "features: cnn": "features.cnn",
    "features: decoder": "features.decoder.*",
    "features: fuse": "features.fuse",
    "start": "",
    "start: volume": "filtering.cost_volume",
    "start: stem": "filtering.stem",
    "start: hourglass": "filtering.hourglass",
    "start: hourglass, transformer": "filtering.hourglass.transformer.layers.*",
    "start: hourglass, last filters": "filtering.hourglass.finish",
    "start: classifier": "filtering.classifier",
    "start: context": "context",
    "iterations": "",
    "iterations: lookup": "",
    "iterations: encoder": "update.encoder",
    "iterations: gru 1/4": "update.grus.0",
    "iterations: gru 1/8": "update.grus.1",
    "iterations: gru 1/16": "update.grus.2",
    "iterations: head": "update.disp_head",
    "iterations: upsampling": "upsampling",
}


def now(device: torch.device) -> float:
    """Seconds: of the wall once a GPU has caught up, of the process on one CPU thread, whatever else is running."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif torch.get_num_threads() == 1:
        return time.process_time()
    return time.perf_counter()


class Stages:
    """Adds up the time spent in the parts of a network while `running`.

    Args:
        network: hooks and wrappers are put on it, for good.
        device: synchronised before and after every part, which on a GPU costs time of its own: do not run these clocks
            while the whole is timed.
    """

    def __init__(self, network: FoundationStereo, device: torch.device) -> None:
        self.device = device
        self.running = False
        self.spent: dict[str, float] = defaultdict(float)
        self._began: dict[str, float] = {}
        for name, path in PARTS.items():
            for module in self._modules(network, path):
                module.register_forward_pre_hook(functools.partial(self._before, name))
                module.register_forward_hook(functools.partial(self._after, name))
        make, refine = network.start, network.iterate

        def start(*args: Any, **kwargs: Any) -> Start:
            made = self.timed("start", make)(*args, **kwargs)
            made.geometry.lookup = self.timed("iterations: lookup", made.geometry.lookup)
            return made

        network.start = start  # type: ignore[method-assign]
        network.iterate = self.timed("iterations", refine)  # type: ignore[method-assign]

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time added to a part."""

        def call(*args: Any, **kwargs: Any) -> Any:
            self._begin(name)
            result = function(*args, **kwargs)
            self._end(name)
            return result

        return call

    def _modules(self, network: nn.Module, path: str) -> list[nn.Module]:
        """The module of that name, or all inside it for a name that ends in `*`; none where the network lacks it."""
        folder = path.removesuffix(".*")
        found = dict(network.named_modules()).get(folder) if path else None
        if found is None:
            return []
        return list(found.children()) if path.endswith("*") else [found]

    def _before(self, name: str, _module: nn.Module, _inputs: object) -> None:
        self._begin(name)

    def _after(self, name: str, _module: nn.Module, _inputs: object, _output: object) -> None:
        self._end(name)

    def _begin(self, name: str) -> None:
        if self.running:
            self._began[name] = now(self.device)

    def _end(self, name: str) -> None:
        if self.running:
            self.spent[name] += now(self.device) - self._began[name]
