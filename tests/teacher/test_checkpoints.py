"""Published checkpoints, our form of them, and files that are neither."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from stereo.cli import main
from stereo.errors import UserError
from teacher.checkpoints import (
    assemble,
    content_sha256,
    is_foundation_stereo,
    load_foundation_stereo,
    read_weights,
    save_foundation_stereo,
)
from teacher.foundation_stereo import FoundationStereo
from teacher.foundation_teacher import FoundationTeacher, Settings


class FoundationStereoPickle:
    """Stands for a network that was pickled whole, class and all."""

    def __reduce__(self):
        return (print, ("this must never be printed",))


@pytest.fixture(scope="module")
def published(recipe_state, tmp_path_factory):
    """A ViT-S checkpoint as NVIDIA writes it, with recipe weights: numpy numbers beside the weights."""
    path = tmp_path_factory.mktemp("11-33-40") / "model_best_bp2.pth"
    torch.save({"model": recipe_state("vits"), "global_step": np.float64(200000), "epoch": np.int64(7)}, path)
    return path


@pytest.fixture
def tiny_file(tiny_config, tmp_path):
    torch.manual_seed(0)
    return save_foundation_stereo(FoundationStereo(tiny_config).eval(), tmp_path / "tiny.safetensors")


def test_a_published_checkpoint_loads_and_says_what_it_attends_over(published, recipe_vits, caplog):
    caplog.set_level("INFO")
    network = load_foundation_stereo(published)
    assert network.config == recipe_vits.config
    assert not network.training
    expected = recipe_vits.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())
    assert "attends over disparity" in caplog.text
    assert not any(weight.requires_grad for weight in network.features.mono.parameters())
    assert all(weight.requires_grad for weight in network.update.parameters())


def test_the_converted_file_is_the_same_network(published, tmp_path, capsys):
    out = tmp_path / "teacher.safetensors"
    assert main(["convert-teacher", str(published), "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert is_foundation_stereo(out)
    converted, original = load_foundation_stereo(out), load_foundation_stereo(published)
    assert converted.weights_sha256 == original.weights_sha256
    assert converted.config == original.config
    expected = original.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in converted.state_dict().items())
    assert read_weights(out).source["file"] == "model_best_bp2.pth"


def test_a_dict_of_published_names_loads_too(recipe_state, published):
    state = {f"module.{name}": value for name, value in recipe_state("vits").items()}
    assert load_foundation_stereo(state).weights_sha256 == load_foundation_stereo(published).weights_sha256


def test_settings_go_before_the_configuration_beside_the_file(published):
    beside = published.parent / "cfg.yaml"
    beside.write_text("max_disp: 320\nvalid_iters: 12\nhidden_dims: [128, 128, 128]\nvit_size: vits\n")
    try:
        assert load_foundation_stereo(published).config.max_disp == 320
        network = load_foundation_stereo(published, max_disp=192, attention_axis="heads")
        assert (network.config.max_disp, network.config.attention_axis) == (192, "heads")
        assert network.filtering.hourglass.transformer.layers[0].axis == "heads"
        beside.write_text("hidden_dims: [64]\n")
        with pytest.raises(UserError, match="hidden_dims is"):
            load_foundation_stereo(published)
        beside.write_text("max_disp: [\n")
        with pytest.raises(UserError, match="not YAML"):
            load_foundation_stereo(published)
    finally:
        beside.unlink()


@pytest.mark.parametrize(("max_disp", "told"), [(400, "the next one is 416"), (0, "next one is 32"), (-32, "32")])
def test_a_range_the_network_cannot_have_is_refused(tiny_file, max_disp, told):
    with pytest.raises(UserError, match=told):
        load_foundation_stereo(tiny_file, max_disp=max_disp)


def test_another_vit_than_asked_for_is_refused(published):
    with pytest.raises(UserError, match="holds a network with vits, asked for was vitl"):
        load_foundation_stereo(published, vit="vitl")


def test_missing_unexpected_and_misshapen_entries_are_listed(recipe_state):
    state = recipe_state("vits")
    del state["classifier.2.bias"], state["sam.samconv.weight"]
    state["surprise.weight"] = torch.zeros(3)
    state["proj_cmb.bias"] = torch.zeros(13)
    with pytest.raises(UserError) as error:
        load_foundation_stereo(state)
    told = str(error.value)
    assert "2 missing: " in told
    assert "filtering.classifier.2.bias" in told
    assert "1 unexpected: surprise.weight" in told
    assert "filtering.cost_volume.projection.bias (13,) instead of (12,)" in told


def test_one_module_saved_twice_must_be_the_same(recipe_state):
    state = recipe_state("vits")
    name = "cnet.layer2.0.downsample.1.weight"
    state[name] = state[name] + 1
    with pytest.raises(UserError, match="saved twice, and differ"):
        load_foundation_stereo(state)


def test_another_network_is_refused(tmp_path):
    torch.save({"model": {"backbone.weight": torch.zeros(3)}}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="another network"):
        load_foundation_stereo(tmp_path / "other.pth")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    with pytest.raises(UserError, match="holds no weights"):
        load_foundation_stereo(tmp_path / "none.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="holds no weights"):
        load_foundation_stereo(tmp_path / "list.pth")


def test_pickled_code_is_not_executed(tmp_path, capfd):
    torch.save({"model": FoundationStereoPickle()}, tmp_path / "whole.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(FoundationStereoPickle()))
    for name in ("whole.pth", "bare.pth"):
        with pytest.raises(UserError, match=r"never executed.*--teacher onnx"):
            load_foundation_stereo(tmp_path / name)
    assert "must never" not in capfd.readouterr().out


def test_a_truncated_file_is_told_apart(published, tmp_path):
    whole = published.read_bytes()
    for share in (0.0, 0.001, 0.5, 0.999):
        cut = tmp_path / "cut.pth"
        cut.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(UserError, match="truncated"):
            load_foundation_stereo(cut)


def test_no_checkpoint_says_where_it_comes_from(tmp_path, capsys):
    with pytest.raises(UserError, match="from NVIDIA under its own licence"):
        load_foundation_stereo(tmp_path / "model_best_bp2.pth")
    with pytest.raises(UserError, match="from NVIDIA under its own licence"):
        load_foundation_stereo(tmp_path / "teacher.safetensors")
    code = main(["label", str(tmp_path), "--teacher", "foundation_stereo", "--out", str(tmp_path / "out")])
    assert code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_weights_that_are_not_numbers_are_refused(tiny_config, tmp_path):
    network = FoundationStereo(tiny_config)
    with torch.no_grad():
        network.update.mask[0].bias[0] = float("nan")
    save_foundation_stereo(network, tmp_path / "nan.safetensors")
    with pytest.raises(UserError, match=r"not finite: update\.mask\.0\.bias"):
        load_foundation_stereo(tmp_path / "nan.safetensors")


def test_a_changed_value_is_noticed(tiny_file):
    data = bytearray(tiny_file.read_bytes())
    data[-40] ^= 1
    tiny_file.write_bytes(data)
    with pytest.raises(UserError, match="is damaged"):
        load_foundation_stereo(tiny_file)


def test_a_safetensors_of_others_is_refused(tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="no FoundationStereo of this project"):
        load_foundation_stereo(tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(UserError, match="not a safetensors file"):
        load_foundation_stereo(tmp_path / "text.safetensors")
    assert not is_foundation_stereo(tmp_path / "other.safetensors")
    assert not is_foundation_stereo(tmp_path / "text.safetensors")


def test_a_file_of_a_newer_version_is_told_apart(tiny_file):
    tensors = load_file(tiny_file)
    config = json.dumps({"vit": "tiny", "colour": "green"})
    metadata = {"format": "stereodistill-foundation-stereo-1", "config": config}
    save_file(tensors, tiny_file, metadata={**metadata, "weights_sha256": content_sha256(tensors)})
    with pytest.raises(UserError, match=r"newer version.*colour"):
        load_foundation_stereo(tiny_file)


def test_the_stamp_depends_on_every_value_and_name():
    tensors = {"a": torch.arange(4.0), "b": torch.tensor(3)}
    stamp = content_sha256(tensors)
    assert content_sha256(dict(reversed(tensors.items()))) == stamp
    assert content_sha256({**tensors, "b": torch.tensor(4)}) != stamp
    assert content_sha256({"c": tensors["a"], "b": tensors["b"]}) != stamp
    assert content_sha256({**tensors, "a": torch.arange(4.0).reshape(2, 2)}) != stamp


def test_range_and_axis_do_not_change_the_weights(tiny_file, tiny_config):
    wide = load_foundation_stereo(tiny_file, max_disp=2 * tiny_config.max_disp)
    weights = read_weights(tiny_file)
    same = assemble(dataclasses.replace(tiny_config, attention_axis="heads"), weights)
    assert wide.weights_sha256 == same.weights_sha256


def test_convert_wants_a_safetensors_name(published, tmp_path, capsys):
    assert main(["convert-teacher", str(published), "--out", str(tmp_path / "teacher.pth")]) == 2
    assert "ends in .safetensors" in capsys.readouterr().err


def test_the_teacher_tells_weights_apart_in_its_labels(tiny_file):
    network = load_foundation_stereo(tiny_file)
    teacher = FoundationTeacher(network, Settings(iterations=1), device=torch.device("cpu"))
    assert teacher.describe()["weights_sha256"] == network.weights_sha256
    json.dumps(teacher.describe())
