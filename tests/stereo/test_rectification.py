"""Rectification against rendered truth: spots and a textured plane, seen by cameras whose lenses are known.

Images are made the other way round than the product does it: spots by projecting points into the raw images, the plane
by following the ray of each raw pixel back into the world.
"""

import functools
import logging
from itertools import product

import cv2
import numpy as np
import pytest

from stereo.calibration_model import CameraModel, StereoCalibration
from stereo.errors import UserError
from stereo.pair import StereoPair
from stereo.pair_check import check_source
from stereo.rectification import Rectifier
from stereo.selection_options import CheckOptions
from stereo.sources import Frame, StereoSource
from stereo.vertical_offset import measure
from stereo.view_matching import match_views

SIZE = (480, 640)


def rotation(*degrees):
    return cv2.Rodrigues(np.radians(degrees))[0]


def camera(focal, *, cx=316.0, cy=243.5, distortion=(), model="pinhole"):
    return CameraModel(np.array([[focal, 0, cx], [0, focal * 0.998, cy], [0, 0, 1]]), distortion, model)


RIGS = {
    "ideal lenses, turned": StereoCalibration(
        camera(520), camera(512, cx=325, cy=236), rotation(1.0, -2.0, 1.5), np.array([-0.12, 0.003, -0.004]), SIZE
    ),
    "barrel distortion": StereoCalibration(
        camera(400, distortion=(-0.283, 0.0739, 0.00019, 0.000018)),
        camera(398, cx=330, cy=250, distortion=(-0.283, 0.0745, -0.0001, -0.000035)),
        rotation(0.7, 1.4, -1.0), np.array([-0.11, -0.0004, 0.0008]), SIZE,
    ),
    "rational distortion": StereoCalibration(
        camera(430, distortion=(0.4, -0.1, 0.0004, -0.0003, 0.01, 0.75, -0.05, 0.02)),
        camera(433, cy=235, distortion=(0.41, -0.1, -0.0002, 0.0005, 0.01, 0.77, -0.05, 0.02)),
        rotation(-0.5, 0.4, 0.8), np.array([-0.2, 0.001, 0.002]), SIZE,
    ),
    "fisheye": StereoCalibration(
        camera(280, distortion=(0.0035, 0.0007, -0.002, 0.0002), model="fisheye"),
        camera(281, cx=322, cy=238, distortion=(0.0034, 0.0018, -0.0027, 0.0005), model="fisheye"),
        rotation(-0.6, 1.1, 0.9), np.array([-0.101, -0.002, -0.001]), SIZE,
    ),
    "right camera first": StereoCalibration(
        camera(512), camera(520), rotation(-1.0, 2.0, -1.5), np.array([0.12, 0.004, 0.002]), SIZE
    ),
}  # fmt: skip
EACH_RIG = pytest.mark.parametrize("name", RIGS)


def project(lens, points):
    distortion = np.array(lens.distortion)
    function = cv2.fisheye.projectPoints if lens.model == "fisheye" else cv2.projectPoints
    return function(points.reshape(-1, 1, 3), np.zeros(3), np.zeros(3), lens.matrix, distortion)[0].reshape(-1, 2)


def rays(lens, pixels):
    undistort = cv2.fisheye.undistortPoints if lens.model == "fisheye" else cv2.undistortPoints
    found = undistort(pixels.reshape(-1, 1, 2), lens.matrix, np.array(lens.distortion)).reshape(-1, 2)
    ones = np.ones((len(pixels), 1))
    for _ in range(3 if lens.distortion else 0):
        # OpenCV stops after five steps, far from exact at the corners.
        found -= (project(lens, np.concatenate([found, ones], axis=1)) - pixels) / lens.matrix[[0, 1], [0, 1]]
    return np.concatenate([found, ones], axis=1)


def colours_of_spots():
    """Colours that differ by their ratios, so that a spot is known again at any brightness."""
    shades = [np.array(each) for each in product((0.25, 0.5, 0.75, 1.0), repeat=3) if max(each) == 1.0]
    return np.array(shades)


def spots(calibration, seed=0):
    """A pair of spots on black, and their places in the left camera's frame, metres."""
    rng = np.random.default_rng(seed)
    shades = colours_of_spots()
    views = np.zeros((2, *SIZE, 3))
    points, taken = [], [[], []]
    while len(points) < len(shades):
        depth = rng.uniform(1.2, 6)
        point = np.array([rng.uniform(-0.55, 0.55) * depth, rng.uniform(-0.4, 0.4) * depth, depth])
        seen = [
            project(calibration.left, point)[0],
            project(calibration.right, calibration.rotation @ point + calibration.translation)[0],
        ]
        free = all(
            all(40 < at[axis] < SIZE[1 - axis] - 40 for axis in (0, 1))
            and all(np.linalg.norm(at - other) > 28 for other in others)
            for at, others in zip(seen, taken, strict=True)
        )
        if free:
            for view, at, others in zip(views, seen, taken, strict=True):
                column, row = np.rint(at).astype(int)
                y, x = np.mgrid[row - 12 : row + 13, column - 12 : column + 13]
                spot = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * 2.5**2))
                view[row - 12 : row + 13, column - 12 : column + 13] += 240 * spot[..., None] * shades[len(points)]
                others.append(at)
            points.append(point)
    left, right = np.rint(views).astype(np.uint8)
    return StereoPair(left, right, "spots"), np.array(points)


def find_spots(image):
    """Number of the spot → its centre (x, y), for those wholly inside."""
    shades = colours_of_spots()
    strength = image.sum(axis=2).astype(np.float64)
    count, labels, boxes, _ = cv2.connectedComponentsWithStats((strength > 12).astype(np.uint8))
    found = {}
    for label in range(1, count):
        left, top, width, height, _ = boxes[label]
        inside = left > 0 and top > 0 and left + width < image.shape[1] and top + height < image.shape[0]
        rows, columns = np.nonzero(labels == label)
        weights = strength[rows, columns]
        colour = image[rows, columns].sum(axis=0).astype(np.float64)
        number = int(np.abs(shades - colour / colour.max()).sum(axis=1).argmin())
        if inside and weights.max() > 60:
            found[number] = np.array([columns @ weights, rows @ weights]) / weights.sum()
    return found


@EACH_RIG
def test_spots_end_on_one_row_and_their_disparity_tells_where_they_are(name):
    calibration = RIGS[name]
    rectifier = Rectifier(calibration, SIZE)
    raw, points = spots(calibration)
    pair = rectifier.apply(raw)
    left, right = find_spots(pair.left), find_spots(pair.right)
    both = sorted(left.keys() & right.keys())
    assert len(both) > 20
    at_left, at_right = (np.array([view[number] for number in both]) for view in (left, right))
    vertical = at_right[:, 1] - at_left[:, 1]
    assert np.abs(vertical).max() < 0.15
    assert np.abs(np.median(vertical)) < 0.02
    disparity = at_left[:, 0] - at_right[:, 0]
    assert disparity.min() > 0
    rig = pair.rig
    depth = rig.focal_px * rig.baseline_m / disparity
    places = np.stack([(at_left[:, 0] - rig.cx) / rig.focal_px, (at_left[:, 1] - rig.cy) / rig.focal_px,
                       np.ones(len(both))], axis=1) * depth[:, None]  # fmt: skip
    # The rectified frame is a turned one: distances between points are what it must keep.
    truth = points[both]
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    apart_truly = np.linalg.norm(truth[:, None] - truth[None], axis=2)
    far = apart_truly > 0.5
    assert np.median(np.abs(apart[far] / apart_truly[far] - 1)) < 0.003
    assert np.percentile(np.abs(apart[far] / apart_truly[far] - 1), 95) < 0.03
    assert rig.baseline_m == pytest.approx(np.linalg.norm(calibration.translation))
    assert rig.doffs_px == 0


@EACH_RIG
def test_no_black_borders_and_no_more_loss_than_needed(name):
    white = np.full((*SIZE, 3), 255, np.uint8)
    rectifier = Rectifier(RIGS[name], SIZE)
    pair = rectifier.apply(StereoPair(white, white, "white"))
    assert pair.left.min() == pair.right.min() == 255
    # One pixel's worth less focal length, and a border shows in at least one view.
    frame = np.zeros((*SIZE, 3), np.uint8)
    cv2.rectangle(frame, (0, 0), (SIZE[1] - 1, SIZE[0] - 1), (255, 255, 255), 9)
    edged = rectifier.apply(StereoPair(frame, frame, "frame"))
    sides = [view[place] for view in (edged.left, edged.right) for place in (0, -1, np.s_[:, 0], np.s_[:, -1])]
    assert any(side.max() > 0 for side in sides)


@functools.cache
def plane(name, seed=0):
    """A pair of raw views of a slanted, textured wall, taken by one of the rigs."""
    calibration = RIGS[name]
    rng = np.random.default_rng(seed)
    texture = np.zeros((1200, 1600, 3), np.float32)
    for cell in (3, 11, 40):
        coarse = rng.uniform(0, 1, (1200 // cell + 2, 1600 // cell + 2, 3)).astype(np.float32)
        texture += cv2.resize(coarse, (1600, 1200), interpolation=cv2.INTER_CUBIC)
    texture = cv2.normalize(texture, None, 10, 245, cv2.NORM_MINMAX)
    normal = np.array([0.25, -0.3, 1.0])
    across, down = np.array([1.0, 0, -0.25]), np.array([0, 1.0, 0.3])
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float64)
    pixels = np.stack([x.ravel(), y.ravel()], axis=1)
    views = []
    for lens, turn, shift in (
        (calibration.left, np.eye(3), np.zeros(3)),
        (calibration.right, calibration.rotation, calibration.translation),
    ):
        directions = rays(lens, pixels) @ turn
        centre = -turn.T @ shift
        hits = centre + directions * ((2.0 - normal @ centre) / (directions @ normal))[:, None]
        offset = hits - np.array([0, 0, 2.0])
        columns, rows = 800 + 300 * (offset @ across), 600 + 300 * (offset @ down)
        maps = [each.reshape(SIZE).astype(np.float32) for each in (columns, rows)]
        views.append(cv2.remap(texture, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT).astype(np.uint8))
    return StereoPair(*views, f"plane{seed}")


class Planes(StereoSource):
    """Raw views of a few walls."""

    kind = "planes"

    def __init__(self, name):
        self._pairs = [plane(name, seed) for seed in range(2)]

    def __len__(self):
        return len(self._pairs)

    def read(self, index):
        return Frame(index, self.name(index), self._pairs[index])

    def name(self, index):
        return f"{index:06d}"

    def paths(self):
        return []


@EACH_RIG
def test_a_rectified_wall_is_found_rectified(name):
    calibration = RIGS[name]
    raw = plane(name)
    before = measure([match_views(raw)])
    after = measure([match_views(Rectifier(calibration, SIZE).apply(raw))])
    assert before.field_px > 3
    assert after.points > 100
    assert after.field_px < 0.1
    assert after.p95_px < 0.3


def test_the_right_calibration_passes_the_check(caplog):
    source, rectifier = Planes("ideal lenses, turned"), Rectifier(RIGS["ideal lenses, turned"], SIZE)
    report = check_source(source, range(2), CheckOptions(), rectifier=rectifier, rectified_by="rig.yaml")
    assert report.problems() == []
    assert report.before is not None
    assert report.before.field_px > 3 > 0.1 > report.answers["rectified"].numbers["field_px"]
    with caplog.at_level(logging.WARNING):
        report.enforce(where="walls", force=False)
    assert caplog.text == ""


@pytest.mark.parametrize(("turn", "shift", "focal"), [
    ((0.0, 0.0, 1.0), (0, 0, 0), 1.0), ((0.6, 0.0, 0.0), (0, 0, 0), 1.0), ((0, 0, 0), (0, 0.006, 0), 1.0),
    ((0, 0, 0), (0, 0, 0), 1.02),
])  # fmt: skip
def test_a_calibration_that_contradicts_the_images_is_told_with_numbers(turn, shift, focal):
    truth = RIGS["ideal lenses, turned"]
    matrix = truth.right.matrix * [[focal], [focal], [1]]
    matrix[:2, 2] = truth.right.matrix[:2, 2]
    wrong = StereoCalibration(
        truth.left, CameraModel(matrix), rotation(*turn) @ truth.rotation, truth.translation + np.array(shift), SIZE
    )
    rectifier = Rectifier(wrong, SIZE)
    report = check_source(
        Planes("ideal lenses, turned"), range(2), CheckOptions(), rectifier=rectifier, rectified_by="rig.yaml"
    )
    with pytest.raises(
        UserError, match=r"walls: the calibration contradicts the images: rectified by rig\.yaml, \d+ "
        r"matching points .* \d\.\d\d px.*px before.*is it of this rig",
    ):  # fmt: skip
        report.enforce(where="walls", force=False)
    report.enforce(where="walls", force=True)


def test_exchanged_views_are_found_after_rectification():
    calibration = RIGS["ideal lenses, turned"]
    mirrored = StereoCalibration(calibration.right, calibration.left, np.eye(3), np.array([-0.12, 0, 0]), SIZE)
    source = Planes("ideal lenses, turned")
    report = check_source(source, range(2), CheckOptions(), rectifier=Rectifier(mirrored, SIZE))
    assert any("calibration contradicts" in problem.what for problem in report.problems())


def test_which_camera_stands_left_is_taken_from_the_translation():
    rectifier = Rectifier(RIGS["right camera first"], SIZE)
    assert rectifier.exchanges_views
    assert rectifier.rig.baseline_m > 0
    assert not Rectifier(RIGS["fisheye"], SIZE).exchanges_views
    red, blue = (np.full((*SIZE, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 0, 200)))
    pair = rectifier.apply(StereoPair(red, blue, "colours"))
    assert pair.left[0, 0].tolist() == [0, 0, 200]
    assert pair.right[0, 0].tolist() == [200, 0, 0]


def test_an_ideal_rectified_rig_stays_as_it_is():
    lens = CameraModel(np.diag([500.0, 500.0, 1.0]) + np.array([[0, 0, 319.5], [0, 0, 239.5], [0, 0, 0]]))
    rectifier = Rectifier(StereoCalibration(lens, lens, np.eye(3), np.array([-0.1, 0, 0]), SIZE), SIZE)
    assert rectifier.rig.focal_px == pytest.approx(500, abs=0.1)
    assert (rectifier.rig.cx, rectifier.rig.cy) == pytest.approx((319.5, 239.5), abs=1e-6)
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    pair = rectifier.apply(StereoPair(noise, noise[:, ::-1].copy(), "noise"))
    assert np.abs(pair.left.astype(int) - noise).max() <= 24, "resampled by at most 1/32 px each way"


def test_what_is_recorded():
    described = Rectifier(RIGS["right camera first"], SIZE).describe()
    assert described["views_exchanged"] is True
    assert described["size"] == [480, 640]
    assert described["rotation_between_deg"] == pytest.approx(np.linalg.norm([1.0, 2.0, 1.5]), abs=1e-6)
    assert described["calibration"]["left"]["matrix"][0][0] == 520


def test_sizes_and_rigs_that_cannot_be_rectified():
    calibration = RIGS["fisheye"]
    with pytest.raises(UserError, match="have 320x240 px, the calibration is for 640x480"):
        Rectifier(calibration, (240, 320))
    small = np.zeros((240, 320, 3), np.uint8)
    with pytest.raises(UserError, match="small: the images have 320x240 px, the first ones had 640x480"):
        Rectifier(calibration, SIZE).apply(StereoPair(small, small, "small"))
    upright = StereoCalibration(camera(500), camera(500), np.eye(3), np.array([0.01, -0.1, 0]), SIZE)
    with pytest.raises(UserError, match="84° off the rows"):
        Rectifier(upright, SIZE)
    apart = StereoCalibration(camera(500), camera(500), rotation(0, 75, 0), np.array([-0.1, 0, 0]), SIZE)
    with pytest.raises(UserError, match=r"hardly overlap.*look 75\.0° apart"):
        Rectifier(apart, SIZE)
