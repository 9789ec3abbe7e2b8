"""Terms, their combination, perturbations and the verdict."""

import cv2
import numpy as np
import pytest

from stereo.errors import UserError
from stereo.pair import StereoPair
from teacher.perturbations import perturbed_disparity, stability
from teacher.protocol import TeacherOutput
from teacher.semi_global import SemiGlobalTeacher
from teacher.trust import FEW_TRUSTED, WEIGHTS, agreement, combined_confidence, trusted, visible_share
from teacher.trust_options import TrustOptions, check_trust

HEIGHT, WIDTH, FAR, NEAR = 120, 240, 8, 24
SQUARE = (slice(40, 80), slice(120, 180))
NAN = np.float32(np.nan)


def noise(seed, height=HEIGHT, width=WIDTH):
    drawn = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    drawn = cv2.GaussianBlur(drawn, (0, 0), 1.2)
    return np.clip(128 + 45 * drawn / drawn.std(), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def scene():
    """A near square before a far wall: the pair with its truth and the right view's disparity."""
    wall, square = noise(1, width=WIDTH + FAR), noise(2, 40, 60)
    left, right = wall[:, :WIDTH].copy(), wall[:, FAR:].copy()
    there = (SQUARE[0], slice(120 - NEAR, 180 - NEAR))
    left[SQUARE], right[there] = square, square
    disparity, disparity_right = np.full((2, HEIGHT, WIDTH), FAR, np.float32)
    disparity[SQUARE], disparity_right[there] = NEAR, NEAR
    noc = np.ones((HEIGHT, WIDTH), bool)
    noc[:, :FAR] = False
    noc[SQUARE[0], 180 - NEAR + FAR - 60 : 120] = False
    views = [np.repeat(view[:, :, None], 3, axis=2) for view in (left, right)]
    return StereoPair(views[0], views[1], "square", disparity=disparity, noc=noc), disparity_right


class Told:
    """A teacher that gives what it was told; its own confidence is 1 wherever there is a disparity.

    Args:
        disparity: what it gives for the left view, at any size of the images.
        others: more fields of its answer.
    """

    name, max_disp = "told", 64

    def __init__(self, disparity, **others):
        self.disparity, self.others = disparity, others
        self.asked = []

    def predict(self, pair):
        sure = np.isfinite(self.disparity).astype(np.float32)
        return TeacherOutput(self.disparity, sure, **self.others)

    def left_disparity(self, pair):
        self.asked.append(pair)
        return self.disparity


def test_the_truth_is_trusted_where_it_can_be_seen(scene):
    pair, right = scene
    label = trusted(Told(pair.disparity, right=right), pair, TrustOptions())
    # Windows near what is hidden hold pixels that nobody can check.
    near_hidden = cv2.dilate((~pair.noc).astype(np.uint8), np.ones((35, 35), np.uint8)) > 0
    assert label.confidence[~near_hidden].min() > 0.95
    assert (label.confidence[~pair.noc] == 0).all()
    assert label.verdict is None
    np.testing.assert_array_equal(label.disparity, pair.disparity)
    assert label.confidence.dtype == np.float32


@pytest.mark.parametrize("term", ["agreement", "visible", "photometric", "certainty", "stability"])
def test_every_term_finds_what_it_is_for(scene, term):
    """A patch that is wrong in the way that this term alone can see; its confidence must fall by this term."""
    pair, right = scene
    patch = (slice(90, 115), slice(60, 110))
    disparity, right = pair.disparity.copy(), right.copy()
    others, options = {}, TrustOptions(terms=True, weights={"certainty": 1.0}, perturbations=("vertical_flip",))
    teacher_says = disparity
    if term in ("agreement", "photometric", "visible"):
        disparity[patch] = FAR + 7
    if term in ("photometric", "visible"):
        right[patch[0], 60 - FAR - 7 : 110 - FAR - 7] = FAR + 7  # wrong in both views alike
    if term == "certainty":
        others["entropy"] = np.zeros_like(disparity)
        others["entropy"][patch] = 0.9
    teacher = Told(disparity, right=right, **others)
    upside_down = teacher_says[::-1].copy()
    if term == "stability":
        upside_down[::-1][patch] += 3
    teacher.left_disparity = lambda pair: upside_down
    terms = trusted(teacher, pair, options).terms
    where = (slice(95, 110), slice(70, 100))
    if term == "visible":  # the wall that the wrong patch covers in the right view
        where = (slice(95, 110), slice(54, 59))
    expected = {"agreement": 0.35, "visible": 0.05, "photometric": 0.5, "certainty": 0.11, "stability": 0.01}
    assert np.median(terms[term][where]) < expected[term]
    assert np.median(terms[term][5:30, 60:110]) > 0.95


def test_agreement_asks_both_neighbourhoods():
    disparity = np.full((100, 100), 0, np.float32)
    right = disparity.copy()
    right[40:60, 40:60] = 5
    found = agreement(disparity, right)
    assert found[50, 50] == pytest.approx(0, abs=1e-6), "all near it disagree"
    assert found[5, 50] == 1
    assert found[70, 50] == pytest.approx(1 - 5 * 20 / 31**2, abs=1e-5), "the near window is clean, the wide one is not"
    assert found[63, 50] == pytest.approx((1 - 1 / 9) * (1 - 12 * 20 / 31**2), abs=1e-5)


def test_visible_share_falls_towards_what_is_hidden(scene):
    pair, _ = scene
    share = visible_share(pair.disparity)
    assert (share[~pair.noc] == 0).all()
    first_hidden = 180 - NEAR + FAR - 60
    np.testing.assert_allclose(share[60, first_hidden - 3 : first_hidden], [1, 0.8, 0.6], rtol=1e-5)


def test_the_combination_is_the_product_of_powers():
    terms = {"teacher": np.array([[0.25, 1, 0.5]], np.float32), "visible": np.array([[1, 0, 0.5]], np.float32)}
    np.testing.assert_allclose(
        combined_confidence(terms, {"teacher": 0.5, "visible": 2}), [[0.5, 0, 0.5**2.5]], rtol=1e-6
    )
    np.testing.assert_allclose(combined_confidence(terms, {"teacher": 1, "visible": 0}), terms["teacher"])


def test_a_term_without_weight_neither_vetoes_nor_is_computed(scene):
    pair, right = scene
    teacher = Told(pair.disparity, right=right, entropy=np.ones_like(pair.disparity))
    label = trusted(teacher, pair, TrustOptions())
    assert set(label.terms) == {"teacher", "agreement", "visible", "photometric"}
    stored = trusted(teacher, pair, TrustOptions(terms=True))
    assert (stored.terms["certainty"] == 0).all()
    np.testing.assert_array_equal(stored.confidence, label.confidence)
    assert WEIGHTS["certainty"] == 0, "nobody has measured it yet"


def test_what_a_teacher_cannot_give_is_left_out(scene):
    pair, _ = scene
    label = trusted(Told(pair.disparity), pair, TrustOptions(terms=True))
    assert set(label.terms) == {"teacher", "visible", "photometric"}


def test_the_teachers_own_confidence_is_there_for_who_wants_it(scene):
    pair, right = scene
    label = trusted(Told(pair.disparity, right=right), pair, TrustOptions(combined=False))
    assert (label.confidence == 1).all()
    assert label.terms == {}


def test_no_disparity_no_confidence(scene):
    pair, right = scene
    disparity = pair.disparity.copy()
    disparity[10:20, 50:90] = NAN
    weights = dict.fromkeys(WEIGHTS, 0.0)
    for options in (TrustOptions(), TrustOptions(weights={**weights, "agreement": 1.0})):
        label = trusted(Told(disparity, right=right), pair, options)
        assert (label.confidence[10:20, 50:90] == 0).all()
        assert np.isfinite(label.confidence).all()


def test_weights_that_leave_no_term_are_refused(scene):
    pair, right = scene
    weights = {**dict.fromkeys(WEIGHTS, 0.0), "certainty": 1.0}
    with pytest.raises(UserError, match="gives teacher, visible, photometric, agreement"):
        trusted(Told(pair.disparity, right=right), pair, TrustOptions(weights=weights))


def test_the_verdict_is_the_share_of_trusted_pixels(scene):
    pair, right = scene
    disparity = np.full_like(pair.disparity, NAN)
    disparity[: HEIGHT // 4, WIDTH // 2 :] = FAR  # an eighth of the frame
    teacher = Told(disparity, right=right)
    plain = {"combined": False}
    assert trusted(teacher, pair, TrustOptions(min_trusted=0.12, **plain)).verdict is None
    assert trusted(teacher, pair, TrustOptions(min_trusted=0.125, **plain)).verdict is None
    assert trusted(teacher, pair, TrustOptions(min_trusted=0.13, **plain)).verdict == FEW_TRUSTED
    strict = trusted(teacher, pair, TrustOptions(min_trusted=0.12, **plain), keep_threshold=1.01)
    assert strict.verdict == FEW_TRUSTED


def test_views_of_two_scenes_are_not_trusted(scene):
    pair, _ = scene
    stranger = np.repeat(noise(9)[:, :, None], 3, axis=2)
    teacher = SemiGlobalTeacher(64)
    assert trusted(teacher, pair, TrustOptions()).verdict is None
    assert trusted(teacher, StereoPair(pair.left, stranger, "strangers"), TrustOptions()).verdict == FEW_TRUSTED


def test_upside_down_comes_back_upright(scene):
    pair, _ = scene
    teacher = Told(np.arange(HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH))
    found = perturbed_disparity(teacher, pair, "vertical_flip")
    np.testing.assert_array_equal(found, teacher.disparity[::-1])
    np.testing.assert_array_equal(teacher.asked[0].left, pair.left[::-1])
    np.testing.assert_array_equal(teacher.asked[0].right, pair.right[::-1])


def test_scaled_down_comes_back_in_pixels_of_the_full_size(scene):
    pair, _ = scene
    small = np.full((108, 216), 9, np.float32)
    small[:, 101:] = 18
    small[0, 0] = NAN
    teacher = Told(small)
    found = perturbed_disparity(teacher, pair, "scale")
    assert teacher.asked[0].left.shape == teacher.asked[0].right.shape == (108, 216, 3)
    assert found.shape == (HEIGHT, WIDTH)
    np.testing.assert_allclose(np.unique(found[2:]), [10, 20], rtol=1e-6)  # and nothing between the two surfaces
    assert np.isnan(found[0, 0])


@pytest.mark.parametrize("perturbation", ["vertical_flip", "scale"])
def test_a_matcher_stays_with_its_answer_under_perturbation(scene, perturbation):
    pair, _ = scene
    teacher = SemiGlobalTeacher(64)
    changed = perturbed_disparity(teacher, pair, perturbation)
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[5:30, 40:-5] = True
    assert np.nanmedian(np.abs(changed - pair.disparity)[inside]) < 0.2
    assert np.median(stability(teacher.predict(pair).disparity, [changed])[inside]) > 0.9


def test_stability_is_the_worst_of_the_passes():
    disparity = np.full((1, 4), 10, np.float32)
    one = np.array([[10, 11, 10, NAN]], np.float32)
    two = np.array([[10, 10, 8, 10]], np.float32)
    np.testing.assert_allclose(stability(disparity, [one, two]), [[1, np.exp(-1), np.exp(-4), 0]], rtol=1e-6)
    np.testing.assert_allclose(stability(disparity, [two]), [[1, 1, np.exp(-4), 1]], rtol=1e-6)


def test_extra_passes_are_off_by_default(scene):
    pair, right = scene
    teacher = Told(pair.disparity, right=right)
    assert "stability" not in trusted(teacher, pair, TrustOptions(terms=True)).terms
    assert teacher.asked == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"min_trusted": 1.2}, "1.2 is not a share"),
        ({"min_trusted": -0.1}, "not a share"),
        ({"perturbations": ("horizontal_flip",)}, "unknown perturbation 'horizontal_flip'.*vertical_flip, scale"),
        ({"perturbations": ("scale",), "combined": False}, "nothing would use"),
        ({"weights": {"texture": 1.0}}, "unknown term 'texture'"),
        ({"weights": {"visible": -1.0}}, "-1.0 is not a weight"),
        ({"weights": {"visible": float("nan")}}, "nan is not a weight"),
    ],
)
def test_options_that_cannot_work(options, told):
    with pytest.raises(UserError, match=told):
        check_trust(TrustOptions(**options))


def test_options_that_work():
    check_trust(TrustOptions(perturbations=("vertical_flip", "scale"), min_trusted=0, weights={"certainty": 0.5}))
    check_trust(TrustOptions(perturbations=("scale",), combined=False, terms=True))
