"""`stereodistill convert-teacher`: a published checkpoint → one safetensors file that opens in a moment."""

from __future__ import annotations

import logging
from pathlib import Path

from stereo.artifacts import sha256_file
from stereo.errors import UserError
from teacher.checkpoints import load_foundation_stereo, save_foundation_stereo
from teacher.config import ConvertTeacherConfig

log = logging.getLogger(__name__)


def convert_teacher(config: ConvertTeacherConfig) -> Path:
    """Translate, check, stamp and write.

    Raises:
        UserError: see `teacher.checkpoints.load_foundation_stereo`.
    """
    out = Path(config.out)
    if out.suffix.lower() != ".safetensors":
        raise UserError(f"'{out.suffix}' is no suffix for it", where=out, fix="give a name that ends in .safetensors")
    checkpoint = Path(config.checkpoint)
    network = load_foundation_stereo(checkpoint, max_disp=config.max_disp)
    source = {"file": checkpoint.name, "sha256": sha256_file(checkpoint)}
    save_foundation_stereo(network, out, source=source)
    count = sum(weight.numel() for weight in network.parameters())
    log.info("%s: %s, %.1f M parameters; the original's licence applies", out, network.config.vit, count / 1e6)
    return out
