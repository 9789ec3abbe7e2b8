import cv2
import numpy as np
import pytest

from stereo.benchmarks import load_pair
from stereo.errors import UserError
from stereo.metrics import errors_against_truth
from stereo.pair import StereoPair
from teacher.config import TeacherOptions
from teacher.registry import open_teacher
from teacher.semi_global import SemiGlobalTeacher

HEIGHT, WIDTH = 120, 240
NEAR, FAR = 24, 8
SQUARE = (slice(40, 80), slice(120, 180))


def smooth_noise(seed, height=HEIGHT, width=WIDTH):
    noise = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 1.2)
    return np.clip(128 + 45 * noise / noise.std(), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def square_scene():
    """A near square before a far wall, exact to the pixel: disparity, and where the right view does not see."""
    wall = smooth_noise(1, width=WIDTH + FAR)
    left, right = wall[:, :WIDTH].copy(), wall[:, FAR:].copy()
    square = smooth_noise(2, 40, 60)
    left[SQUARE] = square
    right[SQUARE[0], 120 - NEAR : 180 - NEAR] = square
    disparity = np.full((HEIGHT, WIDTH), FAR, np.float32)
    disparity[SQUARE] = NEAR
    noc = np.ones((HEIGHT, WIDTH), bool)
    noc[:, :FAR] = False
    # Wall pixels whose right position lies behind the square.
    noc[SQUARE[0], 180 - NEAR + FAR - 60 : 120] = False
    views = [np.repeat(view[:, :, None], 3, axis=2) for view in (left, right)]
    return StereoPair(views[0], views[1], "square", disparity=disparity, noc=noc)


def test_known_scene(square_scene):
    output = SemiGlobalTeacher(64).predict(square_scene)
    truth, noc = square_scene.disparity, square_scene.noc
    sure = output.confidence >= 0.5
    assert (sure & noc).sum() > 0.75 * noc.sum()
    error = np.abs(output.disparity - truth)[sure & noc]
    assert np.median(error) < 0.05
    assert (error > 1).mean() < 0.01, "matching windows reach over the square's edge, but not far"
    assert output.disparity.dtype == output.confidence.dtype == np.float32
    assert 0 <= output.confidence.min() <= output.confidence.max() <= 1
    assert (output.confidence[np.isnan(output.disparity)] == 0).all()


def test_occluded_pixels_are_not_believed(square_scene):
    hidden = ~square_scene.noc
    hidden[:, :FAR] = False
    assert hidden.sum() == 40 * (NEAR - FAR)
    confidence = SemiGlobalTeacher(64).predict(square_scene).confidence
    assert (confidence[hidden] < 0.5).mean() > 0.95


def test_left_border_is_matched_although_narrower_than_the_search_range(square_scene):
    output = SemiGlobalTeacher(64).predict(square_scene)
    border = (slice(10, -10), slice(FAR + 6, 64))
    assert (output.confidence[border] >= 0.5).mean() > 0.9
    np.testing.assert_allclose(np.nanmedian(output.disparity[border]), FAR, atol=0.1)


def test_what_is_nearer_than_the_range_is_masked(square_scene):
    output = SemiGlobalTeacher(16).predict(square_scene)
    inside = (slice(45, 75), slice(130, 170))
    assert (output.confidence[inside] < 0.5).all()
    assert np.nanmax(output.disparity) < 16


def test_subpixel_disparity():
    fine = cv2.resize(smooth_noise(3, width=2 * WIDTH), (4 * WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    shift = 10.25
    left = np.repeat(fine[:, 0 : 2 * WIDTH : 2, None], 3, axis=2)[:, : WIDTH - 20]
    columns = np.arange(WIDTH - 20) * 2 + 2 * shift
    rows = np.repeat(np.arange(HEIGHT, dtype=np.float32)[:, None], len(columns), axis=1)
    sampled = cv2.remap(fine, np.repeat(columns[None].astype(np.float32), HEIGHT, axis=0), rows, cv2.INTER_CUBIC)
    output = SemiGlobalTeacher(32).predict(StereoPair(left, np.repeat(sampled[:, :, None], 3, axis=2), "fine"))
    assert np.nanmedian(output.disparity[:, 16:]) == pytest.approx(shift, abs=0.15), "the fit leans to whole pixels"


def test_textureless_is_believed_less(square_scene):
    flat = StereoPair(square_scene.left.copy(), square_scene.right.copy(), "flat")
    flat.left[80:] = flat.right[80:] = 128
    confidence = SemiGlobalTeacher(64).predict(flat).confidence
    assert confidence[95:, 80:].max() < 0.1
    assert (confidence[10:35, 80:] >= 0.5).mean() > 0.9


@pytest.mark.parametrize("max_disp", [0, 8, 100, -16])
def test_range_must_be_a_multiple_of_sixteen(max_disp):
    with pytest.raises(UserError, match="multiple of 16"):
        open_teacher(TeacherOptions(max_disp=max_disp))


def test_a_model_makes_no_sense():
    with pytest.raises(UserError, match="no model"):
        open_teacher(TeacherOptions(model="x.onnx"))


def test_real_pair_kept_pixels_are_right(shared_data):
    pair = load_pair(shared_data / "pairs" / "middlebury2003_teddy")
    output = SemiGlobalTeacher(64).predict(pair)
    kept = np.where(output.confidence >= 0.5, output.disparity, np.float32(np.nan))
    every, sure = (
        errors_against_truth(disparity, pair.disparity, mask=pair.noc) for disparity in (output.disparity, kept)
    )
    assert sure.coverage_pct > 85
    assert sure.epe_px < 0.35

    def wrong_of_predicted_pct(errors):
        return errors.bad2_pct - (100 - errors.coverage_pct)

    assert wrong_of_predicted_pct(sure) < 0.8 * wrong_of_predicted_pct(every), "the confidence must find the errors"
