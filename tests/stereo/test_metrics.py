import numpy as np
import pytest

from stereo.errors import UserError
from stereo.metrics import errors_against_truth

NAN = np.nan


def row(*values):
    return np.array([values], np.float32)


def test_every_number_by_hand():
    # errors: 0, 0.5, 1.5, 2.5, 4 (of 100: 4 %), 4 (of 10: 40 %), missing, no truth
    truth = row(10, 10, 10, 10, 100, 10, 10, NAN)
    found = row(10, 10.5, 8.5, 12.5, 104, 14, NAN, 5)
    errors = errors_against_truth(found, truth)
    assert errors.valid_pixels == 7
    assert errors.coverage_pct == pytest.approx(100 * 6 / 7)
    assert errors.epe_px == pytest.approx((0 + 0.5 + 1.5 + 2.5 + 4 + 4) / 6)
    assert errors.bad1_pct == pytest.approx(100 * 5 / 7)
    assert errors.bad2_pct == pytest.approx(100 * 4 / 7)
    assert errors.bad3_pct == pytest.approx(100 * 3 / 7)
    assert errors.d1_pct == pytest.approx(100 * 2 / 7), "4 px of 100 is within 5 %; a missing pixel is an outlier"
    assert errors.max_error_px == 4
    assert errors.mask_name == "all"


def test_bounds_are_exclusive():
    errors = errors_against_truth(row(11, 12, 13), row(10, 10, 10))
    assert errors.bad1_pct == pytest.approx(200 / 3)
    assert errors.bad2_pct == pytest.approx(100 / 3)
    assert errors.bad3_pct == 0
    assert errors_against_truth(row(84), row(80)).d1_pct == 0, "exactly 5 %"


def test_mask_and_max_disp_are_in_the_name():
    truth, found = row(10, 20, 200), row(10, 25, 100)
    mask = np.array([[True, True, False]])
    assert errors_against_truth(found, truth, mask=mask).epe_px == 2.5
    assert errors_against_truth(found, truth, mask=mask).mask_name == "noc"
    near = errors_against_truth(found, truth, max_disp=192)
    assert (near.valid_pixels, near.mask_name) == (2, "all, disparity < 192")
    assert errors_against_truth(found, truth, max_disp=20).valid_pixels == 1


def test_p99_is_a_percentile():
    truth = np.zeros((1, 101), np.float32)
    found = np.arange(101, dtype=np.float32)[None]
    assert errors_against_truth(found, truth).p99_error_px == pytest.approx(99)


def test_no_prediction_at_all_is_null_not_zero():
    errors = errors_against_truth(row(NAN, NAN), row(1, 2))
    assert (errors.epe_px, errors.max_error_px, errors.p99_error_px) == (None, None, None)
    assert (errors.bad1_pct, errors.d1_pct, errors.coverage_pct) == (100, 100, 0)


def test_nothing_to_compare_is_an_error():
    with pytest.raises(UserError, match="no pixel has truth"):
        errors_against_truth(row(1), row(NAN))
    with pytest.raises(UserError, match="prediction is"):
        errors_against_truth(row(1, 2), row(1))
