"""cfg.yaml, which lies beside FoundationStereo's published checkpoints.

Only the disparity range is taken from it; what decides shapes is known from the weights and checked. Its number of
iterations is not used: published demos run 32 whatever it says.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import yaml

from stereo.errors import UserError

NAME = "cfg.yaml"
# What the released networks are: anything else is another network.
BUILT = {
    "hidden_dims": [128, 128, 128],
    "n_gru_layers": 3,
    "n_downsample": 2,
    "corr_levels": 2,
    "corr_radius": 4,
}

log = logging.getLogger(__name__)


def read_published_config(folder: Path, *, vit: str) -> dict[str, Any]:
    """What a folder's cfg.yaml tells: {"max_disp": px}, or nothing when there is none.

    Args:
        vit: size of the ViT that the weights hold.

    Raises:
        UserError: not YAML, or the configuration of a network that is not built here.
    """
    path = folder / NAME
    if not path.is_file():
        return {}
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"is not YAML: {reason}", where=path, fix="restore it, or move it away") from error
    if not isinstance(values, dict):
        raise UserError("is not a list of settings", where=path, fix="restore it, or move it away")
    for key, built in BUILT.items():
        if key in values and values[key] != built:
            raise UserError(f"{key} is {values[key]}, built here is {built}", where=path,
                            fix="only the released networks load")  # fmt: skip
    if values.get("vit_size", vit) != vit:
        log.warning("%s says vit_size %s; the weights hold %s", path, values["vit_size"], vit)
    max_disp = values.get("max_disp")
    if max_disp is None:
        return {}
    if not isinstance(max_disp, int):
        raise UserError(f"max_disp is {max_disp!r}", where=path, fix="a whole number of pixels")
    return {"max_disp": max_disp}
