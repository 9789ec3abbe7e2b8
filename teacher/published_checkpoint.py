"""Reading the published .pth files of FoundationStereo, nothing of which is ever executed."""

from __future__ import annotations

import contextlib
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from stereo.errors import UserError

OBTAIN = (
    "obtain FoundationStereo's weights from NVIDIA under its own licence (research use only): folder 23-51-11 (ViT-L) "
    "or 11-33-40 (ViT-S), linked from github.com/NVlabs/FoundationStereo; put it anywhere, say weights/23-51-11/, and "
    "give its model_best_bp2.pth (docs/teacher.md tells more)"
)
# What torch's files begin with.
ZIP = b"PK\x03\x04"


def read_pth(path: Path) -> Mapping[str, torch.Tensor]:
    """The state dict in a published .pth, nothing of which is executed.

    Raises:
        UserError: damaged, or no weights.
    """
    with path.open("rb") as file:
        begins = file.read(4)
    if not begins or (begins == ZIP and not zipfile.is_zipfile(path)):
        raise truncated(path, "its end is missing")
    try:
        with allowed_numbers():
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = next((line for line in str(error).splitlines() if "GLOBAL" in line), str(error).splitlines()[0])
        raise UserError(
            f"holds pickled code instead of weights, which is never executed ({reason.strip()})", where=path,
            fix="FoundationStereo's own checkpoints load; Fast-FoundationStereo is published as pickled networks: "
            "export it to ONNX with its own tools and use --teacher onnx --teacher.model FILE.onnx",
        ) from error  # fmt: skip
    except (RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        raise truncated(path, (str(error) or type(error).__name__).splitlines()[0]) from error
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError("holds no weights: expected a dict of tensors under 'model'", where=path, fix=OBTAIN)
    return state


def truncated(path: Path, reason: str) -> UserError:
    """The error for a damaged file."""
    fix = "compare its size with the original and fetch it again"
    return UserError(f"cannot be read, it is truncated or damaged: {reason}", where=path, fix=fix)


@contextlib.contextmanager
def allowed_numbers() -> Iterator[None]:
    """Let checkpoints hold numpy numbers (a step count, say) beside their tensors."""
    import numpy as np

    try:
        from numpy._core.multiarray import scalar
    except ImportError:  # numpy 1
        from numpy.core.multiarray import scalar
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32)]
    # Files of numpy 1 name the old module.
    names: list[Any] = [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds]
    with torch.serialization.safe_globals(names):
        yield
