"""Named FoundationStereo networks, to build one with fresh weights.

The released checkpoints bring their own configuration; see `teacher.checkpoints`.
"""

from __future__ import annotations

from dataclasses import dataclass

from teacher.foundation_stereo import FoundationStereoConfig


@dataclass(frozen=True)
class FoundationStereoPreset:
    """A network and how it is trained.

    Args:
        config: everything that decides the network.
        iterations: refinement steps in training.
    """

    config: FoundationStereoConfig
    iterations: int


PRESETS = {
    # As published: checkpoints 23-51-11 (ViT-L) and 11-33-40 (ViT-S), trained with 22 iterations.
    "foundation_stereo_vitl": FoundationStereoPreset(FoundationStereoConfig(vit="vitl"), 22),
    "foundation_stereo_vits": FoundationStereoPreset(FoundationStereoConfig(vit="vits"), 22),
    # For ablations and tests on small machines: every block is there and narrow. 32 planes, so that an axial kernel of
    # 17 sees half of them.
    "foundation_stereo_tiny": FoundationStereoPreset(
        FoundationStereoConfig(
            vit="tiny", max_disp=128, cnn_widths=(16, 24, 32, 48), cnn_depths=(1, 2, 2, 2), volume_width=8, groups=8,
            concat_channels=4, hidden=16, context_widths=(8, 12, 16), encoder_widths=(48, 16), mask_width=16,
        ),
        2,
    ),
}  # fmt: skip
