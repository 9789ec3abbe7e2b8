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

from distill.config import FoundationStereoOptions, TrainConfig
from stereo.artifacts import atomic_path
from stereo.errors import UserError
from teacher.checkpoints import load_foundation_stereo
from teacher.foundation_stereo import DISPARITY_MULTIPLE, FoundationStereo, FoundationStereoConfig
from teacher.presets import PRESETS
from teacher.side_tuning import MonoBranch

log = logging.getLogger(__name__)
MONO_FORMAT = "stereodistill-mono-1"
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
    if network.features.mono is not None:
        if options.mono_init is not None:
            load_mono(network.features.mono, options.mono_init)
        elif not changed.mono_trainable:
            log.warning("the monocular network is frozen and its weights are random: give "
                        "--foundation_stereo.mono_init, or train it too")  # fmt: skip
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
    if options.mono_init is not None:
        raise UserError("the checkpoint has its own monocular network", where="--foundation_stereo.mono_init",
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


def save_mono(mono: MonoBranch, path: Path, *, training: Mapping[str, str]) -> Path:
    """Write a monocular network, atomically.

    Args:
        training: what it was trained on; becomes metadata.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in mono.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"format": MONO_FORMAT, **training})
    return path


def load_mono(mono: MonoBranch, path: Path) -> None:
    """Fill a monocular network, in place.

    Raises:
        UserError: another kind of file, or another network.
    """
    try:
        with safe_open(path, framework="pt") as file:
            found = (file.metadata() or {}).get("format")
            tensors: dict[str, torch.Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"is not a safetensors file: {error}", where=path, fix="make it again") from error
    if found != MONO_FORMAT:
        raise UserError(f"is no monocular network of this project (format {found!r})", where=path,
                        fix=f"expected format {MONO_FORMAT!r}")  # fmt: skip
    try:
        mono.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"does not fit the network: {error}", where=path, fix="give one of the same size") from error
