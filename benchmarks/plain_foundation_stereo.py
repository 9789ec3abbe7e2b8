"""FoundationStereo written plainly, as the paper and its published code describe it: what the fast one is held against.

Planes of the cost volume are made one by one, attention matrices are materialised, costs are looked up by a bilinear
sampler in every iteration, all convolutions have the rank of what they work on and every input of a GRU passes its
convolutions in every iteration. The weights are those of `teacher.foundation_stereo.FoundationStereo`.

    B batch, C channels, D disparity planes, H height, W width (of the 1/4 map), T taps of the lookup
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from unittest import mock

import torch
import torch.nn.functional as F
from torch import nn

from teacher.blocks.axial_planar_convolution import set_form
from teacher.blocks.hybrid_cost_volume import FOUNDATION_STEREO_FLOOR, HybridCostVolume
from teacher.blocks.precision import full_precision
from teacher.context_network import LevelContext
from teacher.cost_filtering import CostHourglass
from teacher.dpt_head import resize_aligned
from teacher.foundation_stereo import FoundationStereo, FoundationStereoConfig, Predictions, Start, Watch, nothing
from teacher.refinement import LEVELS, RADIUS, UpdateBlock, pooled
from teacher.side_tuning import Features


def materialised_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Softmax attention whose matrix is a tensor. Input and output: (..., L, C)."""
    weights = torch.softmax(query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5, dim=-1)
    return weights @ value


@contextlib.contextmanager
def attention_materialised() -> Iterator[None]:
    """Inside, all attention of the network is `materialised_attention`: its modules call torch's through `F`."""
    with mock.patch.object(F, "scaled_dot_product_attention", materialised_attention):
        yield


def unit_groups(features_BCHW: torch.Tensor, groups: int) -> torch.Tensor:
    """Feature vectors of each group at unit length, (B, G, C/G, H, W), full precision."""
    batch, channels, height, width = features_BCHW.shape
    return F.normalize(full_precision(features_BCHW).reshape(batch, groups, channels // groups, height, width), dim=2)


class PlainCostVolume(HybridCostVolume):
    """The hybrid cost volume, one plane at a time."""

    def forward(self, left_BCHW: torch.Tensor, right_BCHW: torch.Tensor, *, planes: int) -> torch.Tensor:
        assert self.projection is not None
        batch, _, height, width = left_BCHW.shape
        left_unit, right_unit = unit_groups(left_BCHW, self.groups), unit_groups(right_BCHW, self.groups)
        left_part, right_part = self.projection(left_BCHW), self.projection(right_BCHW)
        correlation = left_part.new_zeros(batch, self.groups, planes, height, width)
        concat = left_part.new_zeros(batch, 2 * left_part.shape[1], planes, height, width)
        for plane in range(planes):
            concat[:, : left_part.shape[1], plane] = left_part
            if plane < width:
                there = slice(None, width - plane)
                correlation[:, :, plane, :, plane:] = (left_unit[..., plane:] * right_unit[..., there]).sum(dim=2)
                concat[:, left_part.shape[1] :, plane, :, plane:] = right_part[..., there]
        return torch.cat([correlation, concat], dim=1)


class PlainHourglass(CostHourglass):
    """The hourglass, every intermediate volume kept to the end."""

    def forward(self, volume_BCDHW: torch.Tensor, features: Features) -> torch.Tensor:
        eighth = self.gate_down[0](self.down[0](volume_BCDHW), features.eighth)
        sixteenth = self.gate_down[1](self.down[1](eighth), features.sixteenth)
        thirtysecond = self.gate_down[2](self.down[2](sixteenth), features.thirtysecond)
        up_sixteenth = self.up_stages[1](thirtysecond, sixteenth, features.sixteenth)
        up_eighth = self.up_stages[0](up_sixteenth, eighth, features.eighth)
        merged = self.up(up_eighth)
        if self.transformer is not None:
            attended = self.transformer.attend(volume_BCDHW)
            enlarged = F.interpolate(attended, scale_factor=4.0, mode="trilinear", align_corners=False)
            merged = merged + enlarged
        return self.finish(merged)


def sample(rows: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Read rows by the bilinear sampler.

    Args:
        rows: (N, C, 1, L).
        positions: (N, 1, T, 1), in entries.

    Returns: (N, C, T).
    """
    across = 2 * positions / (rows.shape[3] - 1) - 1
    grid = torch.cat([across, torch.zeros_like(across)], dim=-1)
    return F.grid_sample(rows, grid, mode="bilinear", padding_mode="zeros", align_corners=True)[:, :, 0]


class PlainGeometry:
    """Costs as one row per pixel, at two resolutions, read by the bilinear sampler.

    Args:
        volume_BCDHW: filtered volume, (B, C, D, H, W).
        left_BCHW, right_BCHW: features at 1/4.
    """

    def __init__(self, volume_BCDHW: torch.Tensor, left_BCHW: torch.Tensor, right_BCHW: torch.Tensor) -> None:
        batch, channels, planes, height, width = volume_BCDHW.shape
        volume = full_precision(volume_BCDHW).permute(0, 3, 4, 1, 2).reshape(-1, channels, 1, planes)
        left, right = (F.normalize(full_precision(side), dim=1) for side in (left_BCHW, right_BCHW))
        with torch.autocast(left.device.type, enabled=False):
            correlation = torch.einsum("bchx,bchy->bhxy", left, right).reshape(-1, 1, 1, width)
        self.shape = (batch, height, width)
        self.levels = [(volume, correlation)]
        for _ in range(LEVELS - 1):
            volume, correlation = F.avg_pool2d(volume, (1, 2)), F.avg_pool2d(correlation, (1, 2))
            self.levels.append((volume, correlation))

    def lookup(self, disparity_B1HW: torch.Tensor) -> torch.Tensor:
        """Costs around the disparity, (B, LEVELS * (C + 1) * T, H, W)."""
        batch, height, width = self.shape
        offsets = torch.arange(-RADIUS, RADIUS + 1, device=disparity_B1HW.device, dtype=disparity_B1HW.dtype)
        columns = torch.arange(width, device=disparity_B1HW.device, dtype=disparity_B1HW.dtype)
        at_volume = disparity_B1HW.reshape(-1, 1, 1, 1)
        at_correlation = (columns - disparity_B1HW).reshape(-1, 1, 1, 1)
        taps = []
        for level, (volume, correlation) in enumerate(self.levels):
            for rows, centre in ((volume, at_volume), (correlation, at_correlation)):
                read = sample(rows, centre / 2**level + offsets[:, None])
                taps.append(read.reshape(batch, height, width, -1))
        return torch.cat(taps, dim=-1).permute(0, 3, 1, 2).contiguous()


def plain_update(
    update: UpdateBlock,
    states: Sequence[torch.Tensor],
    contexts: Sequence[LevelContext],
    costs: torch.Tensor,
    disparity_B1HW: torch.Tensor,
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """One step, each GRU given all its inputs; see `UpdateBlock.forward`."""
    fine, middle, coarse = states
    inputs = [context.inputs for context in contexts]
    coarse = update.grus[2](coarse, torch.cat([inputs[2], pooled(middle)], dim=1), contexts[2].attention)
    around = torch.cat([inputs[1], pooled(fine), resize_aligned(coarse, middle.shape[2:])], dim=1)
    middle = update.grus[1](middle, around, contexts[1].attention)
    motion = update.encoder(costs, disparity_B1HW)
    around = torch.cat([inputs[0], motion, resize_aligned(middle, fine.shape[2:])], dim=1)
    fine = update.grus[0](fine, around, contexts[0].attention)
    return [fine, middle, coarse], update.disp_head(fine)


class PlainFoundationStereo(FoundationStereo):
    """The network, written plainly; the same state dict and results as `FoundationStereo`."""

    def __init__(self, config: FoundationStereoConfig) -> None:
        super().__init__(config)
        filtering, channels = self.filtering, self.features.channels
        filtering.cost_volume = PlainCostVolume(
            channels[0], groups=config.groups, concat_channels=config.concat_channels, floor=FOUNDATION_STEREO_FLOOR
        )
        filtering.hourglass = PlainHourglass(
            config.volume_width,
            channels[1:],
            kind=config.filter_kind,
            disparity_kernel=config.disparity_kernel,
            transformer_layers=config.transformer_layers,
            attention_axis=config.attention_axis,
        )
        filtering.classifier[-1] = nn.Conv3d(config.volume_width // 2, 1, 7, padding=3)
        set_form(self, "conv3d")

    def predict_sequence(
        self, left: torch.Tensor, right: torch.Tensor, *, iterations: int, every: bool = True
    ) -> Predictions:
        """See `FoundationStereo`."""
        with attention_materialised():
            return super().predict_sequence(left, right, iterations=iterations, every=every)

    def start(
        self,
        images_BCHW: torch.Tensor,
        left: Features,
        right: Features,
        *,
        initial: torch.Tensor | None = None,
        watch: Watch = nothing,
    ) -> Start:
        """See `FoundationStereo`; every volume is kept to the end."""
        filtering = self.filtering
        raw = filtering.cost_volume(left.quarter, right.quarter, planes=self.planes)
        stem = filtering.stem(raw)
        gated = filtering.stem_gate(stem, left.quarter)
        volume = filtering.hourglass(gated, left)
        watch("volume", volume)
        probabilities = torch.softmax(full_precision(filtering.classifier(volume).squeeze(1)), dim=1)
        planes = torch.arange(self.planes, device=volume.device, dtype=probabilities.dtype).reshape(1, -1, 1, 1)
        expected = (probabilities * planes).sum(dim=1, keepdim=True)
        return Start(
            PlainGeometry(volume, left.quarter, right.quarter),  # type: ignore[arg-type]  # the same `lookup`
            self.context(images_BCHW, left.mono),
            self.upsampling.stem(images_BCHW),
            expected if initial is None else full_precision(initial),
        )

    def iterate(
        self,
        start: Start,
        *,
        iterations: int,
        every: bool = False,
        both_until: int | None = None,
        watch: Watch = nothing,
    ) -> list[torch.Tensor]:
        """See `FoundationStereo`.

        Raises:
            NotImplementedError: `both_until` is given; what it saves is measured against full passes.
        """
        if both_until is not None:
            raise NotImplementedError("the plain network runs one direction at a time")
        disparity = start.disparity
        states = [context.state for context in start.contexts]
        sequence = []
        for iteration in range(iterations):
            disparity = disparity.detach()
            costs = start.geometry.lookup(disparity)
            states, correction = plain_update(self.update, states, start.contexts, costs, disparity)
            watch("correction", correction)
            disparity = disparity + full_precision(correction)
            watch("disparity", disparity)
            if every or iteration == iterations - 1:
                sequence.append(self.upsampled(disparity, states[0], start.image_half))
        return sequence
