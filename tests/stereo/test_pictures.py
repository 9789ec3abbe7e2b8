import numpy as np
import pytest

from stereo.errors import UserError
from stereo.pair import read_image
from stereo.pictures import (
    ERROR_COLOURS,
    MISSING_COLOUR,
    disparity_picture,
    error_picture,
    gray_picture,
    side_by_side,
    stacked,
    write_png,
)

NAN = np.nan


def test_near_is_red_far_is_blue_invalid_is_black():
    picture = disparity_picture(np.array([[0, 30, 60, 90, NAN]], np.float32), max_disp=60)
    far, _, near, beyond, invalid = picture[0].astype(int)
    assert near[0] > near[2], "red outweighs blue"
    assert far[2] >= far[0]
    np.testing.assert_array_equal(near, beyond)
    np.testing.assert_array_equal(invalid, 0)


def test_own_range_is_robust_to_one_outlier():
    disparity = np.full((20, 20), 10, np.float32)
    disparity[0, 0] = 1000
    assert (disparity_picture(disparity)[5, 5] == disparity_picture(disparity, max_disp=10)[5, 5]).all()
    assert (disparity_picture(np.full((2, 2), NAN, np.float32)) == 0).all()


def test_error_classes_missing_and_unknown():
    truth = np.array([[10, 10, 10, 10, NAN]], np.float32)
    found = np.array([[10.1, 11.5, 30, NAN, 10]], np.float32)
    picture = error_picture(found, truth)[0]
    expected = [ERROR_COLOURS[0], ERROR_COLOURS[3], ERROR_COLOURS[6], MISSING_COLOUR, (0, 0, 0)]
    np.testing.assert_array_equal(picture, expected)


def test_rows_and_columns_of_pictures():
    a, b = np.full((4, 6, 3), 10, np.uint8), np.full((2, 3, 3), 20, np.uint8)
    row = side_by_side(a, b)
    assert row.shape == (4, 6 + 4 + 3, 3)
    assert (row[:2, 10:] == 20).all()
    assert (row[2:, 10:] == 255).all()
    assert stacked(a, b).shape == (4 + 4 + 2, 6, 3)
    with pytest.raises(UserError):
        side_by_side()


def test_png_keeps_colour_order(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (3, 4, 3), np.uint8)
    write_png(tmp_path / "sub" / "a.png", picture)
    np.testing.assert_array_equal(read_image(tmp_path / "sub" / "a.png"), picture)


def test_confidence_as_gray():
    np.testing.assert_array_equal(gray_picture(np.array([[0, 0.5, 1, NAN, 2]]))[0, :, 1], [0, 128, 255, 0, 255])
