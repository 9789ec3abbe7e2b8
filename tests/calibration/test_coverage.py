"""Frames that cover a label set: descriptors, and farthest-first choice against exhaustive search."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from calibration.coverage import covering_radius, describe_frame, farthest_first, points_of, spread_out
from calibration.frames import choose_frames
from stereo.label_set import LabelledFrame, LabelSet
from stereo.label_set_writer import LabelSetWriter

SIZE = (60, 80)


def frame(name: str, *, grey: float = 120, contrast: float = 20, disparity: float = 8, tint: int = 0) -> LabelledFrame:
    noise = np.random.default_rng(0).normal(0, contrast, (6, 8, 1)).repeat(10, 0).repeat(10, 1)
    image = np.clip(grey + noise + np.array([tint, 0, 0]), 0, 255).astype(np.uint8)
    values = np.full(SIZE, disparity, np.float32)
    values[:, :10] = np.nan
    return LabelledFrame(name, image, image, values, np.ones(SIZE, np.float32))


@pytest.mark.parametrize(
    ("group", "change"),
    [
        ("brightness", {"grey": 40}),
        ("texture", {"contrast": 2}),
        ("disparity", {"disparity": 60}),
        ("colour", {"tint": 40}),
    ],
)
def test_each_group_sees_its_change(group: str, change: dict[str, float]) -> None:
    plain, changed = describe_frame(frame("a")), describe_frame(frame("b", **change))  # type: ignore[arg-type]
    assert np.abs(plain[group] - changed[group]).max() > 0.1
    if group == "disparity":
        assert all(np.array_equal(plain[other], changed[other]) for other in plain if other != group)


def test_a_frame_without_any_label_has_a_descriptor() -> None:
    empty = frame("a", disparity=float("nan"))
    assert describe_frame(empty)["disparity"].tolist() == [0, 0, 0, 0]


def test_what_all_frames_share_separates_none() -> None:
    assert np.abs(points_of([describe_frame(frame(name)) for name in "abc"])).max() == 0


def test_farthest_first_is_within_twice_the_best_choice() -> None:
    points = np.random.default_rng(1).normal(size=(9, 3))
    for count in (1, 2, 3, 4):
        chosen, radius = farthest_first(points, count)
        best = min(covering_radius(points, each) for each in itertools.combinations(range(9), count))
        assert len(set(chosen)) == count
        assert radius == pytest.approx(covering_radius(points, chosen))
        assert best <= radius <= 2 * best + 1e-9


def test_copies_are_taken_last_and_only_when_nothing_else_is_left() -> None:
    points = np.array([[0.0], [0.0], [0.0], [5.0]])
    assert set(farthest_first(points, 2)[0]) == {0, 3}
    assert sorted(farthest_first(points, 3)[0]) == [0, 1, 3]


def test_candidates_of_long_sets_are_spread_out() -> None:
    assert spread_out(5, 10) == [0, 1, 2, 3, 4]
    assert spread_out(10, 5) == [0, 2, 4, 6, 8]


def test_the_odd_frames_of_a_drive_are_chosen(tmp_path: Path) -> None:
    """Twenty times the same road, one tunnel, one wall: chance seldom finds both."""
    writer = LabelSetWriter(tmp_path / "set", identity={"source": {}, "teacher": {}}, max_disp=64)
    odd = {7: frame("7", grey=15, contrast=3), 13: frame("13", disparity=55)}
    for index in range(20):
        writer.add(index, odd.get(index) or frame(str(index), grey=120 + index / 10))
    choice = choose_frames(LabelSet.open(writer.finish()), 3, selection="coverage", seed=0)
    assert set(choice.indices) > {7, 13}
    assert choice.indices == sorted(choice.indices)
    assert choice.covering_radius is not None
