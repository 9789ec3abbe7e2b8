"""The verb `curate`: which frames go, what is written about them, and what cannot be judged."""

import dataclasses
import json

import numpy as np
import pytest

from distill import curation
from distill.config import TrainConfig, TrainerOptions
from distill.curation import NO_TRUSTED_PIXEL, curate, judge, score_of
from distill.curation_config import CurateConfig
from stereo.errors import UserError
from stereo.label_set import LabelledFrame, LabelSet
from stereo.label_set_writer import LabelSetWriter
from student.checkpoint import save_student
from student.presets import build_student

TRUTH_PX = 5.0
HEIGHT, WIDTH = 32, 48


def labelled(number, disparity_px, confidence=0.9):
    image = np.full((HEIGHT, WIDTH, 3), 10 * number, np.uint8)
    disparity = np.full((HEIGHT, WIDTH), disparity_px, np.float32)
    return LabelledFrame(f"{number:06d}", image, image, disparity, np.full((HEIGHT, WIDTH), confidence, np.float32))


def write(path, frames):
    writer = LabelSetWriter(path, identity={"source": {"kind": "made up"}, "teacher": {"name": "made up"}}, max_disp=64)
    for number, frame in enumerate(frames):
        writer.add(number, frame)
    return writer.finish()


@pytest.fixture(scope="module")
def student_file(tmp_path_factory):
    return save_student(build_student("tiny"), tmp_path_factory.mktemp("student") / "student.safetensors", training={})


@pytest.fixture
def trainings(monkeypatch, student_file):
    """A student that knows the truth, and the trainings that it was asked for."""
    asked = []

    def train(config):
        asked.append(config)
        return student_file

    def know(student, frame):
        return np.full((HEIGHT, WIDTH), TRUTH_PX, np.float32)

    monkeypatch.setattr(curation, "train", train)
    monkeypatch.setattr(curation, "predict_frame", know)
    return asked


def config_for(tmp_path, labels, **options):
    return CurateConfig(labels=labels, out=tmp_path / "out", **options)


def test_frames_that_disagree_go_and_the_others_stay(tmp_path, trainings):
    labels = write(tmp_path / "set", [labelled(number, 20 if number in (3, 7) else TRUTH_PX) for number in range(10)])
    curated = curate(config_for(tmp_path, labels))
    left = LabelSet.open(curated)
    assert left.names == [f"{number:06d}" for number in range(10) if number not in (3, 7)]
    frame = left.read(3)
    assert frame.name == "000004"
    np.testing.assert_array_equal(frame.disparity, TRUTH_PX)
    assert not list(curated.rglob("*.png")), "a curated set holds no copies"
    assert len(trainings) == 2, "the second round finds nothing more"
    assert trainings[0].data.labels == [labels]
    assert LabelSet.open(trainings[1].data.labels[0]).names == left.names
    told = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert told["rounds"] == [
        {"round": 1, "judged": 10, "removed": 2}, {"round": 2, "judged": 8, "removed": 0},
    ]  # fmt: skip


def test_what_goes_is_listed_worst_first_with_pictures(tmp_path, trainings):
    frames = [labelled(number, TRUTH_PX) for number in range(6)]
    half = np.where(np.arange(WIDTH) < 0.7 * WIDTH, 30.0, TRUTH_PX).astype(np.float32)
    frames[1] = dataclasses.replace(frames[1], disparity=np.tile(half, (HEIGHT, 1)))
    frames[4] = labelled(4, 12.0)
    curate(config_for(tmp_path, write(tmp_path / "set", frames), rounds=1))
    folder = tmp_path / "out" / "round_1"
    removed = json.loads((folder / "removed.json").read_text())
    assert [entry["name"] for entry in removed] == ["000004", "000001"]
    assert removed[0]["bad_pct"] == 100
    assert removed[0]["epe_px"] == pytest.approx(7)
    page = (folder / "removed.md").read_text()
    for entry in removed:
        assert (folder / "pictures" / f"{entry['name']}.png").stat().st_size
        assert f"pictures/{entry['name']}.png" in page
        assert entry["reason"] in page


def test_the_threshold_is_a_share_of_trusted_pixels():
    frame = labelled(0, TRUTH_PX)
    frame.confidence[:, : WIDTH // 2] = 0.1
    frame.disparity[:, : WIDTH // 2] = 40
    prediction = np.full((HEIGHT, WIDTH), TRUTH_PX, np.float32)
    assert score_of(prediction, frame, 0.5, bad_px=2.0).bad_pct == 0
    assert score_of(prediction, frame, 0.05, bad_px=2.0).bad_pct == 50
    prediction[:, WIDTH // 2 :] = TRUTH_PX + 1.5
    assert score_of(prediction, frame, 0.5, bad_px=2.0).bad_pct == 0
    assert score_of(prediction, frame, 0.5, bad_px=1.0).bad_pct == 100
    prediction[:, WIDTH // 2 :] = np.nan
    score = score_of(prediction, frame, 0.5, bad_px=2.0)
    assert (score.bad_pct, score.epe_px) == (100, None), "no answer is a wrong one"


def test_a_frame_without_a_trusted_pixel_goes(tmp_path, trainings):
    frames = [labelled(0, TRUTH_PX), labelled(1, TRUTH_PX, confidence=0.1), labelled(2, TRUTH_PX)]
    assert LabelSet.open(curate(config_for(tmp_path, write(tmp_path / "set", frames)))).names == ["000000", "000002"]
    removed = json.loads((tmp_path / "out" / "round_1" / "removed.json").read_text())
    assert [(entry["name"], entry["reason"]) for entry in removed] == [("000001", NO_TRUSTED_PIXEL)]


def test_nothing_wrong_keeps_everything(tmp_path, trainings):
    labels = write(tmp_path / "set", [labelled(number, TRUTH_PX) for number in range(3)])
    assert LabelSet.open(curate(config_for(tmp_path, labels))).names == ["000000", "000001", "000002"]
    assert len(trainings) == 1


def test_a_student_that_disagrees_with_most_is_no_judge(tmp_path, trainings):
    labels = write(tmp_path / "set", [labelled(number, 20) for number in range(4)])
    with pytest.raises(UserError, match="disagrees with 4 of 4"):
        curate(config_for(tmp_path, labels))
    assert not (tmp_path / "out" / "labels").exists()


def test_an_interrupted_judging_goes_on_and_another_student_starts_anew(tmp_path, trainings, monkeypatch, student_file):
    labels = LabelSet.open(write(tmp_path / "set", [labelled(number, TRUTH_PX) for number in range(4)]))
    seen = []

    def stopping(student, frame):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(frame.name)
        return np.full((HEIGHT, WIDTH), TRUTH_PX, np.float32)

    path = tmp_path / "scores.jsonl"
    monkeypatch.setattr(curation, "predict_frame", stopping)
    with pytest.raises(KeyboardInterrupt):
        judge(None, labels, path, bad_px=2.0, made_with="a")
    seen.clear()
    assert len(judge(None, labels, path, bad_px=2.0, made_with="a")) == 4
    assert seen == ["000002", "000003"]
    seen.clear()
    monkeypatch.setattr(curation, "predict_frame", lambda student, frame: seen.append(frame.name) or frame.disparity)
    judge(None, labels, path, bad_px=2.0, made_with="b")
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"rounds": 0}, "0 is below 1"),
        ({"threshold": 0.0}, "not a share"),
        ({"threshold": 101.0}, "not a share"),
        ({"most_dropped": -1.0}, "not a share"),
        ({"bad_px": 0.0}, "not above 0"),
        ({"device": "gpu"}, "unknown device"),
    ],
)
def test_settings_that_cannot_work(tmp_path, options, told):
    with pytest.raises(UserError, match=told):
        curate(config_for(tmp_path, tmp_path, **options))


def test_several_processes_are_refused(tmp_path, monkeypatch):
    several = TrainConfig(out=tmp_path, trainer=TrainerOptions(devices=2))
    with pytest.raises(UserError, match="one process"):
        curate(config_for(tmp_path, tmp_path, train=several))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "made up")
    with pytest.raises(UserError, match="one process"):
        curate(config_for(tmp_path, tmp_path))


def test_training_options_reach_the_training(tmp_path, trainings):
    labels = write(tmp_path / "set", [labelled(number, TRUTH_PX) for number in range(3)])
    curate(config_for(tmp_path, labels, train=TrainConfig(out=tmp_path, steps=7, preset="tiny")))
    assert (trainings[0].steps, trainings[0].preset) == (7, "tiny")
    assert trainings[0].out == tmp_path / "out" / "round_1" / "student"
