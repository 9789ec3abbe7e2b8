"""Where half types would lose what matters, the computation steps up to float32."""

from __future__ import annotations

import torch


def full_precision(tensor: torch.Tensor) -> torch.Tensor:
    """float16 and bfloat16 become float32; float32 and float64 stay as they are."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
