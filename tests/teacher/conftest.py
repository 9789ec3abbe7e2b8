"""FoundationStereo with the deterministic weights of the golden vectors, and the vectors themselves.

Helper modules cannot be imported from tests, so everything comes as a fixture. What is shared by the session is never
to be changed by a test: the networks of one size share their weights' memory.
"""

from __future__ import annotations

import csv
import functools
import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch

from teacher.blocks.disparity_transformer import AttentionAxis
from teacher.foundation_stereo import FoundationStereo, FoundationStereoConfig
from teacher.key_translation import translate

GOLDEN = Path(__file__).resolve().parents[1] / "golden"

# Small enough for a test of a second or two, and with every part of the published network.
TINY = FoundationStereoConfig(
    vit="tiny",
    max_disp=64,
    cnn_widths=(8, 16, 24, 32),
    cnn_depths=(1, 2, 2, 2),
    volume_width=8,
    groups=4,
    concat_channels=2,
    disparity_kernel=5,
    transformer_layers=2,
    hidden=32,
    context_widths=(8, 12, 16),
    encoder_widths=(16, 8),
    mask_width=8,
)


class Entry(NamedTuple):
    """One line of a key table: an entry of a published state dict."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


RecipeNetwork = Callable[..., FoundationStereo]
RecipeState = Callable[[str], dict[str, torch.Tensor]]


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Folder of the golden vectors."""
    return GOLDEN


@pytest.fixture(scope="session")
def golden_manifest() -> dict[str, Any]:
    """What the golden arrays are and how closely they are to be met."""
    return json.loads((GOLDEN / "golden_manifest.json").read_text())


@pytest.fixture(scope="session")
def recipe() -> ModuleType:
    """The recipe of weights (`tensor_for`) and images (`stereo_pair`)."""
    spec = importlib.util.spec_from_file_location("weights_recipe", GOLDEN / "weights_recipe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def recipe_pair(recipe: ModuleType) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """(height, width, seed=0) → left and right, (1, 3, H, W), RGB 0–255."""

    def pair(height: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        left, right = recipe.stereo_pair(height, width, seed)
        return torch.from_numpy(left), torch.from_numpy(right)

    return pair


@pytest.fixture(scope="session")
def key_table() -> Callable[[str], list[Entry]]:
    """Size of the ViT → entries of the published state dict, in their order."""

    @functools.cache
    def entries(vit: str) -> list[Entry]:
        with (GOLDEN / f"foundation_stereo_{vit}_keys.tsv").open(newline="") as file:
            return [
                Entry(row["key"], shape_of(row["shape"]), getattr(torch, row["dtype"]))
                for row in csv.DictReader(file, delimiter="\t")
            ]

    return entries


def shape_of(text: str) -> tuple[int, ...]:
    """ "64x3x7x7" → (64, 3, 7, 7); "scalar" → ()."""
    return () if text == "scalar" else tuple(int(size) for size in text.split("x"))


@pytest.fixture(scope="session")
def recipe_state(recipe: ModuleType, key_table: Callable[[str], list[Entry]]) -> Iterator[RecipeState]:
    """Size of the ViT → the whole published state dict, published names, recipe weights.

    ViT-S (0.25 GB) is made once per session, ViT-L (1.5 GB) at every call. The dict is the caller's, the tensors are
    shared: the session ends with an error if any was changed in place.
    """

    def make(vit: str) -> dict[str, torch.Tensor]:
        return {entry.name: torch.as_tensor(recipe.tensor_for(entry.name, entry.shape)) for entry in key_table(vit)}

    small = functools.cache(lambda: make("vits"))
    yield lambda vit: dict(small()) if vit == "vits" else make(vit)
    if small.cache_info().currsize:
        # torch counts writes to a tensor and to all parameters that share its memory
        assert [name for name, tensor in small().items() if tensor._version] == []


@pytest.fixture(scope="session")
def recipe_network(recipe_state: RecipeState) -> RecipeNetwork:
    """(vit="vits", axis="disparity", max_disp=416, dtype=float32, state=None) → network in evaluation mode.

    float32 networks of one state share its memory, so no test may change their weights; `state` saves making ViT-L's
    anew.
    """

    @functools.cache
    def small() -> dict[str, torch.Tensor]:
        return translate(recipe_state("vits"))[0]

    def build(
        vit: str = "vits",
        axis: AttentionAxis = "disparity",
        max_disp: int = 416,
        dtype: torch.dtype = torch.float32,
        state: Mapping[str, torch.Tensor] | None = None,
    ) -> FoundationStereo:
        if state is None:
            weights = small() if vit == "vits" else translate(recipe_state(vit))[0]
        else:
            weights = translate(state)[0]
        weights = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
        with torch.device("meta"):
            network = FoundationStereo(FoundationStereoConfig(vit=vit, attention_axis=axis, max_disp=max_disp))
        network.load_state_dict(weights, assign=True)
        return network.eval()

    return build


@pytest.fixture(scope="session")
def recipe_vits(recipe_network: RecipeNetwork) -> FoundationStereo:
    """The ViT-S network as it was published: disparity axis, 416 px, float32."""
    return recipe_network()


@pytest.fixture(scope="session")
def tiny_config() -> FoundationStereoConfig:
    """A small network with every part of the published one."""
    return TINY
