"""How good a network is while it trains: fixed scenes, and pairs with truth where given. Numbers and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.scenes import render_scenes
from distill.scenes_config import SceneOptions
from stereo.errors import UserError
from stereo.metrics import errors_against_truth
from stereo.pair import Disparity, StereoPair
from stereo.pictures import disparity_picture, error_picture, side_by_side, write_png

# Another seed than any training stream has: the scenes are never trained on.
VALIDATION_SEED = 2**40 + 7


def validation_scenes(count: int, size: tuple[int, int], *, max_disp: int) -> list[StereoPair]:
    """Procedural pairs with exact truth, the same in every run.

    Args:
        size: (height, width).
    """
    options = SceneOptions(max_disp=float(max_disp))
    generator = torch.Generator().manual_seed(VALIDATION_SEED)
    scenes = render_scenes(count, size, generator=generator, device="cpu", options=options)

    def image(tensor: torch.Tensor) -> np.ndarray:
        return tensor.round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()

    return [
        StereoPair(
            image(scenes.left[index]),
            image(scenes.right[index]),
            f"scene_{index}",
            disparity=scenes.disparity[index, 0].numpy(),
            noc=~scenes.occluded[index, 0].numpy(),
        )
        for index in range(count)
    ]


def validate(
    predict: Callable[[StereoPair], Disparity], pairs: Sequence[StereoPair], *, pictures: Path | None = None
) -> dict[str, dict[str, float]]:
    """Errors of a network on each pair, non-occluded pixels where a mask exists.

    Args:
        predict: the network.
        pictures: folder for one picture per pair: left, truth, prediction, error.

    Returns: pair name → {"epe_px", "bad2_pct"}.
    """
    scores = {}
    for pair in pairs:
        if pair.disparity is None:
            raise UserError("has no true disparity", where=pair.name, fix="validate on pairs with truth")
        prediction = predict(pair)
        errors = errors_against_truth(prediction, pair.disparity, mask=pair.noc)
        if errors.epe_px is None:
            raise UserError("the network predicts no finite disparity", where=pair.name, fix="lower the learning rate")
        scores[pair.name] = {"epe_px": errors.epe_px, "bad2_pct": errors.bad2_pct}
        if pictures is not None:
            top = float(np.nanpercentile(pair.disparity, 99))
            row = [pair.left, disparity_picture(pair.disparity, top), disparity_picture(prediction, top)]
            write_png(pictures / f"{pair.name}.png", side_by_side(*row, error_picture(prediction, pair.disparity)))
    return scores


def score_groups(
    predict: Callable[[StereoPair], Disparity], groups: Mapping[str, Sequence[StereoPair]], *, pictures: Path
) -> dict[str, dict[str, Any]]:
    """What a run notes about a network: for each group of pairs the mean and every pair's errors."""
    found = {}
    for group, pairs in groups.items():
        scores = validate(predict, pairs, pictures=pictures)
        found[group] = {"mean": mean_scores(scores, list(scores)), "images": scores}
    return found


def mean_scores(scores: dict[str, dict[str, float]], names: Sequence[str]) -> dict[str, float]:
    """Mean over some of the pairs."""
    return {key: float(np.mean([scores[name][key] for name in names])) for key in ("epe_px", "bad2_pct")}
