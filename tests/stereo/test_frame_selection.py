"""Which frames are dropped and why, on made-up and on real frames, and that cutting the work changes nothing."""

import itertools

import cv2
import numpy as np
import pytest

from stereo.errors import UserError
from stereo.frame_selection import (
    BLURRED,
    BORDER,
    NEAR_DUPLICATE,
    OVEREXPOSED,
    REASONS,
    UNDEREXPOSED,
    Selection,
    ThumbnailState,
    change_levels,
)
from stereo.image_quality import border_share, edge_width_px, judged
from stereo.pair import StereoPair
from stereo.selection_options import SelectionOptions
from stereo.sources import open_source

HEIGHT, WIDTH = 360, 480
ALONE = SelectionOptions(near_duplicate_levels=None)


def choose(frames, options, *, start=0, kept=None):
    """Reasons for the frames from `start` on, block by block, given the last kept one before it."""
    selection, reasons = Selection(options), []
    for position in range(start, len(frames)):
        if position % options.block == 0:
            kept = None
        reasons.append(selection.judge(frames[position], kept))
        if reasons[-1] is None:
            kept = ThumbnailState.of(frames[position].left)
    return reasons


def boxes(seed, height=HEIGHT, width=WIDTH):
    """Sharp-edged boxes of many sizes, mean about 120."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 120, np.uint8)
    for _ in range(150):
        corner = rng.integers(0, (width, height))
        colour = [int(level) for level in rng.integers(30, 220, 3)]
        cv2.rectangle(image, corner.tolist(), (corner + rng.integers(4, 70, 2)).tolist(), colour, cv2.FILLED)
    return image


def pair(left, right=None, name="frame"):
    return StereoPair(left, left.copy() if right is None else right, name)


def noisy(image, sigma, seed=0):
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def moved_by(image, length):
    """Motion blur along the rows."""
    return cv2.filter2D(image, -1, np.full((1, length), 1 / length, np.float32))


def barred(image, share, level=0):
    bar, image = round(share * image.shape[0] / 2), image.copy()
    image[:bar] = image[-bar:] = level
    return image


def jpeg(image, quality):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def tilted(image):
    """Turned in its frame, as after a rectification that keeps everything: slanted borders on all sides."""
    height, width = image.shape[:2]
    matrix = np.array([[0.9, 0.04, 20], [0.02, 0.88, 18], [0, 0, 1]])
    return cv2.warpPerspective(image, matrix, (width, height))


CASES = {
    "as it is": (lambda image: image, None),
    "slightly soft": (lambda image: cv2.GaussianBlur(image, (0, 0), 0.8), None),
    "noisy": (lambda image: noisy(image, 8), None),
    "compressed": (lambda image: jpeg(image, 25), None),
    "dim": (lambda image: (image * 0.3).astype(np.uint8), None),
    "lamps at night": (lambda image: np.where(np.arange(WIDTH)[:, None] % 3 == 0, image, image // 12), None),
    "thin bars": (lambda image: barred(image, 0.03), None),
    "out of focus": (lambda image: cv2.GaussianBlur(image, (0, 0), 2), BLURRED),
    "far out of focus": (lambda image: cv2.GaussianBlur(image, (0, 0), 7), BLURRED),
    "moved": (lambda image: moved_by(image, 9), BLURRED),
    "moved upwards": (lambda image: np.ascontiguousarray(moved_by(image.swapaxes(0, 1), 13).swapaxes(0, 1)), BLURRED),
    "moved and noisy": (lambda image: noisy(moved_by(image, 15), 3), BLURRED),
    "black": (np.zeros_like, UNDEREXPOSED),
    "dark": (lambda image: noisy(image * 0.04, 1), UNDEREXPOSED),
    "white": (lambda image: np.full_like(image, 255), OVEREXPOSED),
    "bright": (lambda image: np.clip(image * 3.0 + 60, 0, 255).astype(np.uint8), OVEREXPOSED),
    "bars": (lambda image: barred(image, 0.2), BORDER),
    "dark gray bars": (lambda image: barred(image, 0.2, 6), BORDER),
    "compressed bars": (lambda image: jpeg(barred(image, 0.2), 50), BORDER),
    "tilted": (tilted, BORDER),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("side", ["left", "right", "both"])
def test_a_frame_is_judged_by_its_worse_view(name, side):
    change, reason = CASES[name]
    sharp = boxes(0)
    bad = np.ascontiguousarray(change(sharp))
    views = {"left": (bad, sharp), "right": (sharp, bad), "both": (bad, bad.copy())}[side]
    found = Selection(ALONE).judge(pair(*views), None)
    assert found == reason
    assert found is None or found in REASONS


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0, 3.0])
def test_the_width_of_edges_is_measured_in_pixels(sigma):
    """A step blurred by a Gaussian has contrast / steepest step = sqrt(2 pi) sigma."""
    step = np.tile(np.where(np.arange(640) // 40 % 2 == 0, 50, 200).astype(np.float32), (480, 1))
    gray = np.rint(cv2.GaussianBlur(step, (0, 0), sigma)).astype(np.uint8)
    assert edge_width_px(gray) == pytest.approx(np.sqrt(2 * np.pi) * sigma, rel=0.08)


def test_sharpness_means_the_same_at_every_size():
    large = boxes(1, 960, 1280)
    soft = cv2.GaussianBlur(large, (0, 0), 2)
    small = cv2.resize(soft, (640, 480), interpolation=cv2.INTER_AREA)
    assert edge_width_px(judged(soft)) == pytest.approx(edge_width_px(judged(small)), rel=0.02)


def test_an_image_without_edges_is_not_called_blurred():
    assert edge_width_px(judged(np.full((HEIGHT, WIDTH, 3), 100, np.uint8))) is None
    assert Selection(ALONE).judge(pair(noisy(np.full((HEIGHT, WIDTH, 3), 100.0), 3)), None) is None


@pytest.mark.parametrize("size", [(1, 1), (2, 30), (30, 2), (16, 16), (40, 300)])
def test_images_of_any_size_are_judged(size):
    image = np.random.default_rng(0).integers(40, 220, (*size, 3), np.uint8)
    assert Selection(SelectionOptions()).judge(pair(image), None) is None
    assert Selection(SelectionOptions()).judge(pair(image), ThumbnailState.of(image)) == NEAR_DUPLICATE


def test_dark_things_at_the_side_and_a_night_sky_are_no_border():
    curtain = boxes(2)
    curtain[:300, : WIDTH // 3] = 0
    assert border_share(judged(curtain)) == 0
    night = (boxes(3) * np.linspace(0, 0.6, HEIGHT)[:, None, None]).astype(np.uint8)
    night[: HEIGHT // 4] = 0
    assert border_share(judged(night)) == 0
    tail = barred(boxes(4), 0.1)
    tail[:, 100:200] = 0
    assert border_share(judged(tail)) < 0.15, "the dark stripe that meets both bars is not part of them"


def test_border_share_is_the_share_of_the_image():
    assert border_share(judged(barred(boxes(5), 0.2))) == pytest.approx(0.2, abs=0.01)
    sides = np.ascontiguousarray(barred(boxes(5).swapaxes(0, 1), 0.1).swapaxes(0, 1))
    assert border_share(judged(sides)) == pytest.approx(0.1, abs=0.01)


STILL = {
    "the same": lambda image: image,
    "noise": lambda image: noisy(image, 6, 1),
    "compression": lambda image: jpeg(image, 40),
    "exposure": lambda image: (image * 0.93).astype(np.uint8),
    "a bird": lambda image: cv2.rectangle(image.copy(), (100, 50), (122, 66), (0, 0, 0), cv2.FILLED),
}
CHANGED = {
    "2 px on": lambda image: np.roll(image, 2, axis=1),
    "1 % nearer": lambda image: cv2.warpAffine(
        image, cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), 0, 1.01), (WIDTH, HEIGHT)
    ),
    "somebody comes in": lambda image: cv2.rectangle(image.copy(), (200, 100), (280, 240), (20, 20, 20), cv2.FILLED),
    "the light goes off": lambda image: (image * 0.5).astype(np.uint8),
}


@pytest.mark.parametrize("name", STILL | CHANGED)
def test_only_a_standing_camera_makes_near_duplicates(name):
    image = boxes(6)
    after = pair((STILL | CHANGED)[name](image))
    reason = Selection(SelectionOptions()).judge(after, ThumbnailState.of(image))
    assert reason == (NEAR_DUPLICATE if name in STILL else None)
    assert Selection(ALONE).judge(after, ThumbnailState.of(image)) is None


def test_a_slow_camera_is_kept_whenever_it_has_gone_far_enough():
    """0.25 px a frame: compared with the last kept frame, not with the last frame."""
    image = boxes(7, HEIGHT, WIDTH + 40)
    views = [
        cv2.warpAffine(image, np.array([[1, 0, -number / 4], [0, 1, 0]]), (WIDTH + 40, HEIGHT))[:, :WIDTH]
        for number in range(41)
    ]
    reasons = choose([pair(np.ascontiguousarray(view)) for view in views], SelectionOptions())
    kept = [number for number, reason in enumerate(reasons) if reason is None]
    assert kept[0] == 0
    assert 5 < len(kept) < 21
    assert max(np.diff(kept)) < 10


def stream():
    """40 frames: a camera that stands, moves, stands, and bad frames in between."""
    frames = []
    for number in range(40):
        view = noisy(boxes(8 + number // 7 if number % 7 < 5 else 100 + number), 2, number)
        if number in (3, 21, 22):
            view = cv2.GaussianBlur(view, (0, 0), 3)
        frames.append(pair(view, name=f"{number:06d}"))
    return frames


def test_work_cut_at_blocks_or_resumed_inside_one_is_judged_the_same():
    frames = stream()
    options = SelectionOptions(block=8)
    expected = choose(frames, options)
    assert {None, NEAR_DUPLICATE, BLURRED} == set(expected)
    for cut in (8, 16, 32):
        assert choose(frames[:cut], options) + choose(frames, options, start=cut) == expected
    for stop in (3, 13, 23, 37):
        before = [number for number in range(stop - stop % 8, stop) if expected[number] is None]
        kept = ThumbnailState.of(frames[before[-1]].left) if before else None
        assert choose(frames, options, start=stop, kept=kept) == expected[stop:]


def test_each_block_begins_anew():
    image = boxes(9)
    found = choose([pair(noisy(image, 1, seed)) for seed in range(8)], SelectionOptions(block=4))
    assert found == [None, NEAR_DUPLICATE, NEAR_DUPLICATE, NEAR_DUPLICATE] * 2


def test_a_dropped_frame_is_not_what_the_next_is_compared_with():
    image = boxes(10)
    views = [image, np.zeros_like(image), cv2.GaussianBlur(boxes(11), (0, 0), 3), image]
    reasons = choose([pair(view) for view in views], SelectionOptions())
    assert reasons == [None, UNDEREXPOSED, BLURRED, NEAR_DUPLICATE]


def test_every_limit_can_be_switched_off():
    off = SelectionOptions(
        near_duplicate_levels=None, max_edge_px=None, max_dark=None, max_bright=None, max_border=None
    )
    sharp = boxes(12)
    views = [np.ascontiguousarray(change(sharp)) for change, _ in CASES.values()]
    assert choose([pair(view) for view in [*views, sharp, sharp]], off) == [None] * (len(views) + 2)


@pytest.mark.parametrize(("options", "message"), [
    ({"max_dark": 1.2}, "max_dark: 1.2 is not a share"), ({"max_border": -0.1}, "max_border: -0.1 is not a share"),
    ({"max_edge_px": 0}, "max_edge_px: 0 is not positive.*null"), ({"near_duplicate_levels": -1}, "-1 is not positive"),
    ({"block": 0}, "block: 0 is below 1"),
])  # fmt: skip
def test_limits_that_make_no_sense(options, message):
    with pytest.raises(UserError, match=message):
        Selection(SelectionOptions(**options))


@pytest.mark.parametrize(("folder", "every"), [
    ("pairs", 1), ("video/kitti_odom_seq_1", 5), ("video/stereodemo_oakd_stills", 1),
])  # fmt: skip
def test_no_real_frame_is_dropped(shared_data, folder, every):
    source = open_source(shared_data / folder)
    frames = [source.read(index).pair for index in range(0, len(source), every)]
    assert choose(frames, SelectionOptions()) == [None] * len(frames)


def test_consecutive_real_frames_and_a_standing_copy(shared_data):
    source = open_source(shared_data / "video/kitti_odom_seq_1")
    frames = [source.read(index).pair for index in range(20, 24)]
    standing = [pair(noisy(frames[3].left, 3, seed), noisy(frames[3].right, 3, seed + 10)) for seed in range(3)]
    assert choose([*frames, *standing], SelectionOptions()) == [None] * 4 + [NEAR_DUPLICATE] * 3


@pytest.mark.parametrize("folder", ["video/kitti_odom_seq_1", "video/stereodemo_oakd_stills"])
def test_blurred_copies_of_real_frames_are_dropped(shared_data, folder):
    source = open_source(shared_data / folder)
    for index in range(0, len(source), len(source) // 4):
        frame = source.read(index).pair
        factor = max(1.0, frame.width / 640)
        for blurred in (cv2.GaussianBlur(frame.right, (0, 0), 2 * factor), moved_by(frame.right, round(9 * factor))):
            assert Selection(ALONE).judge(StereoPair(frame.left, blurred, frame.name), None) == BLURRED


@pytest.mark.slow
def test_no_frame_of_the_real_sequence_is_near_another(shared_data):
    states = [ThumbnailState.of(frame.pair.left) for frame in open_source(shared_data / "video/kitti_odom_seq_1")]
    changes = [change_levels(before, after) for before, after in itertools.pairwise(states)]
    assert min(changes) > 5 * SelectionOptions().near_duplicate_levels
