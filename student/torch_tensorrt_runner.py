"""A student compiled by Torch-TensorRT behind deploy's Runner protocol, for GPU servers that have torch anyway.

Not yet run on hardware: held by a stand-in for its interface. On a Jetson build an engine instead: the
last release for Orin is that of torch 2.8.
https://docs.pytorch.org/TensorRT

# B batch (1), H height, W width
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from deploy.runners.protocol import Runner
from stereo.artifacts import sha256_file
from stereo.errors import UserError, require
from student.checkpoint import find_student, load_student
from student.export import graph_metadata
from student.model import StudentStereo

Floats = npt.NDArray[np.float32]
# torch → the Torch-TensorRT that was built against it: both carry the same numbers.
# https://github.com/pytorch/TensorRT/releases
VERSIONS = {f"2.{minor}": f"2.{minor}" for minor in range(8, 15)}
log = logging.getLogger(__name__)


class TorchTensorRtRunner:
    """A compiled student on the first GPU; see `deploy.runners.protocol.Runner`."""

    runtime = "torch_tensorrt"
    precision_hint = "f32"

    def __init__(
        self,
        compiled: torch.nn.Module,
        *,
        version: str,
        device: torch.device,
        threads: int,
        size: tuple[int, int],
        metadata: dict[str, str],
    ) -> None:
        self.runtime_version, self.threads, self.metadata = version, threads, metadata
        self.input_size: tuple[int, int] | None = size
        self._compiled: torch.nn.Module | None = compiled
        self._device = device

    def run(self, left: Floats, right: Floats) -> Floats:
        """See `deploy.runners.protocol.Runner.run`."""
        assert self._compiled is not None, "closed"
        with torch.inference_mode():
            images = (torch.from_numpy(image).to(self._device) for image in (left, right))
            # Copying to the processor waits for the GPU.
            return self._compiled(*images).float().cpu().numpy()

    def close(self) -> None:
        """Drop the engine and give its memory back."""
        self._compiled = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def open_torch_tensorrt(
    path: Path | str,
    *,
    threads: int,
    precision_hint: str,
    size: tuple[int, int] | None,
    iterations: int | None = None,
    max_disp: int | None = None,
) -> Runner:
    """Compile a student for one size; see `deploy.runners.registry.open_runner`.

    Raises:
        UserError: no size, no GPU, or a Torch-TensorRT that was not built for this torch.
    """
    path = find_student(path)
    if size is None:
        raise UserError("torch_tensorrt compiles for one size", where=path, fix="give --size, such as --size 480x640")
    torch_tensorrt: Any = require("torch_tensorrt", hint="pip install 'stereodistill[torch-tensorrt]'")
    check_versions(torch.__version__, torch_tensorrt.__version__)
    device = gpu()
    student = load_student(path, max_disp=max_disp, iterations=iterations).eval().to(device)
    metadata = graph_metadata(student, precision="fp32", source_sha256=sha256_file(path), apc_form="conv3d")
    log.info("compiling %s for %dx%d: this takes minutes", path.name, *size)
    return TorchTensorRtRunner(
        compile_student(torch_tensorrt, student, size=size, device=device),
        version=str(torch_tensorrt.__version__),
        device=device,
        threads=threads,
        size=size,
        metadata={**metadata, "runtime.device": gpu_name(device)},
    )


def compile_student(
    torch_tensorrt: Any, student: StudentStereo, *, size: tuple[int, int], device: torch.device
) -> torch.nn.Module:
    """The whole student as one strongly typed engine in float32, TF32 off; nothing falls back to torch in silence.

    Raises:
        UserError: it cannot be compiled as a whole.
    """
    example = torch.zeros(1, 3, *size, device=device)
    try:
        return torch_tensorrt.compile(
            student,
            ir="dynamo",
            inputs=[example, example.clone()],
            use_explicit_typing=True,
            disable_tf32=True,
            require_full_compilation=True,
        )
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise UserError(f"torch_tensorrt {torch_tensorrt.__version__} cannot compile it: {reason}",
                        fix="stereodistill export and build make an engine of it") from error  # fmt: skip


def check_versions(torch_version: str, torch_tensorrt_version: str) -> None:
    """Hold Torch-TensorRT to the torch it was built against.

    Raises:
        UserError: it was built against another, or no pair is known.
    """
    ours, theirs = (".".join(version.split(".")[:2]) for version in (torch_version, torch_tensorrt_version))
    wanted = VERSIONS.get(ours)
    if wanted is None:
        known = f"{next(iter(VERSIONS))} to {list(VERSIONS)[-1]}"
        raise UserError(f"no torch_tensorrt is known for torch {torch_version}", fix=f"torch {known} have one each")
    if theirs != wanted:
        raise UserError(f"torch_tensorrt {torch_tensorrt_version} was not built for torch {torch_version}",
                        fix=f"pip install 'torch-tensorrt=={wanted}.*'")  # fmt: skip


def gpu() -> torch.device:
    """The first GPU.

    Raises:
        UserError: torch sees none.
    """
    if not torch.cuda.is_available():
        raise UserError("torch_tensorrt needs an NVIDIA GPU, and torch sees none",
                        fix="--runtime torch runs on the CPU; stereodistill doctor tells more")  # fmt: skip
    return torch.device("cuda", 0)


def gpu_name(device: torch.device) -> str:
    """What torch calls it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
