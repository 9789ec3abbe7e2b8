import numpy as np
import pytest

from stereo.errors import UserError
from stereo.sparsification import sparsification

ERROR = np.array([4.0, 1.0, 3.0, 0.0])


def test_the_oracle_has_no_area():
    curves = sparsification(ERROR, -ERROR, steps=4)
    np.testing.assert_allclose(curves.kept, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(curves.by_confidence, [0, 0.5, 4 / 3, 2])
    np.testing.assert_allclose(curves.by_oracle, curves.by_confidence)
    assert curves.ause == 0


def test_the_worst_order_by_hand():
    curves = sparsification(ERROR, ERROR, steps=4)
    np.testing.assert_allclose(curves.by_confidence, [4, 3.5, 8 / 3, 2])
    gaps = np.array([4, 3, 4 / 3, 0])
    assert curves.ause == pytest.approx(0.25 * ((gaps[1:] + gaps[:-1]) / 2).sum())


def test_equal_confidences_count_with_their_mean_in_whatever_order_they_come():
    confidence = np.array([0.5, 1.0, 0.5, 0.5])
    curves = [sparsification(ERROR[order], confidence[order], steps=4) for order in ([0, 1, 2, 3], [3, 2, 1, 0])]
    np.testing.assert_allclose(curves[0].by_confidence, [1, (1 + 7 / 3) / 2, (1 + 14 / 3) / 3, 2])
    np.testing.assert_allclose(curves[0].by_confidence, curves[1].by_confidence)


def test_a_confidence_without_meaning_has_the_area_of_chance():
    rng = np.random.default_rng(0)
    error = rng.exponential(size=(200, 300)).astype(np.float32)
    alike = sparsification(error, np.full_like(error, 0.3))
    assert alike.ause == pytest.approx(alike.ause_by_chance)
    drawn = sparsification(error, rng.random(error.shape))
    # The mean of the first 600 of 60,000 errors with deviation 1 has a deviation of 0.04; most shares have far less.
    assert drawn.ause == pytest.approx(drawn.ause_by_chance, abs=0.02)


def test_pixels_without_an_error_do_not_count():
    error = np.array([[np.nan, 1.0, np.inf, 0.0]])
    confidence = np.array([[1.0, 0.2, 1.0, 0.9]])
    curves = sparsification(error, confidence, steps=2)
    np.testing.assert_allclose(curves.by_confidence, [0, 0.5])


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(UserError, match="at one size"):
        sparsification(ERROR, ERROR[:2])
    with pytest.raises(UserError, match="no pixel has an error"):
        sparsification(np.full(3, np.nan), np.ones(3))
