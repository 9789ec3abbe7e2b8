import numpy as np

from teacher.consistency import consistency_confidence, disparity_of_both_views, left_right_difference

NAN = np.float32(np.nan)


def test_difference_looks_up_the_right_view_where_the_left_pixel_is_seen():
    left = np.array([[2, 2, 2, 2, 1, NAN]], np.float32)
    right = np.array([[2, 5, NAN, 0.5, 9, 9]], np.float32)
    # x=0 and 1 fall outside; x=2 sees right[0]=2; x=3 sees right[1]=5; x=4 (d=1) sees right[3]=0.5; x=5 has none
    expected = np.array([[NAN, NAN, 0, 3, 0.5, NAN]], np.float32)
    np.testing.assert_array_equal(left_right_difference(left, right)[:, [0, 1, 2, 4, 5]], expected[:, [0, 1, 2, 4, 5]])
    assert left_right_difference(left, right)[0, 3] == 3


def test_confidence_falls_smoothly_and_is_zero_for_occlusions():
    confidence = consistency_confidence(np.array([[0, 0.5, 1, 2, 2.01, NAN]], np.float32))
    np.testing.assert_allclose(confidence, [[1, np.exp(-0.25), np.exp(-1), np.exp(-4), 0, 0]], rtol=1e-6)


def test_right_view_disparity_comes_from_the_mirrored_pair():
    """A matcher that returns its left image's red channel: the right map must be the right image's, unmirrored."""
    left, right = np.random.default_rng(0).integers(0, 255, (2, 4, 6, 3), np.uint8)
    found = disparity_of_both_views(lambda image, other: image[:, :, 0].astype(np.float32), left, right)
    np.testing.assert_array_equal(found[0], left[:, :, 0])
    np.testing.assert_array_equal(found[1], right[:, :, 0])
