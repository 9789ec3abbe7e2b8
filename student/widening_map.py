"""Which channels of a student's layers are the same ones: the table that `student.widen` works by.

A space is a list of channels that several layers have in common: a residual stream, the state of the GRU. Its map says
which narrow channel every wide channel copies.
"""

from __future__ import annotations

import dataclasses

import torch

from student.model import StudentConfig
from student.refinement import ENCODED

Map = torch.Tensor  # (wide channels,), the narrow channel each copies


def tiled(narrow: int, wide: int) -> Map:
    """0, 1, …, narrow - 1, 0, 1, …"""
    return torch.arange(wide) % narrow


def in_groups(narrow: int, wide: int, groups: int) -> Map:
    """`tiled` within each of several equal groups of channels."""
    within = tiled(narrow // groups, wide // groups)
    return torch.cat([group * (narrow // groups) + within for group in range(groups)])


def in_pairs(narrow: int, wide: int) -> Map:
    """Pairs of neighbours beside their copies: a sine and a cosine then keep nearly the position code they had."""
    pairs = torch.arange(wide // 2) * (narrow // 2) // (wide // 2)
    return torch.stack([2 * pairs, 2 * pairs + 1], dim=1).reshape(-1)


def joined(*maps: tuple[Map, int]) -> Map:
    """The map of concatenated channels, from the map and the narrow width of each part."""
    parts, start = [], 0
    for channels, narrow in maps:
        parts.append(channels + start)
        start += narrow
    return torch.cat(parts)


def repeated(channels: Map, times: int) -> Map:
    """The map of channels that are each spread over several neighbouring ones."""
    return (channels[:, None] * times + torch.arange(times)).reshape(-1)


@dataclasses.dataclass(frozen=True)
class Rule:
    """Which spaces the weights of some layers read and write.

    Args:
        pattern: matches the names of the layers from their beginning.
        outputs, inputs: names of spaces; inputs None: one value per channel, as in a norm or a depthwise convolution.
        compared: the outputs are multiplied with each other (left with right) and added up: copies are scaled by the
            root of their share, so that products and lengths stay.
        reads_compared: the inputs are such outputs.
    """

    pattern: str
    outputs: str
    inputs: str | None = None
    compared: bool = False
    reads_compared: bool = False


def rules() -> list[Rule]:
    """A rule for every layer of `StudentStereo`; the first that matches counts."""
    table = [
        Rule(r"backbone\.stem\.0", "half", "image"),
        Rule(r"backbone\.stem\.1", "half"),
        *(rule for fine, coarse in (("half", "quarter"), ("quarter", "eighth"), ("eighth", "sixteenth"))
          for rule in (Rule(rf"backbone\.stage_{coarse}\.0\.0", coarse, fine),
                       Rule(rf"backbone\.stage_{coarse}\.\d+\.conv\d\.0", coarse, coarse),
                       Rule(rf"backbone\.stage_{coarse}\.", coarse))),
        *(rule for fine, coarse in (("eighth", "sixteenth"), ("quarter", "eighth"))
          for rule in (Rule(rf"backbone\.to_{fine}\.lateral", fine, coarse),
                       Rule(rf"backbone\.to_{fine}\.smooth\.0", fine, fine),
                       Rule(rf"backbone\.to_{fine}\.smooth\.1", fine))),
        Rule(r"matching\.quarter", "matched_quarter", "quarter", compared=True),
        Rule(r"matching\.eighth", "matched_eighth", "eighth", compared=True),
        Rule(r"cost_volume\.projection", "concat", "matched_eighth", reads_compared=True),
        Rule(r"volume_stem\.0\.0", "volume0", "cost"),
        Rule(r"volume_stem\.1\.(planar|axial)\.0", "volume0", "volume0"),
        Rule(r"volume_stem\.", "volume0"),
    ]  # fmt: skip
    for level in (0, 1):
        fine, coarse = f"volume{level}", f"volume{level + 1}"
        table += [
            Rule(rf"cost_filter\.down\.{level}\.0", coarse, fine),
            Rule(rf"cost_filter\.down\.{level}\.1", coarse),
            Rule(rf"cost_filter\.filter_down\.{level}\.(planar|axial)\.0", coarse, coarse),
            Rule(rf"cost_filter\.filter_down\.{level}\.", coarse),
            Rule(rf"cost_filter\.gate_down\.{level}\.reduce\.0", "gate", "sixteenth"),
            Rule(rf"cost_filter\.gate_down\.{level}\.reduce\.1", "gate"),
            Rule(rf"cost_filter\.gate_down\.{level}\.weigh", coarse, "gate"),
            Rule(rf"cost_filter\.reduce\.{level}\.0", fine, coarse),
            Rule(rf"cost_filter\.reduce\.{level}\.1", fine),
            Rule(rf"cost_filter\.merge\.{level}\.0", fine, f"two_{fine}"),
            Rule(rf"cost_filter\.merge\.{level}\.1", fine),
            Rule(rf"cost_filter\.filter_up\.{level}\.(planar|axial)\.0", fine, fine),
            Rule(rf"cost_filter\.filter_up\.{level}\.", fine),
        ]
    return [
        *table,
        Rule(r"cost_filter\.transformer\.(patchify|norm)", "volume0"),
        Rule(r"cost_filter\.transformer\.layers\.\d+\.(query|key|value)", "heads", "volume0"),
        Rule(r"cost_filter\.transformer\.layers\.\d+\.out", "volume0", "heads"),
        Rule(r"cost_filter\.transformer\.layers\.\d+\.expand", "feed_forward", "volume0"),
        Rule(r"cost_filter\.transformer\.layers\.\d+\.contract", "volume0", "feed_forward"),
        Rule(r"cost_filter\.transformer\.layers\.\d+\.norm", "volume0"),
        Rule(r"classifier", "one", "volume0"),
        Rule(r"coarse_mask", "coarse_mask", "eighth"),
        Rule(r"lookup_projection", "lookup", "volume0"),
        Rule(r"context\.conv", "state_context", "quarter"),
        Rule(r"context\.cam\.mlp\.0", "attention", "context"),
        Rule(r"context\.cam\.mlp\.2", "context", "attention"),
        Rule(r"context\.sam\.conv", "one", "two"),
        Rule(r"refinement\.motion_encoder\.volume_conv", "encoded", "lookup_taps"),
        Rule(r"refinement\.motion_encoder\.correlation_conv", "encoded", "taps"),
        Rule(r"refinement\.motion_encoder\.disparity_conv", "encoded", "one"),
        Rule(r"refinement\.motion_encoder\.merge", "motion", "three_encoded"),
        Rule(r"refinement\.gru\.conv0\.0", "motion", "context_motion"),
        Rule(r"refinement\.gru\.conv1\.0", "motion_state", "motion_state"),
        Rule(r"refinement\.gru\.(small|large)_gru\.gates", "two_states", "motion_state"),
        Rule(r"refinement\.gru\.(small|large)_gru\.candidate", "state", "state_motion"),
        Rule(r"refinement\.disparity_head\.0", "head", "state"),
        Rule(r"refinement\.disparity_head\.2", "one", "head"),
        Rule(r"mask\.0", "mask", "state_quarter"),
        Rule(r"mask\.2", "fine_mask", "mask"),
    ]


def spaces(narrow: StudentConfig, wide: StudentConfig) -> dict[str, Map]:
    """The map of every space."""

    def same(channels: int) -> Map:
        return torch.arange(channels)

    maps = {name: tiled(old, new) for name, old, new in zip(
        ("half", "quarter", "eighth", "sixteenth"), narrow.widths, wide.widths, strict=True)}  # fmt: skip
    volume = narrow.volume_widths
    maps["volume0"] = in_pairs(volume[0], wide.volume_widths[0])
    maps["volume1"] = tiled(volume[1], wide.volume_widths[1])
    maps["volume2"] = tiled(volume[2], wide.volume_widths[2])
    state, context, motion = (
        tiled(getattr(narrow, name), getattr(wide, name)) for name in ("hidden", "context", "motion")
    )
    taps = 2 * narrow.lookup_radius + 1
    return maps | {
        "image": same(3), "one": same(1), "two": same(2), "taps": same(taps),
        "coarse_mask": same(9 * 4), "fine_mask": same(9 * 16),
        "matched_quarter": tiled(narrow.matching_channels, wide.matching_channels),
        "matched_eighth": in_groups(narrow.widths[2], wide.widths[2], narrow.groups),
        "concat": same(narrow.concat_channels), "cost": same(narrow.groups + 2 * narrow.concat_channels),
        "gate": tiled(narrow.widths[3] // 2, wide.widths[3] // 2),
        "two_volume0": joined((maps["volume0"], volume[0]), (maps["volume0"], volume[0])),
        "two_volume1": joined((maps["volume1"], volume[1]), (maps["volume1"], volume[1])),
        "heads": repeated(tiled(narrow.transformer_heads, wide.transformer_heads),
                          volume[0] // narrow.transformer_heads),
        "feed_forward": tiled(volume[0], wide.volume_widths[0]),
        "lookup": same(narrow.lookup_channels), "lookup_taps": same(narrow.lookup_channels * taps),
        "encoded": same(ENCODED), "three_encoded": same(3 * ENCODED),
        "state": state, "context": context, "motion": motion,
        "attention": tiled(max(narrow.context // 4, 1), max(wide.context // 4, 1)),
        "state_context": joined((state, narrow.hidden), (context, narrow.context)),
        "context_motion": joined((context, narrow.context), (motion, narrow.motion)),
        "motion_state": joined((motion, narrow.motion), (state, narrow.hidden)),
        "state_motion": joined((state, narrow.hidden), (motion, narrow.motion)),
        "two_states": joined((state, narrow.hidden), (state, narrow.hidden)),
        "state_quarter": joined((state, narrow.hidden), (maps["quarter"], narrow.widths[1])),
        "head": tiled(narrow.hidden, wide.hidden), "mask": same(narrow.mask_width),
    }  # fmt: skip
