"""The FoundationStereo that a run trains: fresh weights or a checkpoint's, whole or changed for an ablation."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from distill.config import FoundationStereoOptions, TrainConfig
from stereo.artifacts import atomic_path
from stereo.errors import UserError
from teacher.checkpoints import load_foundation_stereo
from teacher.foundation_stereo import DISPARITY_MULTIPLE, FoundationStereo, FoundationStereoConfig
from teacher.presets import PRESETS

log = logging.getLogger(__name__)
PARTS_FORMAT = "stereodistill-foundation-stereo-parts-1"
MONO = "features.mono."
# Options that decide the shapes of weights: a checkpoint has them already.
SHAPING = ("mono", "filter_kind", "disparity_kernel", "transformer_layers")
CHANGEABLE = ("mono_trainable", "attention_axis")


def build_foundation_stereo(config: TrainConfig) -> FoundationStereo:
    """The network of a run.

    Raises:
        UserError: settings that do not fit each other or the checkpoint.
    """
    options = config.foundation_stereo
    preset = PRESETS[config.preset].config
    if config.iterations is not None and config.iterations < 1:
        raise UserError(f"iterations {config.iterations} is less than 1", where="--iterations", fix="22 as published")
    max_disp = config.max_disp if config.max_disp is not None else preset.max_disp
    if max_disp < DISPARITY_MULTIPLE or max_disp % DISPARITY_MULTIPLE:
        nearest = max(DISPARITY_MULTIPLE, round(max_disp / DISPARITY_MULTIPLE) * DISPARITY_MULTIPLE)
        raise UserError(f"max_disp {max_disp} is not a multiple of {DISPARITY_MULTIPLE}", where="--max_disp",
                        fix=f"nearest: {nearest}")  # fmt: skip
    if config.init is not None:
        return load_to_train(config, preset.vit)
    changed = dataclasses.replace(preset, max_disp=max_disp, **chosen(options, (*SHAPING, *CHANGEABLE)))
    check(changed)
    network = FoundationStereo(changed)
    loaded = load_parts(network, options.weights) if options.weights is not None else set()
    frozen = network.features.mono is not None and not changed.mono_trainable
    if frozen and not any(name.startswith(MONO) for name in loaded):
        log.warning("the monocular network is frozen and its weights are random: give --foundation_stereo.weights with "
                    "weights for it, or train it too")  # fmt: skip
    return network


def chosen(options: FoundationStereoOptions, names: tuple[str, ...]) -> dict[str, Any]:
    """Those of some options that were given."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def check(config: FoundationStereoConfig) -> None:
    """Refuse what no network can be built from."""
    if config.disparity_kernel < 1 or config.disparity_kernel % 2 == 0:
        raise UserError(f"{config.disparity_kernel} is no odd number of planes",
                        where="--foundation_stereo.disparity_kernel", fix="17 as published")  # fmt: skip
    if config.transformer_layers < 0:
        raise UserError(f"{config.transformer_layers} is negative", where="--foundation_stereo.transformer_layers",
                        fix="0 leaves the transformer out")  # fmt: skip


def load_to_train(config: TrainConfig, vit: str) -> FoundationStereo:
    """A checkpoint's network, ready to be trained further."""
    options = config.foundation_stereo
    if options.weights is not None:
        raise UserError("the checkpoint has weights for every part", where="--foundation_stereo.weights",
                        fix="leave it out, or leave --init out")  # fmt: skip
    network = load_foundation_stereo(
        Path(str(config.init)), max_disp=config.max_disp, attention_axis=options.attention_axis
    )
    if network.config.vit != vit:
        names = [name for name, preset in PRESETS.items() if preset.config.vit == network.config.vit]
        raise UserError(f"holds a FoundationStereo with {network.config.vit}, not {vit}", where=config.init,
                        fix=f"--preset {' or '.join(names)}")  # fmt: skip
    for name, value in chosen(options, SHAPING).items():
        if value != getattr(network.config, name):
            raise UserError(f"holds a network with {name} {getattr(network.config, name)}, not {value}",
                            where=config.init, fix=f"leave --foundation_stereo.{name} out")  # fmt: skip
    if options.mono_trainable is not None and network.features.mono is not None:
        network.config = dataclasses.replace(network.config, mono_trainable=options.mono_trainable)
        network.features.mono_trainable = options.mono_trainable
        network.features.mono.requires_grad_(options.mono_trainable)
    return network


def save_parts(network: nn.Module, path: Path, *, prefix: str, training: Mapping[str, str]) -> Path:
    """Write weights of a part of a FoundationStereo, atomically.

    Args:
        network: the part.
        prefix: what the part's names start with in the whole network, such as "features.mono.".
        training: what it was trained on; becomes metadata.
    """
    tensors = {prefix + name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"format": PARTS_FORMAT, **training})
    return path


def load_parts(network: FoundationStereo, path: Path) -> set[str]:
    """Fill some parts of a network, in place. Returns the names of what was filled.

    Raises:
        UserError: another kind of file, or parts of another network.
    """
    try:
        with safe_open(path, framework="pt") as file:
            found = (file.metadata() or {}).get("format")
            tensors: dict[str, torch.Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"is not a safetensors file: {error}", where=path, fix="make it again") from error
    if found != PARTS_FORMAT:
        raise UserError(f"holds no parts of a FoundationStereo (format {found!r})", where=path,
                        fix=f"expected format {PARTS_FORMAT!r}; a whole network goes to --init")  # fmt: skip
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    if strangers := [name for name, value in tensors.items() if shapes.get(name) != value.shape]:
        raise UserError(f"does not fit the network: {strangers[0]} and {len(strangers) - 1} more", where=path,
                        fix="give parts of a network with the same options")  # fmt: skip
    if broken := [name for name, value in tensors.items() if not torch.isfinite(value).all()]:
        raise UserError(f"weights are not finite: {broken[0]} and {len(broken) - 1} more", where=path,
                        fix="make it again")  # fmt: skip
    network.load_state_dict(tensors, strict=False)
    return set(tensors)
