"""FoundationStereo behind deploy's Runner protocol, so that `predict` and `evaluate` take its weights as a model.

# B batch (1), H height, W width
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from stereo.errors import UserError
from teacher.checkpoints import load_foundation_stereo
from teacher.foundation_stereo import FoundationStereo
from teacher.foundation_teacher import ITERATIONS, choose_device, cpu_threads
from teacher.fusing import prepare_for_inference

Floats = npt.NDArray[np.float32]


class FoundationRunner:
    """Run the network in float32, on a GPU when there is one; see `deploy.runners.protocol.Runner`."""

    runtime = "torch"
    precision_hint = "f32"

    def __init__(
        self, network: FoundationStereo, *, iterations: int, threads: int, size: tuple[int, int] | None
    ) -> None:
        self.device = choose_device("auto")
        self.network = prepare_for_inference(network.to(self.device), channels_last=self.device.type == "cpu")
        self.iterations = iterations
        self.threads = threads
        self.runtime_version: str = str(torch.__version__)
        self.input_size = size
        self.metadata = {
            "stereodistill.preset": f"foundation_stereo_{network.config.vit}",
            "stereodistill.max_disp": str(network.config.max_disp),
            "stereodistill.iterations": str(iterations),
            "stereodistill.precision": "fp32",
            "stereodistill.source_sha256": network.weights_sha256 or "",
            # Students are compared with it; nobody chooses it for a frame rate.
            "stereodistill.role": "reference",
            # A CPU is called by what the machine says it is.
            **({"runtime.device": torch.cuda.get_device_name(self.device)} if self.device.type == "cuda" else {}),
        }

    def run(self, left: Floats, right: Floats) -> Floats:
        """See `deploy.runners.protocol.Runner.run`."""
        with cpu_threads(self.threads):
            views = (torch.from_numpy(view).to(self.device) for view in (left, right))
            return self.network.predict(*views, iterations=self.iterations).float().cpu().numpy()

    def close(self) -> None:
        """Nothing to free beyond the weights."""


def open_foundation_stereo(
    path: Path | str,
    *,
    threads: int,
    precision_hint: str,
    size: tuple[int, int] | None,
    iterations: int | None = None,
) -> FoundationRunner:
    """Open weights of FoundationStereo; see `deploy.runners.registry.open_runner`.

    Args:
        iterations: refinement steps, 32 when left out.
    """
    if precision_hint != "f32":
        raise UserError(f"FoundationStereo runs in f32 here, not {precision_hint}", where=path,
                        fix="label runs it in half types: --teacher foundation_stereo --teacher.precision")  # fmt: skip
    network = load_foundation_stereo(path)
    return FoundationRunner(network, iterations=iterations or ITERATIONS, threads=threads, size=size)
