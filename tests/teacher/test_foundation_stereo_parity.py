"""The network against golden vectors of the published one, stage by stage.

The vectors were made with the deterministic weights and images of tests/golden/weights_recipe.py. Tolerances come from
golden_manifest.json: four times what float32 rounding moves the published network itself, or, for float64, a
five-hundredth of that rounding. Every array of every case is one test.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from teacher.foundation_stereo import FoundationStereo

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
CASES: dict[str, Any] = json.loads((GOLDEN / "golden_manifest.json").read_text())["cases"]
F64 = "_f64"
Run = Callable[[str, str], "dict[str, Sample]"]


class Sample(NamedTuple):
    """What is kept of a stage."""

    shape: tuple[int, ...]
    values: np.ndarray


class Recorder:
    """Keeps every n-th entry of the stages that a case asks for, at the first time they are seen.

    Args:
        steps: name of each wanted stage → n.
    """

    def __init__(self, steps: dict[str, int]) -> None:
        self.steps = steps
        self.samples: dict[str, Sample] = {}
        self.calls: Counter[str] = Counter()

    def see(self, name: str, tensor: torch.Tensor) -> None:
        """One stage; at once, as later layers may work in place."""
        if name in self.steps and name not in self.samples:
            values = tensor.detach().contiguous().reshape(-1)[:: self.steps[name]].clone()
            self.samples[name] = Sample(tuple(tensor.shape), values.numpy())

    def see_next(self, pattern: str, tensor: torch.Tensor) -> None:
        """A stage of the next iteration; the pattern has a place for its number."""
        self.see(pattern.format(self.calls[pattern]), tensor)
        self.calls[pattern] += 1

    def outputs(self, module: nn.Module, name: str, *, first: int | None = None) -> None:
        """The output of a module; of a batch of both eyes the left half, where `first` says 1."""
        module.register_forward_hook(lambda _module, _inputs, output: self.see(name, output[:first]))

    def each_output(self, module: nn.Module, pattern: str) -> None:
        """The outputs of all calls of a module."""
        module.register_forward_hook(lambda _module, _inputs, output: self.see_next(pattern, output))


def watch_features(network: FoundationStereo, recorder: Recorder) -> None:
    """Hooks on the feature network; left images come first in the batch."""
    mono: Any = network.features.mono
    cnn: Any = network.features.cnn
    mono.vit.register_forward_pre_hook(lambda _module, inputs: recorder.see("vit_input", inputs[0][:1]))

    def see_tokens(_module: nn.Module, _inputs: object, taps: list[torch.Tensor]) -> None:
        for number, tap in enumerate(taps):
            recorder.see(f"vit_tokens_{number}", tap[:1].flatten(2).transpose(1, 2))

    def see_features(_module: nn.Module, _inputs: object, features: Any) -> None:
        names = ("feat_4", "feat_8", "feat_16", "feat_32", "vit_feat")
        for name, feature in zip(names, features, strict=True):
            recorder.see(name, feature[:1])
        recorder.see("feat_4_right", features.quarter[1:])

    mono.vit.register_forward_hook(see_tokens)
    recorder.outputs(mono.head, "dpt_out", first=1)
    recorder.outputs(mono.head.fusion[0], "dpt_path_1", first=1)
    for number, stage in enumerate(cnn.stages):
        recorder.outputs(stage, f"edgenext_stage{number}", first=1)
    network.features.register_forward_hook(see_features)


def watch_volume(network: FoundationStereo, recorder: Recorder) -> None:
    """Hooks on the cost filtering."""
    filtering = network.filtering
    hourglass: Any = filtering.hourglass
    transformer = hourglass.transformer

    def see_volume(_module: nn.Module, _inputs: object, volume: torch.Tensor) -> None:
        recorder.see("gwc_volume", volume[:, :8])
        recorder.see("concat_volume", volume[:, 8:])

    filtering.cost_volume.register_forward_hook(see_volume)
    recorder.outputs(filtering.stem, "corr_stem")
    recorder.outputs(filtering.stem_gate, "corr_feature_att")
    for gate, name in zip(hourglass.gate_down, ("hg_8", "hg_16", "hg_32"), strict=True):
        recorder.outputs(gate, name)
    recorder.outputs(hourglass.up_stages[1], "hg_up_16")
    recorder.outputs(hourglass.up_stages[0], "hg_up_8")
    recorder.outputs(hourglass.up, "hg_up_4")
    recorder.outputs(transformer.norm, "dt_in")
    wrap(transformer, "attend", functools.partial(recorder.see, "dt_out"))
    recorder.outputs(hourglass, "cost_agg")
    recorder.outputs(filtering.classifier, "classifier_logits")
    wrap(filtering, "initial_disparity", functools.partial(recorder.see, "init_disp"))


def watch_refinement(network: FoundationStereo, recorder: Recorder) -> None:
    """Hooks on context, update block and upsampling."""
    context: Any = network.context
    update: Any = network.update
    levels = ("4", "8", "16")
    for level, head in zip(levels, context.heads, strict=True):
        recorder.outputs(head.state, f"cnet_net_{level}")
        recorder.outputs(head.inputs, f"cnet_inp_{level}")
    for attention, name in ((context.cam, "cam"), (context.sam, "sam")):
        finest_first = iter(levels)
        attention.register_forward_hook(
            lambda _module, _inputs, output, name=name, finest_first=finest_first: recorder.see(
                f"{name}_{next(finest_first, 'later')}", output
            )
        )
    recorder.outputs(network.upsampling.stem, "stem_2x")
    update.encoder.register_forward_pre_hook(lambda _module, inputs: recorder.see_next("geo_feat_it{}", inputs[0]))
    recorder.each_output(update.encoder, "motion_it{}")
    for gru, name in zip(update.grus, ("gru04", "gru08", "gru16"), strict=True):
        recorder.each_output(gru, name + "_it{}")
    wrap(update, "mask_features", functools.partial(recorder.see_next, "mask_feat_4_it{}"))
    recorder.each_output(network.upsampling, "spx_logits_it{}")


def watch_iterations(network: FoundationStereo, recorder: Recorder) -> None:
    """Disparities of all iterations, and what they start from and end with."""
    start, iterate = network.start, network.iterate
    patterns = {"disparity": "disp_quarter_it{}", "correction": "delta_disp_it{}"}

    def watched_start(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("initial") is not None:
            recorder.see("init_full", kwargs["initial"])
        return start(*args, **kwargs)

    def watched_iterate(*args: Any, **kwargs: Any) -> list[torch.Tensor]:
        sequence = iterate(*args, **kwargs, watch=lambda name, tensor: recorder.see_next(patterns[name], tensor))
        for disparity in sequence:
            recorder.see_next("disp_full_it{}", disparity)
        recorder.see("disp_padded", sequence[-1])
        return sequence

    network.start = watched_start
    network.iterate = watched_iterate


def wrap(owner: nn.Module, method: str, see: Callable[[torch.Tensor], None]) -> None:
    """Show what a method returns."""
    original = getattr(owner, method)

    def wrapped(*args: Any) -> torch.Tensor:
        output = original(*args)
        see(output)
        return output

    setattr(owner, method, wrapped)


def wanted(case: str, precision: str) -> dict[str, int]:
    """Stages of a case in one precision, without the suffix of the float64 ones → sampling step."""
    return {
        name.removesuffix(F64): array["flat_step"]
        for name, array in CASES[case]["arrays"].items()
        if name.endswith(F64) == (precision == "float64")
    }


@pytest.fixture(scope="module")
def stages(recipe_network: Any, recipe_state: Any, recipe_pair: Any) -> Iterator[Run]:
    """(case, precision) → stages, from one run each."""
    large_state = functools.lru_cache(maxsize=1)(lambda: recipe_state("vitl"))

    @functools.cache
    def run(case: str, precision: str) -> dict[str, Sample]:
        facts = CASES[case]
        dtype = getattr(torch, precision)
        network = recipe_network(
            facts["vit"],
            "heads" if facts["dt_attention"].startswith("head") else "disparity",
            facts["config"]["max_disp"],
            dtype,
            large_state() if facts["vit"] == "vitl" else None,
        )
        recorder = Recorder(wanted(case, precision))
        for watch in (watch_features, watch_volume, watch_refinement, watch_iterations):
            watch(network, recorder)
        left, right = (image.to(dtype) for image in recipe_pair(*size_of(case)))
        with torch.inference_mode():
            if "padded" in case or "hierarchical" in case:
                recorder.see(
                    "disp_full",
                    network.predict(left, right, iterations=facts["iters"], hierarchical="hierarchical" in case),
                )
            else:
                network.predict_sequence(left, right, iterations=facts["iters"])
        # The watched methods hold the network in a cycle: 3 GB for the large one in float64.
        del network
        gc.collect()
        return recorder.samples

    yield run
    large_state.cache_clear()


def size_of(case: str) -> tuple[int, int]:
    """Height and width of a case's images."""
    height, width = case.split("_")[1].split("x")
    return int(height), int(width)


def arrays() -> Iterator[Any]:
    """Case and name of every golden array; slow: the large network, and float64."""
    for case, facts in CASES.items():
        for name in facts["arrays"]:
            slow = facts["vit"] == "vitl" or name.endswith(F64)
            yield pytest.param(case, name, marks=[pytest.mark.slow] if slow else [], id=f"{case}-{name}")


@pytest.mark.parametrize(("case", "name"), arrays())
def test_stage_equals_the_published_network(case: str, name: str, stages: Run) -> None:
    facts = CASES[case]["arrays"][name]
    run = stages(case, "float64" if name.endswith(F64) else "float32")
    assert name.removesuffix(F64) in run, "this stage was never computed"
    got = run[name.removesuffix(F64)]
    want = np.load(GOLDEN / CASES[case]["file"])[name]
    assert got.shape == tuple(facts["shape"])
    assert got.values.dtype == (np.float64 if name.endswith(F64) else np.float32)
    error = np.abs(got.values.astype(np.float64) - want)
    assert error.max() <= facts["atol"]
    assert error.mean() <= facts.get("mean_atol", facts["atol"])


def test_every_stored_array_is_compared() -> None:
    compared = {(param.values[0], param.values[1]) for param in arrays()}
    stored = {(case, name) for case, facts in CASES.items() for name in np.load(GOLDEN / facts["file"]).files}
    assert compared == stored
    assert {facts["file"] for facts in CASES.values()} == {path.name for path in GOLDEN.glob("*.npz")}


@pytest.mark.parametrize("case", CASES)
def test_images_are_those_of_the_golden_run(case: str, recipe_pair: Any) -> None:
    for image, eye in zip(recipe_pair(*size_of(case)), ("left", "right"), strict=True):
        assert hashlib.sha256(image.numpy().tobytes()).hexdigest() == CASES[case][f"{eye}_sha256"]
