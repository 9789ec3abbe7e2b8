"""What the quantiser's child process is asked, and what it answers: plain JSON both ways.

The request is a file. The answers come line by line on the child's standard output, one JSON object each with the key
`event`: "frame" (a calibration frame went through: its record), "made" (a graph is written: its role), "done" (the last
line), or "error" (`line` for the user).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from calibration.config import CalibrationMethod


@dataclass(frozen=True)
class ModeloptRequest:
    """One job for `calibration.modelopt_worker`.

    Args:
        fp32: the graph to convert.
        int8: where to write the graph with Q/DQ nodes.
        fp16: where to write the FP16 graph; None makes none, and leaves float32 all that is not quantised.
        label_set: folder of the calibration frames.
        frames: their positions in the set.
        size: (H, W) of the graph.
        method: how activation ranges are found.
        keep_fp32: names of nodes that stay in float32.
        keep_float: names of convolutions that are not quantised.
        mixed: where to write a second graph with Q/DQ nodes; None makes none.
        mixed_keep_float: names of convolutions that are not quantised in that one.
    """

    fp32: str
    int8: str
    fp16: str | None
    label_set: str
    frames: list[int]
    size: tuple[int, int]
    method: CalibrationMethod
    keep_fp32: list[str]
    keep_float: list[str]
    mixed: str | None = None
    mixed_keep_float: list[str] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @staticmethod
    def read(path: Path) -> ModeloptRequest:
        """Read what `write` wrote."""
        values = json.loads(path.read_text(encoding="utf-8"))
        return ModeloptRequest(**{**values, "size": tuple(values["size"])})
