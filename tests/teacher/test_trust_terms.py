"""What is seen of a disparity without truth, on scenes whose truth is known exactly."""

import cv2
import numpy as np
import pytest

from teacher.trust_terms import NOISE_VARIANCE, photometric_agreement, visible_in_right

HEIGHT, WIDTH = 80, 200
FAR = 8
NAN = np.float32(np.nan)


def scene(first, last, near):
    """Something near in columns first..last before a far wall: disparity, and what the right view shows of it."""
    disparity = np.full((HEIGHT, WIDTH), FAR, np.float32)
    disparity[20:60, first:last] = near
    visible = np.ones((HEIGHT, WIDTH), bool)
    visible[:, :FAR] = False  # beyond the right view
    behind = np.arange(WIDTH) - FAR  # where the wall lands
    hidden = (behind >= first - near) & (behind < last - near)
    hidden[first:last] = False
    visible[20:60] &= ~hidden
    return disparity, visible


@pytest.mark.parametrize(("first", "last", "near"), [(100, 160, 24), (60, 61, 9.5), (90, 120, 20), (30, 80, 30)])
def test_what_is_hidden_is_known_exactly(first, last, near):
    disparity, visible = scene(first, last, near)
    np.testing.assert_array_equal(visible_in_right(disparity), visible)


def test_a_thin_pole_hides_only_what_it_covers():
    """Between a pole and the wall behind it the right view sees through, although the order of columns is reversed."""
    disparity, visible = scene(120, 124, 40)
    assert visible[30, 120 - 32 + 6 : 120].all(), "the wall between the pole's two places is in both views"
    np.testing.assert_array_equal(visible_in_right(disparity), visible)


@pytest.mark.parametrize("slope", [0.3, 0.45, -0.5, -1.2])
def test_a_slanted_wall_does_not_hide_itself(slope):
    """Steep in either direction: squeezed to 0.55 columns per pixel, or stretched to 2.2."""
    column = np.arange(WIDTH, dtype=np.float32)
    disparity = np.repeat((10 + slope * (column - (0 if slope > 0 else WIDTH)))[None], HEIGHT, axis=0)
    disparity = disparity.astype(np.float32)
    landing = column - disparity[0]
    inside = (landing >= 0) & (landing <= WIDTH - 1)
    assert inside.sum() > 60
    assert visible_in_right(disparity)[:, inside].all()


def test_a_stretched_surface_leaves_no_gaps_to_look_through():
    """A slanted foreground whose pixels land 1.5 columns apart covers the wall behind it completely."""
    disparity = np.full((4, WIDTH), 4, np.float32)
    first, last = 110, 150
    disparity[:, first:last] = 44 - 0.5 * np.arange(last - first)
    covered = np.arange(first - 44 + 1, last - 25 - 3)  # columns of the right view
    behind = covered + 4
    behind = behind[behind < first]
    assert len(behind) > 35
    assert not visible_in_right(disparity)[:, behind].any()


def test_unknown_pixels_neither_hide_nor_are_seen():
    disparity, visible = scene(100, 160, 24)
    disparity[20:60, 100:160] = NAN
    visible[20:60] = np.arange(WIDTH) >= FAR
    visible[20:60, 100:160] = False
    np.testing.assert_array_equal(visible_in_right(disparity), visible)


def test_outside_on_either_side_is_not_visible():
    disparity = np.zeros((2, 10), np.float32)
    disparity[0, 2] = 2.6
    disparity[1, 9] = -0.6  # a network may say a little less than nothing
    found = visible_in_right(disparity)
    assert not found[0, 2]
    assert not found[1, 9]
    assert found.sum() == 18


def test_rendered_scenes_have_the_same_occlusion():
    torch = pytest.importorskip("torch")
    from distill.scenes import render_scenes
    from distill.scenes_config import SceneOptions

    batch = render_scenes(
        2, (128, 192), generator=torch.Generator().manual_seed(5), options=SceneOptions(max_disp=48, bank_size=8)
    )
    hidden = batch.occluded[:, 0].numpy()
    found = np.stack([~visible_in_right(one) for one in batch.disparity[:, 0].numpy()])
    wrong = hidden != found
    # Along borders of surfaces the engine looks up one pixel and this carries all of them: a few may differ there.
    border = cv2.morphologyEx(
        hidden.transpose(1, 2, 0).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 5), np.uint8)
    ).transpose(2, 0, 1)
    assert 0.03 < hidden.mean() < 0.5
    assert (wrong & (border == 0)).mean() < 0.003
    assert wrong.mean() < 0.1 * hidden.mean() + 0.005


def textured(seed, width):
    noise = np.random.default_rng(seed).normal(size=(HEIGHT, width)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 1.5)
    return 128 + 30 * noise / noise.std()


@pytest.fixture(scope="module")
def wall():
    """Left and right view of a wall at 8 px, float gray levels."""
    noise = textured(1, WIDTH + FAR)
    return noise[:, :WIDTH], noise[:, FAR:]


def rgb(gray):
    return np.repeat(np.clip(np.rint(gray), 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


INSIDE = (slice(5, -5), slice(FAR + 5, -5))


def test_the_right_disparity_looks_alike_and_a_wrong_one_does_not(wall):
    left, right = (rgb(view) for view in wall)
    right_one = photometric_agreement(left, right, np.full((HEIGHT, WIDTH), FAR, np.float32))
    wrong_one = photometric_agreement(left, right, np.full((HEIGHT, WIDTH), FAR + 6, np.float32))
    assert right_one[INSIDE].min() > 0.99
    assert np.median(wrong_one[:, 30:-5]) < 0.3


@pytest.mark.parametrize(("gain", "offset"), [(0.7, 0), (1, 35), (1.25, -40)])
def test_exposure_does_not_count(wall, gain, offset):
    left, right = rgb(wall[0]), rgb((wall[1] - 128) * gain + 128 + offset)
    agreement = photometric_agreement(left, right, np.full((HEIGHT, WIDTH), FAR, np.float32))
    # The noise's share of the variances does not scale with the gain, so a small loss is right.
    assert np.median(agreement[INSIDE]) > 0.9
    wrong = photometric_agreement(left, right, np.full((HEIGHT, WIDTH), FAR + 6, np.float32))
    assert np.median(wrong[:, 30:-5]) < 0.4


def test_where_there_is_no_pattern_there_is_no_objection():
    noise = np.random.default_rng(0).normal(scale=1.5, size=(2, HEIGHT, WIDTH))
    left, right = (rgb(100 + one) for one in noise)
    assert photometric_agreement(left, right, np.full((HEIGHT, WIDTH), FAR, np.float32))[INSIDE].min() > 0.9


def test_the_window_follows_the_disparity_across_an_edge():
    """Correct disparities of a near square before a wall: full agreement up to the square's edge, on both sides."""
    disparity, visible = scene(100, 160, 24)
    wall = textured(2, WIDTH + FAR)
    left, right = wall[:, :WIDTH].copy(), wall[:, FAR:].copy()
    square = textured(3, 60)[20:60]
    left[20:60, 100:160], right[20:60, 100 - 24 : 160 - 24] = square, square
    agreement = photometric_agreement(rgb(left), rgb(right), disparity)
    beside_hidden = cv2.dilate((~visible).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    assert agreement[~beside_hidden].min() > 0.99
    hidden = ~visible
    hidden[:, :FAR] = False
    assert np.median(agreement[hidden]) < 0.5


def test_photometric_agreement_is_its_definition(wall):
    """Against windows cut out one by one, with unknown pixels in most of them and whole disparities of all kinds."""
    left, right = (rgb(view) for view in wall)
    rng = np.random.default_rng(4)
    disparity = rng.integers(FAR - 1, FAR + 2, (HEIGHT, WIDTH)).astype(np.float32)
    disparity[rng.random((HEIGHT, WIDTH)) < 0.6] = NAN
    found = photometric_agreement(left, right, disparity)
    known = np.isfinite(disparity)
    column = np.arange(WIDTH) - np.where(known, disparity, 0).astype(int)
    known &= column >= 0
    carried = np.take_along_axis(right[:, :, 0], np.maximum(column, 0), axis=1).astype(float)
    for row, place in rng.integers(3, (HEIGHT - 3, WIDTH - 3), (200, 2)):
        window = (slice(row - 3, row + 4), slice(place - 3, place + 4))
        here, there = (view[window][known[window]].astype(float) for view in (left[:, :, 0], carried))
        expected = 0.0
        if known[row, place]:
            covariance, *variances = (
                (np.mean(a * b) - a.mean() * b.mean()) + NOISE_VARIANCE
                for a, b in ((here, there), (here, here), (there, there))
            )
            expected = max(covariance / np.sqrt(np.prod(variances)), 0)
        assert found[row, place] == pytest.approx(expected, abs=1e-4)


def test_unknown_pixels_are_not_believed_and_do_not_disturb_their_neighbours(wall):
    left, right = (rgb(view) for view in wall)
    disparity = np.full((HEIGHT, WIDTH), FAR, np.float32)
    disparity[40, 100:110] = NAN
    agreement = photometric_agreement(left, right, disparity)
    assert (agreement[40, 100:110] == 0).all()
    assert (agreement[:, :FAR] == 0).all(), "these lead out of the right view"
    assert agreement[36:45, 95:115][np.isfinite(disparity[36:45, 95:115])].min() > 0.99
    assert agreement.dtype == np.float32
    nothing = photometric_agreement(left, right, np.full((HEIGHT, WIDTH), NAN))
    assert (nothing == 0).all()
