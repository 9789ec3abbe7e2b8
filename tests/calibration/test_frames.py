import numpy as np
import pytest

from calibration.frames import FEW_FRAMES, Choice, FrameRecord, choose_frames, describe, draw_frames, read_fitted
from stereo.errors import UserError
from stereo.label_set import LabelledFrame, LabelSet
from stereo.label_set_writer import LabelSetWriter


@pytest.mark.parametrize(("total", "count"), [(51, 16), (1000, 64), (17, 16), (7, 1)])
def test_one_frame_is_drawn_from_every_stretch(total, count):
    chosen = draw_frames(total, count, selection="stratified", seed=3)
    assert len(chosen) == len(set(chosen)) == count
    for stretch, index in enumerate(chosen):
        assert stretch * total // count <= index < (stretch + 1) * total // count


@pytest.mark.parametrize("selection", ["stratified", "random", "consecutive"])
def test_choice_depends_on_the_seed_and_nothing_else(selection):
    one, same, other = (draw_frames(1000, 64, selection=selection, seed=seed) for seed in (1, 1, 2))
    assert one == same != other
    assert one == sorted(set(one))
    assert len(one) == 64
    assert one[0] >= 0
    assert one[-1] < 1000


def test_consecutive_frames_follow_each_other():
    chosen = draw_frames(100, 8, selection="consecutive", seed=0)
    assert chosen == list(range(chosen[0], chosen[0] + 8))


@pytest.mark.parametrize("selection", ["stratified", "random", "consecutive"])
def test_all_frames_when_there_are_not_more(selection):
    assert draw_frames(5, 64, selection=selection, seed=0) == [0, 1, 2, 3, 4]


def test_coverage_of_a_small_set_looks_at_nothing(labels):
    choice = choose_frames(labels, 64, selection="coverage", seed=0)
    assert choice == Choice([0, 1, 2], "coverage", 0, 64)


@pytest.mark.parametrize(("total", "count", "words"), [(0, 8, "no frame"), (8, 0, "0 calibration frames")])
def test_nothing_to_choose_is_refused(total, count, words):
    with pytest.raises(UserError, match=words):
        draw_frames(total, count, selection="stratified", seed=0)


@pytest.fixture
def labels(tmp_path):
    """Three frames of different sizes."""
    random = np.random.default_rng(0)
    writer = LabelSetWriter(tmp_path / "set", identity={"source": {}, "teacher": {}}, max_disp=64)
    for index, size in enumerate([(64, 96), (50, 80), (128, 192)]):
        left, right = random.integers(0, 255, (2, *size, 3), np.uint8)
        writer.add(index, LabelledFrame(f"{index}", left, right, np.ones(size, np.float32), np.ones(size, np.float32)))
    return LabelSet.open(writer.finish())


def test_frames_come_at_the_graphs_size_as_raw_rgb(labels):
    found = [read_fitted(labels, index, (64, 96)) for index in range(3)]
    for fitted in found:
        assert fitted.left.shape == fitted.right.shape == (1, 3, 64, 96)
        assert fitted.left.dtype == np.float32
    assert [fitted.record.fit for fitted in found] == ["as is", "padded", "scaled"]
    frame = labels.read(0)
    np.testing.assert_array_equal(found[0].left[0].transpose(1, 2, 0), frame.left)
    np.testing.assert_array_equal(found[0].right[0].transpose(1, 2, 0), frame.right)
    np.testing.assert_array_equal(found[1].left[0, :, :50, :80].transpose(1, 2, 0), labels.read(1).left)
    assert len({fitted.record.sha256 for fitted in found}) == 3


def test_padding_is_left_out_of_comparisons(labels):
    fitted = read_fitted(labels, 1, (64, 96))
    assert fitted.without_padding(fitted.left[0, 0]).shape == (50, 80)
    np.testing.assert_array_equal(fitted.without_padding(fitted.left[0, 0]), labels.read(1).left[:, :, 0])


def test_checksum_tells_which_eye_is_which(labels, tmp_path):
    frame = labels.read(0)
    writer = LabelSetWriter(tmp_path / "swapped", identity={"source": {}, "teacher": {}}, max_disp=64)
    writer.add(0, LabelledFrame(frame.name, frame.right, frame.left, frame.disparity, frame.confidence))
    swapped = LabelSet.open(writer.finish())
    checksums = [read_fitted(one, 0, (64, 96)).record.sha256 for one in (swapped, labels)]
    assert checksums[0] != checksums[1]


def record(index, sha256, fit="as is"):
    return FrameRecord(index, str(index), fit, sha256)


def test_manifest_counts_what_was_fitted():
    records = [record(0, "a"), record(1, "b", "padded"), record(2, "c", "scaled"), record(3, "d", "scaled")]
    told = describe(records, Choice([0, 1, 2, 3], "stratified", 5, 4), total=9)
    assert told["fits"] == {"as is": 1, "padded": 1, "scaled": 2}
    assert (told["used"], told["asked_for"], told["in_label_set"], told["seed"]) == (4, 4, 9, 5)
    assert [frame["name"] for frame in told["frames"]] == ["0", "1", "2", "3"]


def test_few_frames_are_warned_about_with_numbers(caplog):
    draw_frames(4, 64, selection="stratified", seed=0)
    assert "calibrating on 4 frames (64 asked for, the label set has 4)" in caplog.text


def test_identical_frames_are_warned_about_with_numbers(caplog):
    describe([record(index, "same") for index in range(4)], Choice([0, 1, 2, 3], "random", 0, 64), total=4)
    assert "only 1 of the 4" in caplog.text


def test_enough_different_frames_need_no_warning(caplog):
    chosen = draw_frames(99, FEW_FRAMES, selection="stratified", seed=0)
    choice = Choice(chosen, "stratified", 0, FEW_FRAMES)
    describe([record(index, str(index)) for index in chosen], choice, total=99)
    assert not caplog.records
