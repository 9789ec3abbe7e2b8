"""Frames and a label set small enough for every path of the quantiser."""

import numpy as np
import pytest
import torch

from distill.scenes import render_scenes
from distill.scenes_config import SceneOptions
from stereo.label_set import LabelledFrame
from stereo.label_set_writer import LabelSetWriter


def pairs_of_scenes(count, size):
    """Frames of rendered scenes with their exact disparity."""
    scenes = render_scenes(
        count, size, generator=torch.Generator().manual_seed(0), device="cpu",
        options=SceneOptions(max_disp=60, bank_size=16),
    )  # fmt: skip
    for index in range(count):
        left, right = (view[index].permute(1, 2, 0).round().byte().numpy() for view in (scenes.left, scenes.right))
        yield LabelledFrame(f"{index:06d}", left, right, scenes.disparity[index, 0].numpy(), np.ones(size, np.float32))


@pytest.fixture(scope="session")
def label_set(tmp_path_factory):
    """Four frames of rendered scenes, a little larger than the graph."""
    folder = tmp_path_factory.mktemp("labels") / "set"
    writer = LabelSetWriter(folder, identity={"source": {}, "teacher": {}}, max_disp=64)
    for index, frame in enumerate(pairs_of_scenes(4, (120, 200))):
        writer.add(index, frame)
    return writer.finish()


@pytest.fixture(scope="session")
def scene_frames():
    return pairs_of_scenes
