"""A student with more outputs than its disparity, for export alone.

confidence          how far the matching scores support the disparity, 0 to 1
disparity_quarter   before the learnt enlargement, at a quarter of the size, for whoever needs less

# B batch, D disparity planes, H height, W width
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from deploy.onnx_stereo import EXTRA_OUTPUTS, OUTPUT
from stereo.errors import UserError
from student.model import StudentStereo


def check_outputs(names: Sequence[str]) -> None:
    """Refuse an output that does not exist.

    Raises:
        UserError: with its name.
    """
    if unknown := [name for name in names if name not in EXTRA_OUTPUTS]:
        raise UserError(f"no output '{unknown[0]}'", where="--outputs", fix=f"there are {', '.join(EXTRA_OUTPUTS)}")


class ExportedStudent(StudentStereo):
    """The same network with the same module names, whose forward returns several maps.

    Args:
        student: whose weights it has.
        extra: names of `EXTRA_OUTPUTS`, returned after the disparity in this order.

    Raises:
        UserError: an output that does not exist.
    """

    def __init__(self, student: StudentStereo, extra: Sequence[str]) -> None:
        check_outputs(extra)
        super().__init__(student.config)
        self.load_state_dict(student.state_dict())
        self.extra = tuple(dict.fromkeys(extra))
        self.eval()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what comes out."""
        return (OUTPUT, *self.extra)

    # A graph has as many outputs as forward returns; nothing but the exporter calls this one.
    def forward(self, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, ...]:  # type: ignore[override]
        found = self.predict_sequence(left, right, every=False)
        assert found.quarter is not None
        assert found.scores is not None
        quarter = F.relu(found.quarter)
        maps = {"disparity_quarter": quarter}
        if "confidence" in self.extra:
            maps["confidence"] = confidence(found.scores, quarter)
        return (F.relu(found.sequence[-1]), *(maps[name] for name in self.extra))


def confidence(scores_BDHW: torch.Tensor, quarter: torch.Tensor) -> torch.Tensor:
    """Share of the matching probability that lies within one plane of the disparity, fading out over the next one.

    Low where the matching was undecided, as in textureless areas, and where the refinement left what was matched, as in
    occlusions. No probability of being right: a threshold is chosen on data of one's own.

    Args:
        scores_BDHW: matching scores at 1/8, higher is better.
        quarter: (B, 1, 2H, 2W) disparity in pixels of its size.

    Returns: (B, 1, 8H, 8W), 0 to 1.
    """
    position = F.avg_pool2d(quarter, 2) / 2
    planes = torch.arange(scores_BDHW.shape[1], device=quarter.device, dtype=quarter.dtype)[None, :, None, None]
    near = (2 - (planes - position).abs()).clamp(0, 1)
    weights = torch.exp(scores_BDHW - scores_BDHW.amax(dim=1, keepdim=True))
    share = (weights * near).sum(dim=1, keepdim=True) / weights.sum(dim=1, keepdim=True)
    return F.interpolate(share, scale_factor=8.0, mode="bilinear", align_corners=False)
