"""FoundationStereo's weights: the published .pth, and our safetensors form of them.

Nothing is ever executed: .pth files are read with `weights_only`, and a file that holds a pickled network instead of
weights is refused. Weights are never fetched; see README.md for where they come from and what their licence allows.

Our form: a safetensors file whose metadata hold `format` ("stereodistill-foundation-stereo-1"), `config` (JSON of
`FoundationStereoConfig`), `weights_sha256` (of names, types, shapes and values, checked at every load) and `source`
(JSON: what it was made from).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from stereo.artifacts import atomic_path, plain
from stereo.errors import UserError
from teacher.blocks.disparity_transformer import AttentionAxis
from teacher.foundation_stereo import DISPARITY_MULTIPLE, FoundationStereo, FoundationStereoConfig
from teacher.key_translation import alias_of, translate
from teacher.published_checkpoint import OBTAIN, read_pth
from teacher.published_config import read_published_config
from teacher.vision_transformer import VIT_SIZES

FORMAT = "stereodistill-foundation-stereo-1"
PUBLISHED_MAX_DISP = 416
TELL = 5

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Weights:
    """Weights under our names.

    Args:
        tensors: name → tensor.
        config: of the network they belong to.
        source: what they were made from.
        where: the file, for messages.
        unknown: published names that have no place here.
    """

    tensors: dict[str, torch.Tensor]
    config: FoundationStereoConfig
    source: dict[str, Any]
    where: str
    unknown: tuple[str, ...] = ()


def load_foundation_stereo(
    path_or_state_dict: Path | str | Mapping[str, torch.Tensor],
    *,
    max_disp: int | None = None,
    attention_axis: AttentionAxis | None = None,
    vit: str | None = None,
) -> FoundationStereo:
    """Load a network in evaluation mode, on the CPU.

    Args:
        path_or_state_dict: a published .pth, a .safetensors of `convert-teacher`, or weights under published names.
        max_disp: disparity range in pixels, a multiple of 32. When left out: that of the safetensors file or of a
            cfg.yaml beside the .pth, else 416.
        attention_axis: what the disparity transformer attends over; "disparity" when left out, which the published
            checkpoints were trained with.
        vit: refuse weights of another ViT size than this.

    Returns: the network; its attribute `weights_sha256` tells the weights apart, whatever file they came in.

    Raises:
        UserError: no such file, not FoundationStereo's weights, damaged ones, or a setting out of range.
    """
    weights = read_weights(path_or_state_dict)
    config = weights.config
    if vit is not None and vit != config.vit:
        raise UserError(f"holds a network with {config.vit}, asked for was {vit}", where=weights.where,
                        fix="leave --teacher.vit out, or give the other checkpoint")  # fmt: skip
    axis = attention_axis or config.attention_axis
    config = dataclasses.replace(
        config, max_disp=config.max_disp if max_disp is None else max_disp, attention_axis=axis
    )
    check_max_disp(config.max_disp)
    network = assemble(config, weights)
    log.info(
        "FoundationStereo with %s, max_disp %d px, the disparity transformer attends over %s%s",
        config.vit, config.max_disp, axis,
        "" if attention_axis else " (so the published checkpoints were trained; --teacher.attention_axis changes it)",
    )  # fmt: skip
    return network


def check_max_disp(max_disp: int) -> None:
    """Refuse a disparity range that the network cannot be built for."""
    if max_disp < DISPARITY_MULTIPLE or max_disp % DISPARITY_MULTIPLE:
        up = max(1, -(-max_disp // DISPARITY_MULTIPLE)) * DISPARITY_MULTIPLE
        raise UserError(f"max_disp {max_disp} is not a multiple of {DISPARITY_MULTIPLE}", where="--teacher.max_disp",
                        fix=f"the next one is {up}")  # fmt: skip


def assemble(config: FoundationStereoConfig, weights: Weights) -> FoundationStereo:
    """A network around weights, without copying them.

    Raises:
        UserError: missing, unexpected or misshapen entries, all of them named; or values that are not finite.
    """
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
        network = FoundationStereo(config)
    compare({name: tuple(value.shape) for name, value in network.state_dict().items()}, weights)
    network.load_state_dict(weights.tensors, strict=True, assign=True)
    if broken := [name for name, value in weights.tensors.items() if not torch.isfinite(value).all()]:
        raise UserError(f"weights are not finite: {listed(broken)}", where=weights.where, fix="get the file again")
    network.weights_sha256 = content_sha256(weights.tensors)
    return network.eval()


def compare(expected: Mapping[str, tuple[int, ...]], weights: Weights) -> None:
    """Refuse weights that do not fit the network exactly."""
    found = {name: tuple(value.shape) for name, value in weights.tensors.items()}
    problems = [
        f"{len(names)} {what}: {listed(names)}"
        for what, names in (
            ("missing", [name for name in expected if name not in found]),
            ("unexpected", [*weights.unknown, *(name for name in found if name not in expected)]),
            (
                "of another shape",
                [f"{name} {found[name]} instead of {expected[name]}" for name in expected
                 if name in found and found[name] != expected[name]],
            ),
        )
        if names
    ]  # fmt: skip
    if problems:
        raise UserError(f"are not FoundationStereo's weights: {'; '.join(problems)}", where=weights.where, fix=OBTAIN)


def listed(names: list[str]) -> str:
    """The first few of many names."""
    more = f" and {len(names) - TELL} more" if len(names) > TELL else ""
    return ", ".join(names[:TELL]) + more


def content_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of names, types, shapes and values: the same for a .pth and for its safetensors form."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # numpy's arrays are buffers without a copy, which their type stub does not say.
        digest.update(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))  # pyright: ignore[reportArgumentType]
    return digest.hexdigest()


def read_weights(path_or_state_dict: Path | str | Mapping[str, torch.Tensor]) -> Weights:
    """Weights of any of the forms that `load_foundation_stereo` takes.

    Raises:
        UserError: see there.
    """
    if isinstance(path_or_state_dict, Mapping):
        return published_weights(path_or_state_dict, where="the weights given", source={})
    path = Path(path_or_state_dict)
    if not path.is_file():
        raise UserError("no such checkpoint", where=path, fix=OBTAIN)
    if path.suffix.lower() == ".safetensors":
        return read_converted(path)
    return published_weights(read_pth(path), where=str(path), source={"file": path.name}, folder=path.parent)


def published_weights(
    state: Mapping[str, torch.Tensor], *, where: str, source: dict[str, Any], folder: Path | None = None
) -> Weights:
    """Weights under published names: translate, and find the network's size from the shapes.

    Args:
        folder: where a cfg.yaml may lie.
    """
    if state and all(name.startswith("module.") for name in state):  # written by a data-parallel training
        state = {name.removeprefix("module."): value for name, value in state.items()}
    for name, value in state.items():
        other = alias_of(name)
        if other is not None and other in state and not torch.equal(value, state[other]):
            raise UserError(f"{name} and {other} are one module saved twice, and differ", where=where,
                            fix="get the original file again")  # fmt: skip
    tensors, unknown = translate(state)
    vit = vit_of(tensors, len(unknown), where)
    told = read_published_config(folder, vit=vit) if folder is not None else {}
    config = FoundationStereoConfig(vit=vit, max_disp=told.get("max_disp", PUBLISHED_MAX_DISP))
    return Weights(tensors, config, source, where, tuple(unknown))


def vit_of(tensors: Mapping[str, torch.Tensor], unknown: int, where: str) -> str:
    """Size of the ViT, from the width of its tokens."""
    token = tensors.get("features.mono.vit.cls_token")
    if token is None:
        raise UserError(
            f"holds another network: no ViT of Depth Anything V2, {len(tensors)} names known, {unknown} unknown",
            where=where, fix=OBTAIN,
        )  # fmt: skip
    for name, size in VIT_SIZES.items():
        if token.shape[-1] == size.width:
            return name
    known = ", ".join(f"{name} ({size.width})" for name, size in VIT_SIZES.items())
    raise UserError(f"holds a ViT of width {token.shape[-1]}", where=where, fix=f"known: {known}")


def read_converted(path: Path) -> Weights:
    """Our safetensors form; the tensors stay on disk until they are used.

    Raises:
        UserError: another kind of file, or not the values it was stamped with.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise UserError(f"is no FoundationStereo of this project (format {metadata.get('format')!r})",
                                where=path, fix="make it with `stereodistill convert-teacher`")  # fmt: skip
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"is not a safetensors file: {error}", where=path, fix="convert the .pth again") from error
    if content_sha256(tensors) != metadata.get("weights_sha256"):
        raise UserError("is damaged: its values are not those it was stamped with", where=path,
                        fix="convert the .pth again")  # fmt: skip
    values = json.loads(metadata["config"])
    known = {field.name for field in dataclasses.fields(FoundationStereoConfig)}
    if newer := sorted(set(values) - known):
        raise UserError(f"was made by a newer version: unknown settings {newer}", where=path, fix="upgrade")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return Weights(tensors, FoundationStereoConfig(**values), json.loads(metadata.get("source", "{}")), str(path))


def is_foundation_stereo(path: Path | str) -> bool:
    """Whether a .safetensors file is one of `save_foundation_stereo`."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (SafetensorError, OSError):
        return False


def save_foundation_stereo(
    network: FoundationStereo, path: Path | str, *, source: Mapping[str, Any] | None = None
) -> Path:
    """Write our form, atomically.

    Args:
        source: what the weights were made from: the published file, or the training that changed them.
    """
    path = Path(path)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "config": json.dumps(plain(network.config)),
        "weights_sha256": content_sha256(tensors),
        "source": json.dumps(plain(dict(source or {})), allow_nan=False),
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)
    return path
