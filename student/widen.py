"""`stereodistill widen`: begin a wide student where a narrow one has come to.

Net2WiderNet (arXiv 1511.05641): every channel of the wide network is a copy of one of the narrow network's, and what
reads a channel shares its weight among the copies. Shares are drawn at random, else copies would stay equal in training
for ever. The wide network computes what the narrow one does, but for the disparity transformer, whose position codes
depend on its width.

A space is a list of channels that several layers have in common: a residual stream, the state of the GRU. Its map says
which narrow channel every wide channel copies.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import sys
from collections.abc import Callable, Mapping

import torch

from stereo.artifacts import sha256_file
from stereo.errors import UserError
from student.checkpoint import find_student, load_student, read_metadata, save_student
from student.config import WidenConfig
from student.model import StudentConfig, StudentStereo
from student.presets import PRESETS, adapt
from student.refinement import ENCODED

log = logging.getLogger(__name__)

# What must be equal in both: these decide which layers there are, not how wide they are.
SHARED = (
    "blocks", "groups", "concat_channels", "disparity_kernel", "transformer_layers", "transformer_patch",
    "lookup_channels", "lookup_radius", "mask_width",
)  # fmt: skip
# Random part of a copy's share, as a fraction of the root mean square of the layer's weights.
UNEVENNESS = 0.5

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


def copies(channels: Map) -> torch.Tensor:
    """How many copies there are of the channel that each one copies."""
    return torch.bincount(channels).index_select(0, channels)


def uneven_shares(weight: torch.Tensor, channels: Map, generator: torch.Generator) -> torch.Tensor:
    """Share the weights of every input channel, dimension 1, among its copies; the copies' sum is what it was.

    Args:
        weight: (O, narrow, …).
        channels: the map of the inputs, (wide,).

    Returns: (O, wide, …).
    """
    counts = torch.bincount(channels, minlength=weight.shape[1])
    shape = [1, -1] + [1] * (weight.dim() - 2)
    shares = (weight / counts.reshape(shape)).index_select(1, channels)
    uneven = UNEVENNESS * weight.square().mean().sqrt() * torch.randn(shares.shape, generator=generator)
    of_each = torch.zeros_like(weight).index_add_(1, channels, uneven) / counts.reshape(shape)
    return shares + uneven - of_each.index_select(1, channels)


def widened_tensors(narrow: StudentStereo, wide: StudentStereo, *, seed: int) -> dict[str, torch.Tensor]:
    """The wide network's state, computed from the narrow one's.

    Raises:
        KeyError: a layer that has no rule.
    """
    generator = torch.Generator().manual_seed(seed)
    maps = spaces(narrow.config, wide.config)
    table = rules()
    state = {}
    for name, tensor in narrow.state_dict().items():
        if tensor.dim() == 0:  # the batches that a norm has counted
            state[name] = tensor.clone()
            continue
        rule = next((rule for rule in table if re.match(rule.pattern, name)), None)
        if rule is None:
            raise KeyError(f"no rule for {name}")
        outputs = maps[rule.outputs]
        grown = tensor.index_select(0, outputs)
        if rule.inputs is not None and tensor.dim() > 1:
            inputs = maps[rule.inputs]
            grown = uneven_shares(grown, inputs, generator)
            if rule.reads_compared:
                grown = grown * copies(inputs).sqrt().reshape([1, -1] + [1] * (grown.dim() - 2))
        if rule.compared:
            grown = grown / copies(outputs).sqrt().reshape([-1] + [1] * (grown.dim() - 1))
        state[name] = grown.contiguous()
    return state


def widen(narrow: StudentStereo, preset: str, *, seed: int = 0) -> StudentStereo:
    """A student of a wider preset that computes what a narrow one does, nearly.

    Args:
        narrow: the student to begin with.
        preset: the wider one; the range and the iterations stay the narrow one's.
        seed: of the random shares.

    Raises:
        UserError: no such preset, or one that is not the same network, only wider.
    """
    if preset not in PRESETS:
        raise UserError(f"no student preset '{preset}'", where="--preset", fix=f"one of: {', '.join(PRESETS)}")
    config = adapt(PRESETS[preset], max_disp=narrow.config.max_disp, iterations=narrow.config.iterations)
    if unlike := reasons_against(narrow.config, config):
        raise UserError(f"'{preset}' is not a wider '{narrow.config.preset}': {'; '.join(unlike)}", where="--preset",
                        fix="train it from fresh weights")  # fmt: skip
    wide = StudentStereo(config)
    wide.load_state_dict(widened_tensors(narrow, wide, seed=seed))
    return wide.train(narrow.training)


def reasons_against(narrow: StudentConfig, wide: StudentConfig) -> list[str]:
    """What keeps one configuration from being the other, widened; empty when nothing does."""
    found = [
        f"{name} {getattr(narrow, name)} and {getattr(wide, name)}"
        for name in SHARED
        if getattr(narrow, name) != getattr(wide, name)
    ]
    read: dict[str, Callable[[StudentConfig], tuple[int, ...]]] = {
        "widths": lambda config: config.widths,
        "volume_widths": lambda config: tuple(config.volume_widths),
        **{name: lambda config, name=name: (getattr(config, name),)
           for name in ("matching_channels", "transformer_heads", "hidden", "context", "motion")},
    }  # fmt: skip
    for name, values in read.items():
        old, new = values(narrow), values(wide)
        if len(old) != len(new) or any(was > is_now for was, is_now in zip(old, new, strict=True)):
            found.append(f"{name} {old} and {new}")
    if found:
        return found
    for name, old, new in (("volume_widths[0]", narrow.volume_widths[0], wide.volume_widths[0]),
                           ("context", narrow.context, wide.context)):  # fmt: skip
        if new % old:  # a norm or a mean over these channels, in which each must count alike
            found.append(f"{name} {new} is no multiple of {old}")
    if narrow.volume_widths[0] // narrow.transformer_heads != wide.volume_widths[0] // wide.transformer_heads:
        found.append("attention heads of different widths")
    if len(narrow.volume_widths) != 3:
        found.append(f"an hourglass of {len(narrow.volume_widths)} levels, not 3")
    if narrow == dataclasses.replace(wide, preset=narrow.preset):
        found.append("both have the same widths")
    return found


def record_of(path: str, narrow: StudentStereo, *, seed: int) -> Mapping[str, object]:
    """What a widened student says of its training: none of its own, and what it comes from."""
    file = find_student(path)
    return {
        "widened": {"preset": narrow.config.preset, "seed": seed},
        "started_from": {"name": file.name, "sha256": sha256_file(file), "training": read_metadata(file)["training"]},
    }


def run(config: WidenConfig) -> int:
    """The verb."""
    if config.out.suffix != ".safetensors":
        raise UserError(
            f"'{config.out}' does not end in .safetensors", where="--out", fix="such as runs/wide.safetensors"
        )
    narrow = load_student(config.student)
    wide = widen(narrow, config.preset, seed=config.seed)
    path = save_student(wide, config.out, training=record_of(config.student, narrow, seed=config.seed))
    before, after = (sum(weight.numel() for weight in student.parameters()) for student in (narrow, wide))
    print(f"{narrow.config.preset} with {before:,} parameters → {config.preset} with {after:,}", file=sys.stderr)
    print(path)
    return 0
