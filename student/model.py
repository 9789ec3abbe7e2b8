"""The student: a compact stereo network from FoundationStereo's blocks (arXiv 2501.09898), written for the exporter.

    images ─ backbone ─ f4, f8, f16 ─┬─ hybrid cost volume (1/8) ─ hourglass of APC + DT ─ soft-argmin ─ disparity (1/8)
                                     │                                                      convex upsampling (1/4) │
                                     ├─ row correlation (1/4) ──── lookup ─┐                                        │
                                     └─ context (left, 1/4) ─────── selective GRU × iterations ◀────────────────────┘
                                                                           └─ convex upsampling ─ disparity (1/1)

Static shapes, no loop over planes, no 5-D sampling, no transposed convolution; weights do not depend on the disparity
range or the number of iterations, so both may be chosen again at export.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from student.backbone import Backbone, Features, MatchingProjections
from student.refinement import ContextNetwork, Geometry, Refinement
from teacher.blocks.axial_planar_convolution import AxialPlanarConv, Form, set_form
from teacher.blocks.convex_upsampling import convex_upsample
from teacher.blocks.convolution import ConvNormAct
from teacher.blocks.hourglass import Hourglass
from teacher.blocks.hybrid_cost_volume import HybridCostVolume, row_correlation
from teacher.blocks.soft_argmin import soft_argmin

# ImageNet statistics of RGB in 0..1, the convention of FoundationStereo's inputs.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# Three halvings to the volume, two more in the hourglass.
SIZE_MULTIPLE = 32


@dataclasses.dataclass(frozen=True)
class StudentConfig:
    """Everything that decides a student's weights and graph; saved with the weights.

    Args:
        preset: name of the preset it came from.
        max_disp: disparity range in pixels, a multiple of 32.
        iterations: refinement steps.
        widths: backbone channels at 1/2, 1/4, 1/8, 1/16.
        blocks: backbone residual blocks at 1/4, 1/8, 1/16.
        groups, concat_channels: of the hybrid cost volume.
        matching_channels: of the features that are correlated at 1/4.
        volume_widths: hourglass channels at 1/8, 1/16, 1/32.
        disparity_kernel: planes an axial convolution sees.
        transformer_layers, transformer_heads, transformer_patch: disparity transformer.
        lookup_channels: channels of the filtered volume kept for the lookup.
        lookup_radius: taps of the lookup on each side.
        hidden, context, motion: channels of the refinement.
        mask_width: hidden channels of the upsampling head.
    """

    preset: str
    max_disp: int = 192
    iterations: int = 2
    widths: tuple[int, int, int, int] = (16, 32, 64, 96)
    blocks: tuple[int, int, int] = (1, 1, 2)
    groups: int = 8
    concat_channels: int = 12
    matching_channels: int = 24
    volume_widths: tuple[int, ...] = (16, 32, 48)
    disparity_kernel: int = 9
    transformer_layers: int = 2
    transformer_heads: int = 2
    transformer_patch: int = 2
    lookup_channels: int = 8
    lookup_radius: int = 4
    hidden: int = 32
    context: int = 16
    motion: int = 16
    mask_width: int = 32


class StudentPredictions(NamedTuple):
    """What the losses see."""

    initial: torch.Tensor  # (B, 1, H/8, W/8), px of that resolution
    sequence: list[torch.Tensor]  # (B, 1, H, W) px each, last is best
    scores: torch.Tensor | None = None  # (B, D, H/8, W/8), what the initial disparity is the expectation of
    features: Features | None = None  # of both eyes in one batch, left first
    quarter: torch.Tensor | None = None  # (B, 1, H/4, W/4), px of that resolution: what the last of `sequence` enlarges


class StudentStereo(nn.Module):
    """Compact stereo network; build it with `student.presets.build_student`.

    Input: left and right, (B, 3, H, W), RGB 0–255, H and W multiples of 32.
    Output: (B, 1, H, W), float32 left-view disparity in pixels, not negative.
    """

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.config = config
        _, quarter, eighth, sixteenth = config.widths
        volume = config.volume_widths[0]
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", 255 * torch.tensor(MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(STD).reshape(1, 3, 1, 1), persistent=False)
        self.backbone = Backbone(config.widths, config.blocks)
        self.matching = MatchingProjections(quarter, eighth, outputs=config.matching_channels)
        self.cost_volume = HybridCostVolume(eighth, groups=config.groups, concat_channels=config.concat_channels)
        self.volume_stem = nn.Sequential(
            ConvNormAct(3, self.cost_volume.outputs, volume, kernel=1),
            AxialPlanarConv(volume, volume, disparity_kernel=config.disparity_kernel),
        )
        gates = [sixteenth, *[0] * (len(config.volume_widths) - 2)]
        self.cost_filter = Hourglass(
            config.volume_widths,
            gates,
            disparity_kernel=config.disparity_kernel,
            transformer_layers=config.transformer_layers,
            transformer_heads=config.transformer_heads,
            transformer_patch=config.transformer_patch,
        )
        self.classifier = nn.Conv3d(volume, 1, 1)
        self.coarse_mask = nn.Conv2d(eighth, 9 * 4, 1)
        self.lookup_projection = nn.Conv3d(volume, config.lookup_channels, 1)
        self.context = ContextNetwork(quarter, hidden=config.hidden, context=config.context)
        self.refinement = Refinement(
            config.lookup_channels,
            hidden=config.hidden,
            context=config.context,
            motion=config.motion,
            radius=config.lookup_radius,
        )
        self.mask = nn.Sequential(
            nn.Conv2d(config.hidden + quarter, config.mask_width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(config.mask_width, 9 * 16, 1),
        )

    def set_apc_form(self, form: Form) -> None:
        """Choose how axial-planar convolutions are computed; the result stays the same to rounding."""
        set_form(self, form)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return F.relu(self.predict_sequence(left, right, every=False).sequence[-1])

    def predict_sequence(self, left: torch.Tensor, right: torch.Tensor, *, every: bool = True) -> StudentPredictions:
        """Run the network and keep what the losses need.

        Args:
            every: upsample after every iteration; otherwise only after the last.
        """
        features = self.backbone((torch.cat([left, right]) - self.mean) / self.std)
        # Not chunk(2): a graph with any number of pairs can be told that two halves are equal, not find it out.
        halves = [left.shape[0], right.shape[0]]
        quarter, eighth, sixteenth = (level.split(halves)[0] for level in features)
        matched_quarter, matched_eighth = self.matching(features)

        volume = self.volume_stem(self.cost_volume(*matched_eighth.split(halves), planes=self.config.max_disp // 8))
        gates = [sixteenth, *[None] * (len(self.config.volume_widths) - 2)]
        volume = self.cost_filter(volume, gates)
        scores = self.classifier(volume).squeeze(1)
        initial = soft_argmin(scores)

        geometry = Geometry(self.lookup_projection(volume), row_correlation(*matched_quarter.split(halves)))
        context = self.context(quarter)
        state = context.state
        disparity = convex_upsample(initial, self.coarse_mask(eighth), scale=2)
        sequence = []
        for iteration in range(self.config.iterations):
            # As in RAFT-Stereo, the gradient flows through the corrections, not through the lookup position; and once
            # through the enlargement of the initial disparity, whose weights have no other teacher.
            position = disparity.detach()
            state, correction = self.refinement(state, context, geometry, position)
            disparity = (disparity if iteration == 0 else position) + correction
            if every or iteration == self.config.iterations - 1:
                logits = self.mask(torch.cat([state, quarter], dim=1))
                sequence.append(convex_upsample(disparity, logits, scale=4))
        return StudentPredictions(initial, sequence, scores, features, disparity)
