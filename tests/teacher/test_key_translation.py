"""Published names → ours: nothing lacks, nothing is left over, nothing is guessed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import torch

from teacher.foundation_stereo import FoundationStereo, FoundationStereoConfig
from teacher.key_translation import alias_of, is_never_used, translate, translated

SIZES = ("vits", "vitl")
DPT = "feature.dino.depth_anything.depth_head.scratch."


@pytest.fixture
def published(key_table: Callable[[str], Any]) -> Callable[[str], dict[str, torch.Tensor]]:
    """Size of the ViT → the published state dict without values."""
    return lambda vit: {
        entry.name: torch.empty(entry.shape, dtype=entry.dtype, device="meta") for entry in key_table(vit)
    }


def described(state: dict[str, torch.Tensor]) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Names, shapes and types."""
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in state.items()}


@pytest.mark.parametrize("vit", SIZES)
def test_names_shapes_and_types_are_those_of_the_network(vit: str, published: Any) -> None:
    weights, unknown = translate(published(vit))
    with torch.device("meta"):
        network = FoundationStereo(FoundationStereoConfig(vit=vit))
    assert unknown == []
    assert described(weights) == described(dict(network.state_dict()))


@pytest.mark.parametrize(("vit", "count"), [("vits", 1192), ("vitl", 1360)])
def test_tables_are_whole(vit: str, count: int, key_table: Any) -> None:
    names = [entry.name for entry in key_table(vit)]
    assert len(names) == len(set(names)) == count


@pytest.mark.parametrize("vit", SIZES)
def test_never_used_are_exactly_those_of_the_facts(vit: str, key_table: Any) -> None:
    expected = ("context_zqr_convs.", "stem_4.", "cnet.down.", "cnet.norm.", f"{DPT}refinenet4.resConfUnit1.")
    expected = (*expected, f"{DPT}output_conv2.", "feature.dino.depth_anything.pretrained.mask_token")
    names = [entry.name for entry in key_table(vit)]
    assert [name for name in names if is_never_used(name)] == [name for name in names if name.startswith(expected)]
    for start in expected:
        assert any(name.startswith(start) for name in names)


@pytest.mark.parametrize("vit", SIZES)
def test_every_entry_is_translated_or_a_second_name_or_never_used(vit: str, key_table: Any) -> None:
    names = {entry.name for entry in key_table(vit)}
    kinds = {
        "never used": {name for name in names if is_never_used(name)},
        "second name": {name for name in names if alias_of(name) is not None},
        "translated": {name for name in names if translated(name) and not is_never_used(name) and not alias_of(name)},
    }
    assert sum(len(kind) for kind in kinds.values()) == len(names)
    assert len(kinds["second name"]) == 20
    assert {alias_of(name) for name in kinds["second name"]} <= kinds["translated"]


def test_no_two_entries_share_a_place(key_table: Any) -> None:
    names = [
        entry.name for entry in key_table("vits") if not is_never_used(entry.name) and alias_of(entry.name) is None
    ]
    places = [translated(name) for name in names]
    assert len(set(places)) == len(places)


def test_either_name_of_a_module_saved_twice_is_enough(published: Any) -> None:
    state = published("vits")
    whole = described(translate(state)[0])
    for dropped in (".downsample.1.", ".norm3."):
        some = {
            name: tensor for name, tensor in state.items() if not (name.startswith("cnet.layer") and dropped in name)
        }
        assert len(state) - len(some) == 20
        assert described(translate(some)[0]) == whole


def test_unknown_names_are_told(published: Any) -> None:
    state = {**published("vits"), "student.head.weight": torch.zeros(1), "updateblock.gru04.x": torch.zeros(1)}
    weights, unknown = translate(state)
    assert unknown == ["student.head.weight", "updateblock.gru04.x"]
    assert not any("student" in name for name in weights)


def test_gates_are_joined_update_first() -> None:
    update, reset = torch.full((2, 3, 1, 1), 1.0), torch.full((2, 3, 1, 1), 2.0)
    name = "update_block.gru08.small_gru.conv{}.weight"
    # whatever the order in the file
    weights, unknown = translate({name.format("r"): reset, name.format("z"): update})
    assert unknown == []
    assert list(weights) == ["update.grus.1.small_gru.gates.weight"]
    assert torch.equal(next(iter(weights.values())), torch.cat([update, reset]))


def test_half_a_pair_of_gates_is_missed_not_invented(published: Any) -> None:
    state = published("vits")
    del state["update_block.gru08.small_gru.convr.weight"]
    assert "update.grus.1.small_gru.gates.weight" not in translate(state)[0]


@pytest.mark.parametrize("vit", ["vits", pytest.param("vitl", marks=pytest.mark.slow)])
def test_recipe_weights_are_those_of_the_golden_run(
    vit: str, recipe_state: Any, golden_manifest: dict[str, Any]
) -> None:
    expected = golden_manifest["recipe_check"][vit]
    digest, total = hashlib.sha256(), 0.0
    state = recipe_state(vit)
    for name, tensor in state.items():
        digest.update(name.encode())
        digest.update(tensor.numpy().tobytes())
        total += tensor.double().abs().sum().item()
    assert len(state) == expected["entries"]
    assert digest.hexdigest() == expected["sha256_of_key_then_bytes_in_table_order"]
    # the order of a float64 sum is the machine's
    assert total == pytest.approx(expected["sum_abs_float64"], rel=1e-9)
