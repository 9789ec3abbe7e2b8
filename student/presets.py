"""Named students. A preset is a `StudentConfig`; disparity range and iterations are arguments."""

from __future__ import annotations

import dataclasses

from stereo.errors import UserError
from student.model import SIZE_MULTIPLE, StudentConfig, StudentStereo

PRESETS: dict[str, StudentConfig] = {
    "nano": StudentConfig(preset="nano"),
    "small": StudentConfig(
        preset="small", widths=(32, 48, 96, 128), matching_channels=32, volume_widths=(32, 64, 96),
        transformer_heads=4, hidden=64, context=32, motion=32, mask_width=32,
    ),
    # For tests of the machinery: every block is there, nothing is good.
    "tiny": StudentConfig(
        preset="tiny", widths=(8, 16, 16, 16), blocks=(1, 1, 1), groups=4, concat_channels=4, matching_channels=8,
        volume_widths=(8, 8, 8), transformer_layers=1, hidden=16, context=8, motion=8, mask_width=16,
    ),
}  # fmt: skip


def build_student(name: str, *, max_disp: int | None = None, iterations: int | None = None) -> StudentStereo:
    """Build a student with fresh weights.

    Args:
        name: a key of `PRESETS`.
        max_disp: disparity range in pixels, a multiple of 32; the preset's when None.
        iterations: refinement steps, at least 1; the preset's when None.

    Raises:
        UserError: no such preset, or a value out of range.
    """
    if name not in PRESETS:
        raise UserError(f"no student preset '{name}'", fix=f"one of: {', '.join(PRESETS)}")
    return StudentStereo(adapt(PRESETS[name], max_disp=max_disp, iterations=iterations))


def adapt(config: StudentConfig, *, max_disp: int | None = None, iterations: int | None = None) -> StudentConfig:
    """A student's configuration with another disparity range or number of iterations; None keeps the old one."""
    max_disp = config.max_disp if max_disp is None else max_disp
    iterations = config.iterations if iterations is None else iterations
    if max_disp < SIZE_MULTIPLE or max_disp % SIZE_MULTIPLE:
        nearest = max(SIZE_MULTIPLE, round(max_disp / SIZE_MULTIPLE) * SIZE_MULTIPLE)
        raise UserError(f"max_disp {max_disp} is not a multiple of {SIZE_MULTIPLE}", fix=f"nearest: {nearest}")
    if iterations < 1:
        raise UserError(f"iterations {iterations} is less than 1", fix="the preset's own number is a good start")
    return dataclasses.replace(config, max_disp=max_disp, iterations=iterations)
