"""How many processes label one set, and what they check before; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class RunOptions:
    """How a labelling runs; the labels do not depend on it.

    Args:
        devices: processes on this machine, each with a GPU of its own where the teacher uses one. Under torchrun or
            srun the launcher says it; 1 otherwise.
        nodes: machines; each must be started by torchrun or srun.
        verify: compare every checksum of what earlier runs made, and label damaged frames again; without it only the
            last 16 frames are checked.
    """

    devices: int | None = field(default=None, kw_only=True)
    nodes: int | None = field(default=None, kw_only=True)
    verify: bool = field(default=False, kw_only=True)
