"""The students' recipes are valid, and fit together with what they name."""

from __future__ import annotations

from pathlib import Path

import pytest

import distill.train
from distill.build import build, check_teacher
from distill.data import open_batches
from distill.networks import TrainedStudent
from stereo.cli import parse_config
from teacher.checkpoints import save_foundation_stereo
from teacher.foundation_stereo import FoundationStereo
from teacher.presets import PRESETS

RECIPES = Path(distill.train.__file__).parent / "recipes"


@pytest.mark.parametrize("name", ["nano", "small", "nano_video"])
@pytest.mark.parametrize("world", [1, 8])
def test_recipe_trains_on_one_process_and_on_eight(name: str, world: int) -> None:
    arguments = ["--config", str(RECIPES / f"{name}.yaml"), "--out", "x"]
    if name == "nano_video":
        arguments += ["--data.batch_size", "8"]
    config = parse_config("train", arguments)
    distill.train.check(config)
    trained = build(config)
    assert isinstance(trained, TrainedStudent)
    assert trained.module.config.preset == config.preset
    for rank in range(world):
        batches = open_batches(config.data, max_disp=192, seed=0, steps=config.steps, rank=rank, world=world)
        assert len(batches) == config.steps


def test_distillation_recipe_uses_the_teacher_that_it_is_given(tmp_path: Path) -> None:
    weights = save_foundation_stereo(
        FoundationStereo(PRESETS["foundation_stereo_tiny"].config), tmp_path / "tiny.safetensors"
    )
    recipe = str(RECIPES / "nano_distill.yaml")
    config = parse_config("train", ["--config", recipe, "--out", "x", "--teacher.checkpoint", str(weights)])
    check_teacher(config)
    distillation = build(config).distillation
    assert distillation is not None
    assert set(distillation.projections) == {"quarter", "eighth", "sixteenth"}
