"""Training on packed label sets: beside label sets and scenes, from a folder and from an address alike, resumable."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from distill import callbacks
from distill import packed as packed_module
from distill import train as train_module
from distill.batches import Batch
from distill.config import DataOptions
from distill.data import Blocks, open_batches
from distill.validation import validation_scenes
from stereo.cli import main
from stereo.errors import UserError
from stereo.packing import PackConfig, pack

pytest.importorskip("webdataset", reason="webdataset is not installed")
FRAMES = 21
SMALL = {"crop": "32x64", "batch_size": 2, "block": 3, "workers": 0, "scene_share": 0.0}


def frames_of(batches: list[Batch]) -> list[str]:
    return [name.rpartition("/")[2] for batch in batches for name in batch.names]


def draws(location: object, blocks: range, *, spool: Path, world: int = 1, **options: Any) -> list[str]:
    """Names of the frames in some blocks of all ranks."""
    options_ = DataOptions(labels=[str(location)], **{**SMALL, **options})
    ranks = [
        Blocks(options_, max_disp=64, seed=0, steps=3 * blocks.stop, rank=rank, world=world, spool=spool)
        for rank in range(world)
    ]
    return frames_of([batch for block in blocks for rank in ranks for batch in rank.make(block)])


@pytest.mark.parametrize("world", [1, 2])
def test_ranks_and_blocks_share_no_frame_of_a_pass(packed: Path, address: str, world: int) -> None:
    # 7 blocks of 6 crops are two passes through 21 frames
    spool = packed.parent / "spool"
    names = draws(address, range(8), spool=spool, world=world)
    assert len(set(names[:FRAMES])) == FRAMES
    assert Counter(names[: 2 * FRAMES]) == dict.fromkeys(names, 2)
    assert names[:FRAMES] != names[FRAMES : 2 * FRAMES]
    assert names == draws(packed, range(8), spool=spool, world=world), "a folder gives what an address gives"


def test_one_block_is_what_it_is_among_others(packed: Path, address: str, tmp_path: Path) -> None:
    options = DataOptions(labels=[address], **SMALL)
    whole = list(open_batches(options, max_disp=64, seed=5, steps=20, spool=tmp_path / "one"))
    helped = DataOptions(**{**vars(options), "workers": 2})
    later = list(open_batches(helped, max_disp=64, seed=5, steps=20, start=13, spool=tmp_path / "two"))
    assert frames_of(later) == frames_of(whole[13:])
    assert all(torch.equal(one.left, other.left) for one, other in zip(whole[13:], later, strict=True))
    assert not any(torch.equal(one.left, other.left) for one, other in zip(whole[:7], later, strict=True))


def test_frames_of_all_sets_are_as_likely(packed: Path, tmp_path: Path, write_labels: Callable[..., Path]) -> None:
    plain = write_labels(tmp_path / "plain", 3, first=100)
    more = pack(PackConfig(str(write_labels(tmp_path / "more", 4, first=200)), out=str(tmp_path / "packed_more")))
    options = DataOptions(labels=[packed, plain, more], **{**SMALL, "batch_size": 4, "block": 7})
    blocks = Blocks(options, max_disp=64, seed=0, steps=42)
    names = [name for block in range(6) for batch in blocks.make(block) for name in batch.names]
    of_sets = Counter(name.rpartition("/")[0] for name in names)
    # 28 crops a block: 25 of 28 frames are packed, 3 are not
    assert of_sets[str(plain)] == 6 * 3
    assert of_sets[str(packed)] + of_sets[str(more)] == 6 * 25
    assert set(Counter(name for name in names if not name.startswith(f"{plain}/")).values()) == {6}
    places = [[place for place in range(28) if names[28 * block + place].startswith(f"{plain}/")] for block in range(6)]
    assert [len(found) for found in places] == [3] * 6
    assert len({tuple(found) for found in places}) > 1, "not always at the same places of the block"


def run(out: Path, *labels: object, more: tuple[str, ...] = (), steps: int = 6) -> int:
    listed = ", ".join(f'"{place}"' for place in labels)
    return main(
        [
            "train", "--out", str(out), "--preset", "tiny", "--max_disp", "64", "--data.crop", "32x64",
            "--data.batch_size", "4", "--data.block", "3", "--validate_every", "0", "--precision", "32-true",
            "--trainer.accelerator", "cpu", "--data.labels", f"[{listed}]", "--steps", str(steps), *more,
        ]
    )  # fmt: skip


def test_resume_in_the_middle_of_a_block_is_exact(
    tmp_path: Path, packed: Path, address: str, monkeypatch: pytest.MonkeyPatch, write_labels: Callable[..., Path]
) -> None:
    plain = write_labels(tmp_path / "plain", 5, first=50)
    scenes = {"scenes": validation_scenes(1, (64, 96), max_disp=64)}
    monkeypatch.setattr(train_module, "validation_groups", lambda *_: scenes)
    original = callbacks.Checkpoints.on_train_batch_end

    def cut(self: callbacks.Checkpoints, trainer: object, *rest: object) -> None:
        if trainer.global_step == 2:  # type: ignore[attr-defined]
            self._on_interrupt(2, None)
        original(self, trainer, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(callbacks.Checkpoints, "on_train_batch_end", cut)
    assert run(tmp_path / "cut", address, plain, more=("--data.workers", "2")) == 130
    assert list((tmp_path / "cut/shards").glob("*.tar"))
    monkeypatch.setattr(callbacks.Checkpoints, "on_train_batch_end", original)
    assert run(tmp_path / "cut", address, plain, more=("--data.workers", "1")) == 0
    assert not (tmp_path / "cut/shards").exists()
    assert run(tmp_path / "whole", packed, plain, more=("--data.workers", "0")) == 0
    one, other = (load_file(tmp_path / name / "student.safetensors") for name in ("cut", "whole"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    records = [json.loads((tmp_path / name / "train.json").read_text()) for name in ("cut", "whole")]
    assert records[0]["made_from"][address] == records[1]["made_from"][str(packed)]


def test_changed_shards_are_refused_on_resume(
    tmp_path: Path, packed: Path, address: str, labels: Any, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(train_module, "fit", lambda *_, **__: None)
    assert run(tmp_path / "out", address, steps=2) == 0
    shutil.rmtree(packed)
    pack(PackConfig(str(labels.path), out=str(packed), shard_mb=1.0))
    capsys.readouterr()
    assert run(tmp_path / "out", address, steps=2) == 2
    error = capsys.readouterr().err
    assert f"holds a run with other settings: {address} was " in error


def test_a_shard_that_is_cut_off_stops_in_one_line(
    tmp_path: Path, packed: Path, address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(packed_module, "PAUSE_S", 0.0)
    for shard in packed.glob("*.tar"):
        shard.write_bytes(shard.read_bytes()[:3000])
    assert run(tmp_path / "out", address, more=("--data.workers", "2")) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(errors) == 1
    assert f"{address}/shard-" in errors[0]
    assert "has 3000 bytes, not" in errors[0]
    assert not (tmp_path / "out/student.safetensors").exists()


def test_what_teaches_nothing_or_is_not_there_is_refused(
    tmp_path: Path, address: str, write_labels: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    empty = pack(PackConfig(str(write_labels(tmp_path / "set", 2, confidence=0.0)), out=str(tmp_path / "empty")))
    with pytest.raises(UserError, match="no trusted pixel"):
        Blocks(DataOptions(labels=[empty], **SMALL), max_disp=64, seed=0, steps=3)
    assert run(tmp_path / "out", f"{address}/nothing") == 2
    assert run(tmp_path / "out", f"{address}/shard-7*.tar") == 2
    assert run(tmp_path / "out", tmp_path) == 2
    assert not (tmp_path / "out").exists()
    errors = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(errors) == 3
