"""`stereodistill predict`: disparity of one pair, as numbers and as a picture."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from deploy.config import PredictConfig
from deploy.models import resolve_model
from deploy.opening import opened, requests
from deploy.run_pair import run_pair
from stereo.artifacts import make_manifest, sha256_file, write_bytes, write_json
from stereo.disparity_files import KITTI_SCALE, PNG_LIMIT, write_kitti_png, write_pfm
from stereo.errors import UserError
from stereo.pair import Disparity, Rig, StereoPair, read_image
from stereo.pictures import disparity_picture, encode_png, write_png

log = logging.getLogger(__name__)
MM_PER_M = 1000


def predict(config: PredictConfig) -> Path:
    """Write disparity.pfm (px), disparity.png (px × 256), color.png and, with the camera's numbers, depth.png (mm).

    Raises:
        UserError: images that make no pair, a model that cannot be opened, or one that put out no finite pixel.
    """
    rig = rig_of(config)
    pair = StereoPair(read_image(config.left), read_image(config.right), name=Path(config.left).name, rig=rig)
    if len(resolve_model(config.model)) > 1:
        raise UserError("holds several models", where=config.model, fix="name one of them")
    (job,) = requests(
        [config.model], runtime=config.runtime, precision_hints=config.precision_hint,
        threads=config.threads, size=config.size, iterations=config.iterations,
    )  # fmt: skip
    with opened(job, fixed_size=False) as item:
        prediction = run_pair(item.runner, pair)
        facts = {
            "model": item.model, "runtime": item.runner.runtime, "runtime_version": item.runner.runtime_version,
            "precision_hint": item.runner.precision_hint, "threads": item.runner.threads, "fit": prediction.fit,
        }  # fmt: skip
    disparity = prediction.disparity
    if not np.isfinite(disparity).any():
        raise UserError("the network put out no finite disparity", where=job.path, fix="evaluate tells more")
    if prediction.nonfinite_pixels:
        log.warning("%d pixels came out as NaN or infinite and are written as invalid", prediction.nonfinite_pixels)
    out = Path(config.out)
    write_pfm(out / "disparity.pfm", disparity)
    write_kitti_png(out / "disparity.png", within_png(disparity))
    write_png(out / "color.png", disparity_picture(disparity))
    if rig is not None:
        write_bytes(out / "depth.png", encode_png(depth_mm(rig, disparity)))
    made_from = {
        "left": sha256_file(config.left), "right": sha256_file(config.right), "model": item.model.sha256,
    }  # fmt: skip
    manifest = make_manifest("prediction", made_from=made_from, config=config, content=facts)
    write_json(out / "manifest.json", manifest)
    return out


def rig_of(config: PredictConfig) -> Rig | None:
    """The cameras, when both focal length and baseline are given.

    Raises:
        UserError: only one of them, or not positive.
    """
    if config.focal_px is None and config.baseline_m is None:
        return None
    if config.focal_px is None or config.baseline_m is None:
        raise UserError("depth needs both numbers", where="--focal-px/--baseline-m", fix="give both, or none")
    return Rig(config.focal_px, config.baseline_m, doffs_px=config.doffs_px)


def within_png(disparity: Disparity) -> Disparity:
    """What the ×256 PNG can hold: below 0 becomes 0, beyond its largest value becomes invalid, which is said."""
    limit = PNG_LIMIT / KITTI_SCALE
    beyond = disparity > limit
    if beyond.any():
        log.warning("%d pixels beyond %.0f px are invalid in disparity.png; disparity.pfm has them",
                    int(beyond.sum()), limit)  # fmt: skip
    return np.where(beyond, np.float32(np.nan), np.maximum(disparity, 0)).astype(np.float32)


def depth_mm(rig: Rig, disparity: Disparity) -> np.ndarray:
    """Depth as uint16 H×W millimetres, 0 where invalid or beyond 65.5 m, which is said."""
    depth = rig.depth_m(disparity) * MM_PER_M
    beyond = depth > PNG_LIMIT
    if beyond.any():
        log.warning("%d pixels beyond %.1f m are 0 in depth.png", int(beyond.sum()), PNG_LIMIT / MM_PER_M)
    kept = np.isfinite(depth) & ~beyond
    return np.where(kept, np.rint(np.where(kept, depth, 0)), 0).astype(np.uint16)
