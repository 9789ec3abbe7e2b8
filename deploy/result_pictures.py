"""Pictures beside a results file: left image, truth, and per variant the disparity and its error."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from deploy.results import ModelFacts, Pictures
from stereo.pair import Disparity, StereoPair
from stereo.pictures import disparity_picture, error_picture, write_png

# The frames of a clip look alike, and thousands of pictures would fill a disk: a few tell what there is to see.
IMAGES_PER_DATASET = 8
# Of the folder beside a results file.
FOLDER_SUFFIX = "_pictures"

Item = TypeVar("Item")


def spread(items: Sequence[Item], most: int = IMAGES_PER_DATASET) -> list[Item]:
    """At most so many of them, evenly spread, the first and the last included."""
    if len(items) <= most:
        return list(items)
    step = (len(items) - 1) / (most - 1)
    return [items[round(index * step)] for index in range(most)]


@dataclass(frozen=True)
class PictureFolder:
    """Where the pictures of one dataset go: a folder named after the results file.

    Args:
        results: the results file that will name them.
        dataset: name of the pairs.
    """

    results: Path
    dataset: str

    def save(
        self, pair: StereoPair, disparity: Disparity, *, model: ModelFacts, runtime: str, precision_hint: str
    ) -> Pictures:
        """Write the pictures of one pair; disparity is coloured by the truth's range, so that variants compare."""
        folder = Path(f"{self.results.stem}{FOLDER_SUFFIX}", file_name(self.dataset), file_name(pair.name))
        truth = pair.disparity if pair.disparity is not None else np.full(disparity.shape, np.nan, np.float32)
        top = float(np.nanpercentile(truth, 99)) if np.isfinite(truth).any() else None
        # The hash keeps apart what file names alone would mix up, such as two models of one name.
        identity = "\n".join((model.sha256 or model.variant, runtime, precision_hint))
        stem = f"{file_name(f'{model.variant} {runtime} {precision_hint}')}_{short_hash(identity)}"
        content = {
            "left": pair.left,
            "truth": disparity_picture(truth, top),
            f"{stem}_disparity": disparity_picture(disparity, top),
            f"{stem}_error": error_picture(disparity, truth),
        }
        for name, picture in content.items():
            write_png(self.results.parent / folder / f"{name}.png", picture)
        left, truth_path, disparity_path, error = (str(folder / f"{name}.png") for name in content)
        return Pictures(pair.name, left, truth_path, disparity_path, error)


def file_name(text: str) -> str:
    """A name that every file system takes; texts that differ only in other characters get a hash."""
    safe = re.sub(r"[^A-Za-z0-9.-]+", "_", text).strip("._")[:60]
    return safe if safe == text.replace(" ", "_") else f"{safe}_{short_hash(text)}"


def short_hash(text: str) -> str:
    """Eight hex digits of the text's sha256."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]
