"""calibration.json: what it holds, and what a repetition refuses."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from calibration.frames import Choice, FrameRecord, read_fitted
from calibration.record import check_repeated, compose_record, repeat_choice
from stereo.artifacts import write_json
from stereo.errors import UserError
from stereo.label_set import LabelledFrame, LabelSet
from stereo.label_set_writer import LabelSetWriter

SIZE = (64, 96)
CHOICE = Choice([0, 2], "coverage", 0, 2, 1.25)


def label_set(folder: Path, count: int) -> LabelSet:
    random = np.random.default_rng(count)
    writer = LabelSetWriter(folder, identity={"source": {}, "teacher": {}}, max_disp=64)
    for index in range(count):
        left, right = random.integers(0, 255, (2, *SIZE, 3), np.uint8)
        ones = np.ones(SIZE, np.float32)
        writer.add(index, LabelledFrame(str(index), left, right, ones, ones))
    return LabelSet.open(writer.finish())


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> LabelSet:
    return label_set(tmp_path_factory.mktemp("labels") / "set", 3)


@pytest.fixture(scope="module")
def records(labels: LabelSet) -> list[FrameRecord]:
    return [read_fitted(labels, index, SIZE).record for index in CHOICE.indices]


@pytest.fixture
def path(labels: LabelSet, records: list[FrameRecord], tmp_path: Path) -> Path:
    write_json(tmp_path / "calibration.json", compose_record(labels, CHOICE, records, SIZE, student_sha256="5e" * 32))
    return tmp_path / "calibration.json"


def test_the_frames_come_back(labels: LabelSet, records: list[FrameRecord], path: Path) -> None:
    again = repeat_choice(path, labels)
    assert again == dataclasses.replace(CHOICE, selection="repeated: coverage")
    check_repeated(path, records, SIZE)


def test_another_label_set_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"from another label set \(of 3 frames; .* has 4, or other ones\)"):
        repeat_choice(path, label_set(tmp_path / "other", 4))


def test_other_pixels_are_refused_at_the_same_size_alone(path: Path, records: list[FrameRecord]) -> None:
    other = [records[0], dataclasses.replace(records[1], sha256="0")]
    with pytest.raises(UserError, match="frame 2 has other pixels"):
        check_repeated(path, other, SIZE)
    check_repeated(path, other, (32, 96))


@pytest.mark.parametrize(
    ("change", "words"),
    [({"kind": "results"}, "is no calibration record"), ({"frames": []}, "is no calibration record"),
     ({"version": 2}, "has version 2, this program reads 1")],
)  # fmt: skip
def test_what_is_no_record_is_refused(path: Path, labels: LabelSet, change: dict[str, object], words: str) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=words):
        repeat_choice(path, labels)


def test_a_list_is_no_record(path: Path, labels: LabelSet) -> None:
    path.write_text("[]")
    with pytest.raises(UserError, match="is no calibration record"):
        repeat_choice(path, labels)
