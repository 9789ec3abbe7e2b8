import numpy as np
import pytest

from stereo.errors import UserError
from stereo.fit_size import Fit


def test_smaller_image_is_padded_with_its_edge_and_cropped_back():
    image = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    fit = Fit.plan(5, 7, (8, 16))
    out = fit.apply(image)
    assert out.shape == (3, 8, 16)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out[:, :5, :7], image.transpose(2, 0, 1))
    np.testing.assert_array_equal(out[:, 5:, :7], np.repeat(image[-1:].transpose(2, 0, 1), 3, axis=1))
    disparity = np.arange(8 * 16, dtype=np.float32).reshape(8, 16)
    np.testing.assert_array_equal(fit.undo(disparity), disparity[:5, :7])


@pytest.mark.parametrize(("vertical", "horizontal", "top", "left"), [("top", "left", 3, 9), ("both", "both", 1, 4)])
def test_padding_side(vertical, horizontal, top, left):
    fit = Fit.plan(5, 7, (8, 16), vertical=vertical, horizontal=horizontal)
    assert (fit.top, fit.left) == (top, left)
    image = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(fit.image(image)[top : top + 5, left : left + 7], image)
    disparity = np.random.default_rng(1).random((8, 16), np.float32)
    np.testing.assert_array_equal(fit.undo(disparity), disparity[top : top + 5, left : left + 7])


def test_larger_image_is_scaled_and_disparity_comes_back_in_its_own_pixels():
    fit = Fit.plan(200, 320, (100, 200))
    assert fit.resized == (100, 160)
    assert fit.factor == 0.5
    assert fit.apply(np.zeros((200, 320, 3), np.uint8)).shape == (3, 100, 200)
    back = fit.undo(np.full((100, 200), 12.0, np.float32))
    assert back.shape == (200, 320)
    np.testing.assert_allclose(back, 24.0)


def test_a_shifted_scene_keeps_its_disparity_through_fit_and_undo():
    """A ramp shifted by 8 px: after scaling by 1/2 the network sees 4 px; undo gives 8 again."""
    ramp = np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 40, axis=0).repeat(3, axis=2)
    left, right = ramp[:, :-8], ramp[:, 8:]  # the right view sees the same value 8 px further left
    fit = Fit.plan(40, 192, (20, 96))
    seen = (fit.apply(right) - fit.apply(left))[0] / 2  # the ramp has slope 2 per network pixel
    np.testing.assert_allclose(fit.undo(seen), 8.0, atol=1e-5)


def test_to_multiple_pads_up_only():
    assert Fit.to_multiple(375, 450, 64).network == (384, 512)
    assert Fit.to_multiple(384, 512, 64).network == (384, 512)


def test_wrong_sizes_are_named():
    fit = Fit.plan(4, 4, (8, 8))
    with pytest.raises(UserError, match="4x4"):
        fit.apply(np.zeros((5, 4, 3), np.uint8))
    with pytest.raises(UserError, match="expected a disparity"):
        fit.undo(np.zeros((4, 4), np.float32))
    with pytest.raises(UserError, match="positive"):
        Fit.plan(0, 4, (8, 8))
