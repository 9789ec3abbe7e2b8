"""How much memory FoundationStereo will need, said before it runs instead of after it was killed.

The cost volume decides: it grows with pixels × disparity range. The factors were fitted to peaks measured in float32 on
a CPU, and lie about a quarter above them; those of half types on a GPU follow from what is kept in which type there and
were not measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from stereo.errors import UserError

# Filtered volumes (channels × planes × pixels of the 1/4 map) that exist at the peak, per pair in the batch: those in
# the type that is computed in, and those that stay in float32.
VOLUMES_COMPUTED = 3.5
VOLUMES_KEPT = 2.0
# Bytes per image pixel that do not depend on the disparity range: features, context, states, weights of the upsampling.
BYTES_PER_PIXEL = 2000
GB = 1e9


@dataclass(frozen=True)
class Need:
    """What one inference needs.

    Args:
        size_bytes: estimated peak beyond the weights.
        free_bytes: what the device has, None where it does not tell.
    """

    size_bytes: int
    free_bytes: int | None


def estimate_bytes(
    height: int, width: int, *, max_disp: int, volume_width: int, views: int, bytes_per_value: int
) -> int:
    """Estimated peak of one inference beyond the weights, in bytes.

    Args:
        height, width: of the padded images, px.
        views: 1, or 2 when both views are matched in one batch.
        bytes_per_value: 4 in float32, 2 in the half types.
    """
    volume = volume_width * (max_disp // 4) * (height // 4) * (width // 4)
    at_peak = volume * (VOLUMES_COMPUTED * bytes_per_value + VOLUMES_KEPT * 4)
    return round(views * (at_peak + BYTES_PER_PIXEL * height * width))


def free_bytes(device: torch.device) -> int | None:
    """Memory that could still be taken, in bytes; None where the system does not tell."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What PyTorch holds without using it can be used again.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    table = Path("/proc/meminfo")
    if not table.exists():
        return None
    for line in table.read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def check_memory(need: Need, *, what: str) -> None:
    """Refuse an inference that will not fit.

    Args:
        what: of which images, for the message.

    Raises:
        UserError: more is needed than there is.
    """
    if need.free_bytes is None or need.size_bytes <= need.free_bytes:
        return
    raise UserError(
        f"{what} would need about {need.size_bytes / GB:.1f} GB (estimated), {need.free_bytes / GB:.1f} GB are free",
        fix="--teacher.scale 0.5 takes about a quarter (an eighth with half of --teacher.max_disp), "
        "--teacher.consistency exact about half",
    )
