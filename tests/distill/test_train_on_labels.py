"""Training on a label set, the way the recipes do: worker process, half labels and half scenes, bf16."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distill import callbacks
from distill.scene_clip import write_clip
from stereo.cli import main


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    clip = write_clip(folder / "clip", 3, (96, 160), seed=0)
    assert main(["label", str(clip), "--out", str(folder / "set"), "--links", "false"]) == 0
    return folder / "set"


def run(out: Path, labels: Path, *more: str) -> int:
    return main(
        [
            "train", "--out", str(out), "--preset", "tiny", "--max_disp", "64", "--data.crop", "64x96",
            "--data.batch_size", "2", "--data.block", "4", "--data.workers", "1", "--validate_every", "0",
            "--precision", "bf16-mixed", "--trainer.accelerator", "cpu", "--data.labels", f"[{labels}]", *more,
        ]
    )  # fmt: skip


def test_resume_in_the_middle_of_a_block_is_exact(
    tmp_path: Path, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = callbacks.Checkpoints.on_train_batch_end

    def cut(self: callbacks.Checkpoints, trainer: object, *rest: object) -> None:
        if trainer.global_step == 6:  # type: ignore[attr-defined]
            self._on_interrupt(2, None)
        original(self, trainer, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(callbacks.Checkpoints, "on_train_batch_end", cut)
    assert run(tmp_path / "cut", labels, "--steps", "14") == 130
    monkeypatch.setattr(callbacks.Checkpoints, "on_train_batch_end", original)
    # looking at a finished set again must not make it another one
    assert main(["label", str(labels.parent / "clip"), "--out", str(labels), "--links", "false"]) == 0
    assert run(tmp_path / "cut", labels, "--steps", "14") == 0
    assert run(tmp_path / "whole", labels, "--steps", "14") == 0
    one, other = (load_file(tmp_path / name / "student.safetensors") for name in ("cut", "whole"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_altered_label_set_stops_in_one_line(tmp_path: Path, labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = tmp_path / "set"
    shutil.copytree(labels, damaged)
    for path in (damaged / "disparity").iterdir():
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1  # the size stays: only the checksum tells
        path.write_bytes(content)
    capsys.readouterr()
    assert run(tmp_path / "out", damaged, "--steps", "4") == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(errors) == 1
    assert "altered" in errors[0]
    assert str(damaged) in errors[0]
    assert not (tmp_path / "out" / "student.safetensors").exists()


def test_changed_data_is_refused_on_resume(tmp_path: Path, labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "set"
    shutil.copytree(labels, other)
    assert run(tmp_path / "out", other, "--steps", "2") == 0
    journal = other / "journal.jsonl"
    journal.write_text(journal.read_text().replace("kept_pct", "kept_pcT"))
    assert run(tmp_path / "out", other, "--steps", "2") == 2
    assert f"{journal}: differs from the checksum" in capsys.readouterr().err
