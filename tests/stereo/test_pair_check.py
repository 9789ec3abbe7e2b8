"""The check on a source's images: what must pass, what must be refused, and what cannot be told."""

import json
import logging

import cv2
import numpy as np
import pytest

from stereo.errors import UserError
from stereo.image_sources import ImagePairs
from stereo.pair import StereoPair
from stereo.pair_check import check_pairs, check_source
from stereo.selection_options import CheckOptions
from stereo.sources import Frame, StereoSource, open_source

HEIGHT, WIDTH = 360, 480


def warp(image, *, degrees=0.0, zoom=1.0, down=0.0, right=0.0):
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, zoom)
    matrix[:, 2] += right, down
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def noisy(image, sigma, seed):
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def jpeg(image, quality):
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def right_alone(**how):
    return lambda left, right: (left, warp(right, **how))


DAMAGES = {
    "turned by half a degree": (right_alone(degrees=0.5), "rectified"),
    "turned back by half a degree": (right_alone(degrees=-0.5), "rectified"),
    "left turned by a degree": (lambda left, right: (warp(left, degrees=1), right), "rectified"),
    "shifted down by 3 px": (right_alone(down=3), "rectified"),
    "shifted up by 3 px": (right_alone(down=-3), "rectified"),
    "shifted down by 25 px": (right_alone(down=25), "rectified"),
    "zoomed by 1 %": (right_alone(zoom=1.01), "rectified"),
    "shrunk by 1 %": (right_alone(zoom=0.99), "rectified"),
    "swapped": (lambda left, right: (right, left), "order"),
    "one image twice": (lambda left, right: (left, left.copy()), "two_views"),
    "one image compressed twice": (lambda left, right: (jpeg(left, 80), jpeg(left, 60)), "two_views"),
    "right upside down": (lambda left, right: (left, np.ascontiguousarray(right[::-1, ::-1])), "one_scene"),
    "right mirrored": (lambda left, right: (left, np.ascontiguousarray(right[:, ::-1])), "one_scene"),
}
BGR = (lambda left, right: (left, np.ascontiguousarray(right[:, :, ::-1])), "channels")
HARMLESS = {
    "exposure differs": lambda left, right: (left, np.clip(right * 1.25 + 8.0, 0, 255).astype(np.uint8)),
    "compressed": lambda left, right: (jpeg(left, 40), jpeg(right, 40)),
    "noisy": lambda left, right: (noisy(left, 6, 0), noisy(right, 6, 1)),
    "out of focus": lambda left, right: (cv2.GaussianBlur(left, (0, 0), 2), cv2.GaussianBlur(right, (0, 0), 2)),
    "white balance differs": lambda left, right: (left, np.clip(right * (1.1, 1, 0.85), 0, 255).astype(np.uint8)),
}


def scene(seed, *, nearest=30.0, farthest=6.0):
    """A pair of a textured ground that rises from near to far, with exact disparity."""
    rng = np.random.default_rng(seed)
    texture = np.zeros((HEIGHT, WIDTH + 80, 3), np.float32)
    for cell in (4, 13, 45):
        coarse = rng.uniform(0, 1, (HEIGHT // cell + 2, WIDTH // cell + 12, 3)).astype(np.float32)
        texture += cv2.resize(coarse, texture.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    texture = cv2.normalize(texture, None, 20, 235, cv2.NORM_MINMAX)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    disparity = np.linspace(farthest, nearest, HEIGHT, dtype=np.float32)[:, None]
    views = (cv2.remap(texture, x + shift, y, cv2.INTER_LINEAR) for shift in (0 * disparity, disparity))
    return StereoPair(*(view.astype(np.uint8) for view in views), f"scene{seed}")


def damaged(pairs, how):
    return [StereoPair(*how(pair.left, pair.right), pair.name) for pair in pairs]


def outcomes(report):
    return {name: answer.outcome for name, answer in report.answers.items()}


@pytest.fixture(scope="module")
def scenes():
    return [scene(0), scene(1)]


GROUPS = {"pairs": (0, 1, 3), "video/kitti_odom_seq_1": (0, 20, 50), "video/stereodemo_oakd_stills": (0, 4, 7, 10)}


@pytest.fixture(scope="module")
def real(shared_data):
    """A few frames of each kind of real data."""
    sources = {folder: open_source(shared_data / folder) for folder in GROUPS}
    return {folder: [sources[folder].read(index).pair for index in indexes] for folder, indexes in GROUPS.items()}


@pytest.fixture(scope="module")
def one_of_each(real):
    """A coloured still, a gray street and a gray room."""
    return [pairs[1] for pairs in real.values()]


def test_a_rectified_pair_is_fine(scenes):
    report = check_pairs(scenes)
    assert set(outcomes(report).values()) == {"fine"}
    assert report.problems() == report.warnings() == []
    assert report.answers["rectified"].numbers["field_px"] < 0.05
    assert 6 < report.answers["order"].numbers["median_disparity_px"] < 30
    assert report.answers["channels"].numbers["red_blue_correlation"] > 0.95


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_and_nothing_else_blamed(scenes, name):
    how, question = DAMAGES[name]
    report = check_pairs(damaged(scenes, how))
    assert len(report.problems()) == 1
    assert report.answers[question].outcome == "wrong"


@pytest.mark.parametrize(("how", "number", "expected", "within"), [
    ({"degrees": -0.5}, "rotation_deg", 0.5, 0.02), ({"down": 3}, "shift_px", 3, 0.05),
    ({"zoom": 1.01}, "zoom_pct", 1.0, 0.03), ({"down": -40}, "shift_px", -40, 0.05),
])  # fmt: skip
def test_the_damage_is_measured(scenes, how, number, expected, within):
    numbers = check_pairs(damaged(scenes, right_alone(**how))).answers["rectified"].numbers
    assert numbers[number] == pytest.approx(expected, abs=within)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_matching_can_take_passes(scenes, name):
    assert check_pairs(damaged(scenes, HARMLESS[name])).problems() == []


def test_channels_of_one_view_exchanged(scenes):
    problem = check_pairs(damaged(scenes, BGR[0])).problems()
    assert len(problem) == 1
    assert "red against blue" in problem[0].what
    assert "BGR" in problem[0].fix


def test_the_same_exchange_in_both_views_cannot_be_seen(scenes):
    both = damaged(scenes, lambda left, right: (left[..., ::-1].copy(), right[..., ::-1].copy()))
    assert check_pairs(both).answers["channels"].outcome == "fine"


def test_gray_views_have_no_channel_order_but_one_gray_view_is_told(scenes):
    def gray(image):
        return np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)

    both = check_pairs(damaged(scenes, lambda left, right: (gray(left), gray(right)))).answers["channels"]
    assert (both.outcome, both.numbers["gray"]) == ("fine", True)
    one = check_pairs(damaged(scenes, lambda left, right: (gray(left), right)))
    assert one.answers["channels"].outcome == "cannot tell"
    assert "one view is gray" in one.warnings()[0]


def test_views_of_different_scenes(scenes):
    mixed = [StereoPair(scenes[0].left, scenes[1].right, "mixed")]
    report = check_pairs(mixed)
    assert report.answers["one_scene"].outcome == "wrong"
    assert [problem.what for problem in report.problems()] == [report.answers["one_scene"].what]


@pytest.mark.parametrize("make", [
    lambda side: np.zeros((HEIGHT, WIDTH, 3), np.uint8),
    lambda side: np.full((HEIGHT, WIDTH, 3), 130, np.uint8),
    lambda side: noisy(np.full((HEIGHT, WIDTH, 3), 12.0), 2, side),
    lambda side: noisy(np.full((HEIGHT, WIDTH, 3), 128.0), 12, side),
    lambda side: noisy(np.tile(np.linspace(40 + side, 200 + side, WIDTH)[:, None], (HEIGHT, 1, 3)), 1, side),
], ids=["black", "flat", "dark noise", "strong noise", "ramp"])  # fmt: skip
def test_images_that_show_nothing_cannot_tell_and_say_so(make, caplog):
    report = check_pairs([StereoPair(make(0), make(1), f"blank{number}") for number in range(3)])
    assert report.problems() == []
    told = {name for name, outcome in outcomes(report).items() if outcome == "cannot tell"}
    assert {"two_views", "one_scene", "rectified", "order"} <= told
    with caplog.at_level(logging.WARNING):
        report.enforce(where="clip", force=False)
    assert "cannot tell whether the views are rectified" in caplog.text


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (40, 300), (64, 64), (72, 128)])
def test_images_too_small_for_features_cannot_tell(size):
    noise = np.random.default_rng(0).integers(0, 255, (2, *size, 3), np.uint8)
    report = check_pairs([StereoPair(noise[0], noise[1], "small")])
    assert report.answers["rectified"].outcome == "cannot tell"


def pattern(kind, period):
    y, x = np.mgrid[:HEIGHT, : WIDTH + 60].astype(np.float32)
    if kind == "squares":
        image = ((x // period + y // period) % 2) * 180 + 40
    elif kind == "bricks":
        joint = (y % period < 3) | ((x + (y // period % 2) * period) % (2 * period) < 3)
        image = np.where(joint, 200.0, 90.0)
    else:
        image = np.where(
            (x % period - period / 2) ** 2 + (y % period - period / 2) ** 2 < (period / 4) ** 2, 220.0, 60.0
        )
    image = cv2.GaussianBlur(np.repeat(image[..., None], 3, axis=2).astype(np.float32), (0, 0), 0.8)

    def pair(seed, down):
        right = warp(image, right=-12, down=down)
        return StereoPair(noisy(image[:, :WIDTH], 2, 2 * seed), noisy(right[:, :WIDTH], 2, 2 * seed + 1), f"p{seed}")

    return pair


@pytest.mark.parametrize(("kind", "period"), [("squares", 12), ("squares", 32), ("bricks", 40), ("dots", 24)])
def test_patterns_that_repeat_are_not_refused_but_a_shift_of_them_is(kind, period):
    pair = pattern(kind, period)
    report = check_pairs([pair(seed, 0) for seed in range(3)])
    assert report.problems() == []
    assert report.answers["order"].outcome == "cannot tell", "every disparity looks as good"
    shifted = check_pairs([pair(seed, 4) for seed in range(3)])
    assert shifted.answers["rectified"].outcome == "wrong"


def test_some_negative_disparities_are_told_and_most_are_refused():
    turned_in = [scene(seed, nearest=20, farthest=-8) for seed in (0, 1)]
    report = check_pairs(turned_in)
    assert report.answers["order"].outcome == "cannot tell"
    assert 15 < report.answers["order"].numbers["negative_pct"] < 45
    beyond = check_pairs([scene(seed, nearest=4, farthest=-24) for seed in (0, 1)])
    assert beyond.answers["order"].outcome == "wrong"
    assert "turned towards each other" in beyond.problems()[0].fix


def test_few_wrong_frames_are_named_and_many_refused(scenes):
    turned = damaged([scene(9)], right_alone(degrees=1))
    few = check_pairs([*(scene(seed) for seed in range(4)), *turned])
    assert few.problems() == []
    assert few.warnings() == ["of 5 frames these are not rectified: scene9"]
    many = check_pairs([scene(0), scene(1), *turned])
    assert "wrong by themselves: scene9" in many.problems()[0].what


def test_a_refusal_says_numbers_fix_and_how_to_go_on(scenes, caplog):
    report = check_pairs(damaged(scenes, lambda left, right: (warp(right, down=6), left)))
    with pytest.raises(UserError, match=r"clip\.mp4: \d+ matching points .*shift -6\.\d+ px") as caught:
        report.enforce(where="clip.mp4", force=False)
    assert "; and 100 % of" in str(caught.value)
    assert "exchange the views" in str(caught.value)
    assert "--force" in str(caught.value)
    with caplog.at_level(logging.WARNING):
        report.enforce(where="clip.mp4", force=True)
    assert caplog.text.count("going on although") == 2


def test_the_limits_are_options(scenes):
    shifted = damaged(scenes, right_alone(down=3))
    assert check_pairs(shifted, CheckOptions(max_vertical_px=4)).problems() == []
    turned = damaged(scenes, right_alone(degrees=0.2))
    assert check_pairs(turned).problems() == []
    assert check_pairs(turned, CheckOptions(max_rotation_deg=0.1)).problems() != []


def test_what_is_recorded_is_json(scenes):
    described = json.loads(json.dumps(check_pairs(scenes).describe(), allow_nan=False))
    assert described["frames"] == 2
    assert described["answers"]["rectified"]["outcome"] == "fine"
    assert described["answers"]["rectified"]["points"] > 100
    nothing = json.loads(json.dumps(check_pairs([]).describe(), allow_nan=False))
    assert nothing["frames"] == 0


class Recorded(StereoSource):
    """Frames of a list, None being unreadable; remembers what was read."""

    kind = "recorded"

    def __init__(self, pairs):
        self.pairs, self.asked = pairs, []

    def __len__(self):
        return len(self.pairs)

    def read(self, index):
        self.asked.append(index)
        return Frame(index, self.name(index), self.pairs[index])

    def name(self, index):
        return f"{index:06d}"

    def paths(self):
        return []


def test_a_sample_is_spread_over_what_will_be_labelled(scenes):
    source = Recorded([scenes[0]] * 40)
    assert check_source(source, range(0, 40, 2), CheckOptions(sample=3)).frames == 3
    assert source.asked == [0, 20, 38]
    source = Recorded([scenes[0], None, scenes[1]])
    report = check_source(source, range(3), CheckOptions())
    assert source.asked == [0, 1, 2]
    assert report.frames == 2
    for empty in (check_source(source, range(3), CheckOptions(sample=0)), check_source(source, [], CheckOptions())):
        assert (empty.frames, empty.problems(), empty.answers) == (0, [], {})


def test_frames_without_a_pair_alone_are_no_silent_pass(caplog):
    report = check_source(Recorded([None, None]), range(2), CheckOptions())
    with caplog.at_level(logging.WARNING):
        report.enforce(where="clip", force=False)
    assert "clip: no frame could be checked" in caplog.text


@pytest.mark.parametrize("folder", GROUPS)
def test_real_data_passes_without_a_warning(shared_data, folder):
    source = open_source(shared_data / folder)
    assert isinstance(source, ImagePairs)
    report = check_source(source, range(len(source)), CheckOptions())
    assert report.problems() == report.warnings() == []
    assert report.frames == min(16, len(source))


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_copies_of_real_data_are_refused(one_of_each, name):
    how, question = DAMAGES[name]
    report = check_pairs(damaged(one_of_each, how))
    assert report.answers[question].outcome == "wrong"
    assert report.wrong_frames[question] == [pair.name for pair in one_of_each]
    with pytest.raises(UserError):
        report.enforce(where="real", force=False)


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_copies_of_real_data_pass(one_of_each, name):
    assert check_pairs(damaged(one_of_each, HARMLESS[name])).problems() == []


def test_exchanged_channels_of_real_data_are_refused(real):
    report = check_pairs(damaged(real["pairs"], BGR[0]))
    assert report.answers["channels"].outcome == "wrong"
    assert report.answers["channels"].numbers["red_blue_correlation"] < -0.9


def test_real_night_is_never_refused_for_being_dark(one_of_each):
    def night(left, right):
        return noisy(left * 0.05, 2, 0), noisy(right * 0.05, 2, 1)

    assert check_pairs(damaged(one_of_each, night)).problems() == []


@pytest.mark.slow
@pytest.mark.parametrize("folder", GROUPS)
@pytest.mark.parametrize("name", DAMAGES)
def test_every_kind_of_real_data_is_refused_when_damaged(real, folder, name):
    how, question = DAMAGES[name]
    assert check_pairs(damaged(real[folder], how)).answers[question].outcome == "wrong"


@pytest.mark.slow
@pytest.mark.parametrize("folder", GROUPS)
def test_every_real_frame_passes_alone(shared_data, folder):
    for frame in open_source(shared_data / folder):
        report = check_pairs([frame.pair])
        assert report.problems() == report.warnings() == [], frame.name
