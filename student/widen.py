"""`stereodistill widen`: begin a wide student where a narrow one has come to.

Net2WiderNet (arXiv 1511.05641): every channel of the wide network is a copy of one of the narrow network's, and what
reads a channel shares its weight among the copies. Shares are drawn at random, else copies would stay equal in training
for ever. The wide network computes what the narrow one does, but for the disparity transformer, whose position codes
depend on its width.

Which channels are the same in which layers: `student.widening_map`.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import sys
from collections.abc import Mapping

import numpy as np
import torch

from stereo.artifacts import sha256_file
from stereo.errors import UserError
from student.checkpoint import find_student, load_student, read_metadata, save_student
from student.config import WidenConfig
from student.model import StudentConfig, StudentStereo
from student.presets import PRESETS, adapt
from student.widening_map import Map, rules, spaces

log = logging.getLogger(__name__)

# What must be equal in both: these decide which layers there are, not how wide they are.
SHARED = (
    "blocks", "groups", "concat_channels", "disparity_kernel", "transformer_layers", "transformer_patch",
    "lookup_channels", "lookup_radius", "mask_width",
)  # fmt: skip
# What may be larger in the wide one.
WIDENED = ("widths", "volume_widths", "matching_channels", "transformer_heads", "hidden", "context", "motion")
# Random part of a copy's share, as a fraction of the root mean square of the layer's weights.
UNEVENNESS = 0.5


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
    for name in WIDENED:
        old, new = (tuple(np.atleast_1d(getattr(config, name)).tolist()) for config in (narrow, wide))
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
