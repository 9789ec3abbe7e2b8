"""A student in PyTorch behind deploy's Runner protocol: the FP32 reference beside the compiled variants.

# B batch (1), H height, W width
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from deploy.runners.protocol import Runner
from stereo.artifacts import sha256_file
from stereo.errors import UserError
from stereo.fit_size import Fit
from stereo.pair import Disparity, StereoPair
from student.checkpoint import find_student, load_student
from student.export import graph_metadata
from student.model import SIZE_MULTIPLE, StudentStereo
from teacher.checkpoints import is_foundation_stereo
from teacher.foundation_runner import open_foundation_stereo

Floats = npt.NDArray[np.float32]


class TorchRunner:
    """Run a student on the CPU in float32; see `deploy.runners.protocol.Runner`."""

    runtime = "torch"
    precision_hint = "f32"

    def __init__(
        self, student: StudentStereo, *, threads: int, source_sha256: str, size: tuple[int, int] | None
    ) -> None:
        self.student = student.eval()
        self.threads = threads
        self.runtime_version: str = str(torch.__version__)
        self.input_size = size
        self.metadata = graph_metadata(student, precision="fp32", source_sha256=source_sha256, apc_form="conv3d")

    def run(self, left: Floats, right: Floats) -> Floats:
        """See `deploy.runners.protocol.Runner.run`."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with torch.inference_mode():
                return self.student(torch.from_numpy(left), torch.from_numpy(right)).numpy()
        finally:
            torch.set_num_threads(before)

    def close(self) -> None:
        """Nothing to free beyond the weights."""


def open_torch(
    path: Path | str,
    *,
    threads: int,
    precision_hint: str,
    size: tuple[int, int] | None,
    iterations: int | None = None,
    max_disp: int | None = None,
) -> Runner:
    """Open a student file, or a FoundationStereo of `convert-teacher`; see `deploy.runners.registry.open_runner`."""
    path = find_student(path)
    if is_foundation_stereo(path):
        if max_disp is not None:
            raise UserError("FoundationStereo keeps its disparity range", where=path, fix="leave --max-disp out")
        return open_foundation_stereo(
            path, threads=threads, precision_hint=precision_hint, size=size, iterations=iterations
        )
    if precision_hint != "f32":
        raise UserError(f"torch runs students in f32, not {precision_hint}", where=path, fix="--precision-hints f32")
    student = load_student(path, max_disp=max_disp, iterations=iterations)
    return TorchRunner(student, threads=threads, source_sha256=sha256_file(path), size=size)


def predict_pair(student: StudentStereo, pair: StereoPair) -> Disparity:
    """Disparity of a pair of any size, float32 H×W px, on the student's own device; leaves all layers' modes alone."""
    fit = Fit.to_multiple(pair.height, pair.width, SIZE_MULTIPLE)
    device = next(student.parameters()).device
    left, right = (torch.from_numpy(fit.apply(image))[None].to(device) for image in (pair.left, pair.right))
    # Layer by layer: in a training with frozen batch norm the modes differ.
    modes = [(layer, layer.training) for layer in student.modules()]
    student.eval()
    with torch.no_grad():
        disparity = student(left, right)
    for layer, training in modes:
        layer.training = training
    return fit.undo(disparity[0, 0].float().cpu().numpy())
