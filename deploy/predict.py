"""`stereodistill predict`: disparity of one pair, as numbers and as a picture; depth and points of known cameras.

OUT/disparity.pfm, disparity.png, color.png, manifest.json
    depth.png, points.ply        where focal length and baseline are known
    left.png, right.png          where the images were rectified first: the disparity belongs to these
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from deploy.config import PredictConfig
from deploy.models import default_student, refuse_without_torch, resolve_model
from deploy.opening import opened, requests
from deploy.run_pair import Prediction, run_pair
from deploy.runners.protocol import Runner
from stereo.artifacts import make_manifest, sha256_file, write_bytes, write_json
from stereo.disparity_files import KITTI_SCALE, PNG_LIMIT, write_kitti_png, write_pfm
from stereo.errors import UserError
from stereo.fit_size import Fit
from stereo.pair import Disparity, Rig, StereoPair, read_image
from stereo.pair_calibration import calibrated
from stereo.pictures import disparity_picture, encode_png, write_png
from stereo.point_cloud import point_cloud, principal_point, write_ply

log = logging.getLogger(__name__)
MM_PER_M = 1000


def predict(config: PredictConfig) -> Path:
    """Write what the module's text lists; depth in mm, points in metres.

    Raises:
        UserError: images that make no pair, cameras that make no rig, a model that cannot be opened, or one that put
            out no finite pixel.
    """
    check(config)
    images = StereoPair(read_image(config.left), read_image(config.right), name=Path(config.left).name)
    pair = with_rig(images, config)
    prediction, facts = run(config, pair)
    out = Path(config.out)
    write_disparity(out, prediction.disparity)
    if pair.left is not images.left:
        log.info("rectified with %s: the disparity belongs to left.png, written beside it", config.calibration)
        write_png(out / "left.png", pair.left)
        write_png(out / "right.png", pair.right)
    if pair.rig is not None:
        facts |= write_depth(out, pair, pair.rig, prediction.disparity, config.max_depth_m)
    made_from = {
        "left": sha256_file(config.left), "right": sha256_file(config.right), "model": facts["model"].sha256,
    }  # fmt: skip
    if config.calibration is not None and Path(config.calibration).is_file():
        made_from["calibration"] = sha256_file(config.calibration)
    write_json(out / "manifest.json", make_manifest("prediction", made_from=made_from, config=config, content=facts))
    return out


def check(config: PredictConfig) -> None:
    """Refuse options that contradict each other before anything is read.

    Raises:
        UserError: they do.
    """
    numbers = {name: getattr(config, name) for name in ("focal_px", "baseline_m", "doffs_px", "cx", "cy")}
    given = [f"--{name.replace('_', '-')}" for name, value in numbers.items() if value is not None]
    if config.calibration is not None and given:
        raise UserError(f"--calibration and {' '.join(given)} say the same thing twice", fix="give one of the two")
    if (config.focal_px is None) != (config.baseline_m is None):
        raise UserError("depth needs both numbers", where="--focal-px/--baseline-m", fix="give both, or none")
    if given and config.focal_px is None:
        raise UserError(f"{' '.join(given)} without a focal length", where="--focal-px/--baseline-m",
                        fix="give both of these too")  # fmt: skip
    if not config.max_depth_m >= 0:
        raise UserError(f"{config.max_depth_m:g} m is no depth", where="--max-depth-m", fix="0 keeps all points")


def with_rig(pair: StereoPair, config: PredictConfig) -> StereoPair:
    """The pair with its cameras, rectified where a calibration says that it is not; as it is when they are unknown.

    Raises:
        UserError: a calibration that cannot be read or does not fit, or numbers that are not positive.
    """
    if config.calibration is not None:
        return calibrated(pair, config.calibration, left=config.left)
    if config.focal_px is None or config.baseline_m is None:
        return pair
    pair.rig = Rig(config.focal_px, config.baseline_m, config.doffs_px or 0.0, cx=config.cx, cy=config.cy)
    return pair


def run(config: PredictConfig, pair: StereoPair) -> tuple[Prediction, dict[str, Any]]:
    """The prediction, and what the manifest says of how it was made.

    Raises:
        UserError: the model cannot be opened, or put out no finite pixel.
    """
    model = config.model
    if model is None:
        model = default_student()
        log.info("model: %s, which ships with this version; --model takes another", model)
    refuse_without_torch(model)
    if len(resolve_model(model)) > 1:
        raise UserError("holds several models", where=model, fix="name one of them")
    (job,) = requests(
        [model], runtime=config.runtime, precision_hints=config.precision_hint, threads=config.threads,
        size=config.size, iterations=config.iterations, max_disp=config.max_disp,
    )  # fmt: skip
    with opened(job, fixed_size=False) as item:
        prediction = run_pair(item.runner, pair)
        tell_fit(item.runner, prediction.fit)
        facts = {
            "model": item.model, "runtime": item.runner.runtime, "runtime_version": item.runner.runtime_version,
            "precision_hint": item.runner.precision_hint, "threads": item.runner.threads, "fit": prediction.fit,
        }  # fmt: skip
    if not np.isfinite(prediction.disparity).any():
        raise UserError("the network put out no finite disparity", where=job.path, fix="evaluate tells more")
    if prediction.nonfinite_pixels:
        log.warning("%d pixels came out as NaN or infinite and are written as invalid", prediction.nonfinite_pixels)
    return prediction, facts


def tell_fit(runner: Runner, fit: Fit | None) -> None:
    """Say when the images are not of the size that a network has; one that takes any has none."""
    if fit is None or runner.input_size is None or fit.network == (fit.height, fit.width):
        return
    size, network = f"{fit.height}x{fit.width}", "{}x{}".format(*fit.network)
    if fit.resized == (fit.height, fit.width):
        log.info("images of %s were padded to the network's %s", size, network)
        return
    log.warning("images of %s were scaled by %.3f to fit the network's %s, and the disparity scaled back: a network of "
                "their size sees more", size, fit.factor, network)  # fmt: skip


def write_disparity(out: Path, disparity: Disparity) -> None:
    """disparity.pfm (px), disparity.png (px × 256) and color.png."""
    write_pfm(out / "disparity.pfm", disparity)
    write_kitti_png(out / "disparity.png", within_png(disparity))
    write_png(out / "color.png", disparity_picture(disparity))


def write_depth(out: Path, pair: StereoPair, rig: Rig, disparity: Disparity, max_depth_m: float) -> dict[str, Any]:
    """depth.png (mm) and points.ply. Returns what the manifest says of them."""
    write_bytes(out / "depth.png", encode_png(depth_mm(rig, disparity)))
    if rig.cx is None or rig.cy is None:
        log.info("principal point unknown: points.ply takes the image's centre (--cx --cy)")
    cloud = point_cloud(rig, disparity, pair.left, max_depth_m=max_depth_m or None)
    write_ply(out / "points.ply", cloud)
    log.info("points.ply: %d of %d pixels, the others are invalid or beyond %s", len(cloud), disparity.size,
             f"{max_depth_m:g} m (--max-depth-m)" if max_depth_m else "any depth")  # fmt: skip
    return {
        "rig": rig,
        "principal_point_px": principal_point(rig, *disparity.shape),
        "points": len(cloud),
    }


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
