"""FoundationStereo under `train`: what learns and what stays, exact resume, and files that load again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

import distill.train
from distill import callbacks
from distill.batches import Batch
from distill.build import build
from distill.config import FoundationStereoOptions, LossOptions, TrainConfig
from distill.foundation_stereo import save_parts
from distill.networks import TrainedFoundationStereo
from distill.scenes import render_scenes
from distill.scenes_config import SceneOptions
from distill.validation import validation_scenes
from stereo.cli import main, parse_config
from teacher.checkpoints import load_foundation_stereo, save_foundation_stereo
from teacher.foundation_stereo import FoundationStereo
from teacher.presets import PRESETS
from teacher.side_tuning import MonoBranch

SMALL = [
    "train", "--preset", "foundation_stereo_tiny", "--max_disp", "64", "--data.crop", "64x96", "--data.batch_size", "1",
    "--data.block", "4", "--data.workers", "0", "--validate_every", "0", "--precision", "32-true",
    "--trainer.accelerator", "cpu",
]  # fmt: skip
RECIPES = Path(distill.train.__file__).parent / "recipes"


@pytest.fixture(autouse=True)
def few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The validation at the end of a run would cost more than these runs."""
    monkeypatch.setattr(
        distill.train, "validation_scenes", lambda *_, max_disp: validation_scenes(1, (64, 96), max_disp=max_disp)
    )


@pytest.fixture(scope="module")
def batch() -> Batch:
    scenes = render_scenes(1, (64, 96), generator=torch.Generator().manual_seed(3), options=SceneOptions(max_disp=64))
    return Batch(scenes.left, scenes.right, scenes.disparity, torch.ones_like(scenes.disparity), ["scene"])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network whose batch statistics are not those of new layers."""
    torch.manual_seed(0)
    network = FoundationStereo(PRESETS["foundation_stereo_tiny"].config)
    for layer in network.modules():
        if isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm3d)):
            layer.running_mean = torch.randn_like(layer.running_mean) * 0.1  # type: ignore[arg-type]
            layer.running_var = torch.rand_like(layer.running_var) + 0.5  # type: ignore[arg-type]
    return save_foundation_stereo(network, tmp_path_factory.mktemp("init") / "tiny.safetensors")


def fresh(**options: object) -> TrainedFoundationStereo:
    torch.manual_seed(1)
    trained = build(
        TrainConfig(
            out=Path("unused"),
            preset="foundation_stereo_tiny",
            max_disp=64,
            foundation_stereo=FoundationStereoOptions(**options),  # type: ignore[arg-type]
        )
    )
    assert isinstance(trained, TrainedFoundationStereo)
    trained.set_training()
    return trained


def run(out: Path, *more: str) -> int:
    return main([*SMALL, "--out", str(out), *more])


def result(folder: Path) -> FoundationStereo:
    return load_foundation_stereo(folder / "foundation_stereo.safetensors")


def same(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("mono_trainable", [False, True])
def test_gradient_reaches_everything_but_the_frozen_vit(batch: Batch, mono_trainable: bool) -> None:
    trained = fresh(mono_trainable=mono_trainable)
    trained.losses(batch, LossOptions()).total.backward()
    for name, weight in trained.module.named_parameters():
        if name.startswith("features.mono.") and not mono_trainable:
            assert weight.grad is None, name
        else:
            assert weight.grad is not None, name
            # The tiny network's channel attention has a single ReLU inside, which may start dead.
            assert weight.grad.abs().max() > 0 or name.startswith("context.cam."), name


def test_a_few_steps_make_the_network_better_on_fixed_scenes(batch: Batch) -> None:
    trained = fresh()
    learnt = [weight for weight in trained.module.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(learnt, lr=2e-3)
    epe_px = []
    for _ in range(30):
        losses = trained.losses(batch, LossOptions())
        optimiser.zero_grad()
        losses.total.backward()
        nn.utils.clip_grad_norm_(learnt, 1.0)
        optimiser.step()
        epe_px.append(losses.epe.item())
    assert sum(epe_px[-5:]) / 5 < 0.5 * epe_px[0]


def test_resume_is_exact_with_dropout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert any(isinstance(layer, nn.Dropout) and layer.p > 0 for layer in fresh().module.modules())
    original = callbacks.Checkpoints.on_train_batch_end

    def cut(self: callbacks.Checkpoints, trainer: object, *rest: object) -> None:
        if trainer.global_step == 3:  # type: ignore[attr-defined]
            self._on_interrupt(2, None)
        original(self, trainer, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(callbacks.Checkpoints, "on_train_batch_end", cut)
    assert run(tmp_path / "cut", "--steps", "6") == 130
    monkeypatch.setattr(callbacks.Checkpoints, "on_train_batch_end", original)
    assert run(tmp_path / "cut", "--steps", "6", "--validate_every", "4") == 0
    assert run(tmp_path / "whole", "--steps", "6") == 0
    assert same(result(tmp_path / "cut"), result(tmp_path / "whole"))


def test_fine_tuning_keeps_vit_and_statistics_and_its_file_predicts_the_same(tmp_path: Path, checkpoint: Path) -> None:
    assert run(tmp_path, "--steps", "3", "--init", str(checkpoint)) == 0
    before, after = load_foundation_stereo(checkpoint, max_disp=64), result(tmp_path)
    changed = {
        name for name, value in after.state_dict().items() if not torch.equal(value, before.state_dict()[name])
    }  # fmt: skip
    assert not [name for name in changed if name.startswith("features.mono.") or "running_" in name]
    learnt = {name for name, weight in after.named_parameters() if weight.requires_grad}
    assert changed <= learnt
    assert len(changed) > 0.9 * len(learnt)  # the gradient of some is too small for three steps
    assert not any(name.startswith("features.mono.") for name in learnt)

    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert len(state["optimizer_states"][0]["state"]) == len(learnt)
    trained = TrainedFoundationStereo(before, iterations=2, freeze_batch_norm=True)
    trained.module.load_state_dict({k.removeprefix("network."): v for k, v in state["state_dict"].items()})
    pair = validation_scenes(1, (70, 100), max_disp=64)[0]  # not a multiple of 32
    again = TrainedFoundationStereo(after, iterations=2, freeze_batch_norm=True)
    assert (trained.predict(pair) == again.predict(pair)).all()
    with safe_open(tmp_path / "foundation_stereo.safetensors", framework="pt") as file:
        source = json.loads(file.metadata()["source"])
    assert (source["steps"], list(source["made_from"])) == (3, [str(checkpoint)])


def test_statistics_are_trained_on_demand_and_modes_survive_validation(tmp_path: Path, checkpoint: Path) -> None:
    arguments = ["--steps", "2", "--validate_every", "1", "--init", str(checkpoint)]
    assert run(tmp_path, *arguments, "--batch_norm", "train") == 0
    before, after = load_foundation_stereo(checkpoint).state_dict(), result(tmp_path).state_dict()
    means = [name for name in after if name.endswith("running_mean")]
    assert means
    assert not [name for name in means if torch.equal(after[name], before[name])]


def test_weights_of_a_part_fill_the_frozen_branch(tmp_path: Path) -> None:
    torch.manual_seed(5)
    mono = MonoBranch("tiny")
    path = save_parts(mono, tmp_path / "mono.safetensors", prefix="features.mono.", training={"on": "nothing"})
    assert run(tmp_path / "out", "--steps", "1", "--foundation_stereo.weights", str(path)) == 0
    branch = result(tmp_path / "out").features.mono
    assert branch is not None
    assert same(branch, mono)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "foundation_stereo_vits"], "holds a FoundationStereo with tiny, not vits"),
        (["--foundation_stereo.disparity_kernel", "9"], "holds a network with disparity_kernel 17, not 9"),
        (["--foundation_stereo.weights", "PARTS"], "has weights for every part"),
    ],
)
def test_settings_that_do_not_fit_the_checkpoint(
    tmp_path: Path, checkpoint: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_parts(MonoBranch("tiny"), tmp_path / "mono.safetensors", prefix="features.mono.", training={})
    arguments = [str(path) if argument == "PARTS" else argument for argument in arguments]
    assert run(tmp_path / "out", "--init", str(checkpoint), *arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--foundation_stereo.disparity_kernel", "8"], "8 is no odd number"),
        (["--foundation_stereo.transformer_layers", "-1"], "-1 is negative"),
        (["--foundation_stereo.weights", "/nowhere"], "no such file"),
        (["--init", "/nowhere.pth"], "no such file"),
        (["--iterations", "0"], "iterations 0 is less than 1"),
        (["--max_disp", "100"], "nearest: 96"),
        (["--preset", "foundation_stereo"], "one of: nano, small, tiny, foundation_stereo_vitl"),
        (["--preset", "tiny", "--foundation_stereo.mono", "none"], "'tiny' is a student"),
    ],
)
def test_bad_settings(tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, *arguments) == 2
    assert message in capsys.readouterr().err


def test_ablation_recipes_differ_from_the_base_in_one_thing_each() -> None:
    base = parse_config("train", ["--config", str(RECIPES / "ablation" / "base.yaml"), "--out", "x"])
    networks = set()
    for path in sorted((RECIPES / "ablation").glob("*.yaml")):
        config = parse_config("train", ["--config", str(path), "--out", "x"])
        options, config.foundation_stereo = config.foundation_stereo, FoundationStereoOptions()
        assert config == base, path
        given = {
            name: value for name, value in vars(options).items() if value != getattr(FoundationStereoOptions, name)
        }
        assert len(given) == (path.stem != "base"), path
        config.foundation_stereo = options
        trained = build(config)
        assert isinstance(trained, TrainedFoundationStereo)
        networks.add(trained.module.config)
    assert len(networks) == 10  # no two recipes are the same network


def test_fine_tuning_recipe_is_valid() -> None:
    config = parse_config("train", ["--config", str(RECIPES / "finetune_teacher.yaml"), "--out", "x"])
    assert config.preset in PRESETS
    assert config.foundation_stereo.mono_trainable is None
