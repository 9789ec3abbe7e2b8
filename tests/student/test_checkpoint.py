"""Student files: what is saved is what is loaded, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from stereo.errors import UserError
from student.checkpoint import load_student, read_metadata, save_student
from student.presets import build_student


def test_round_trip(tmp_path: Path) -> None:
    torch.manual_seed(1)
    student = build_student("tiny", max_disp=96, iterations=1)
    path = save_student(student, tmp_path / "s.safetensors", training={"steps": 7})
    loaded = load_student(path)
    assert loaded.config == student.config
    assert not loaded.training
    for name, tensor in student.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])
    assert read_metadata(path)["training"] == {"steps": 7}


def test_range_and_iterations_may_change_at_load(tmp_path: Path) -> None:
    path = save_student(build_student("tiny", max_disp=96), tmp_path / "s.safetensors", training={})
    assert load_student(path, max_disp=128, iterations=4).config.max_disp == 128


def test_missing_file_lists_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such student file.*shipped name"):
        load_student(tmp_path / "none.safetensors")


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.safetensors"
    text.write_text("hello")
    with pytest.raises(UserError, match="not a safetensors file"):
        load_student(text)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, foreign)
    with pytest.raises(UserError, match="not a student of this project"):
        load_student(foreign)


def test_broken_weights_are_refused(tmp_path: Path) -> None:
    student = build_student("tiny")
    with torch.no_grad():
        next(student.parameters()).fill_(float("nan"))
    path = save_student(student, tmp_path / "nan.safetensors", training={})
    with pytest.raises(UserError, match="weights are not finite"):
        load_student(path)


def test_weights_of_another_preset_are_refused(tmp_path: Path) -> None:
    student = build_student("tiny")
    student.config = build_student("nano").config
    path = save_student(student, tmp_path / "wrong.safetensors", training={})
    with pytest.raises(UserError, match="weights do not fit preset 'nano'"):
        load_student(path)
