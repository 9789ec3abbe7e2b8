"""Points that both views of a pair show, found without assuming that the pair is rectified.

ORB features are matched over the whole image, both ways and with a ratio test, and refined below a tenth of a pixel by
optical flow. Where a pattern repeats, a match on another row is only believed when nothing on the point's own row
looks as good.

ORB: Rublee et al., ICCV 2011. Refinement: Lucas–Kanade, forward and backward.

    # N points, H height, W width
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from stereo.pair import Image, StereoPair

Points = npt.NDArray[np.float32]
Gray = npt.NDArray[np.uint8]

# ORB looks at 31×31 px, on six levels; smaller images have no features.
SMALLEST_SIDE = 64
# Larger images are matched at this size; points come back in full-size pixels.
LARGEST_SIDE = 1280
FEATURES = 1500
# ORB's corners are tested against this many gray levels: low, so that dim images have some.
CORNER_LEVELS = 7
RATIO = 0.8
# Refinement may move a match by the coarsest pyramid level's rounding, and must find its way back.
LARGEST_REFINEMENT_PX, RETURN_PX = 4.0, 0.2
FLOW_WINDOW = 15
# Flow compares gray levels, so both views are brought to the same local mean and contrast, except where there is none.
CONTRAST_WINDOW, FLAT_LEVELS, EVEN_CONTRAST = 31, 4.0, 40.0
# Matches further off their row are doubted; patterns that repeat more narrowly are not corners to ORB.
DOUBTED_PX = 4.0
# A match on another row must look better than the best one on the row by this much correlation.
BETTER_BY = 0.03
# At most so many doubted matches are looked into, and so many others for rivals on their row; spread over the image.
MOST_DOUBTED, MOST_RIVALLED = 200, 100
# Something as good as a match that far along the row is a rival.
RIVAL_PX = 8
# Corners that a slight blur does not remove are texture, not noise.
TEXTURE_BLUR_PX, TEXTURE_LEVELS = 1.5, 10
# Descriptors of the same point differ by less than this many of 256 bits; those of unrelated points rarely do.
SIMILAR_BITS = 45


@dataclass(frozen=True)
class Matches:
    """What two views have in common.

    Args:
        left, right: N×2 px, (x, y) of the same points; one point per 4×4 px of the left view.
        clear: bool N, the points that were found to have no rival along the row of the right view; for many points only
            some are looked at.
        colour_left, colour_right: N×3, mean RGB around the points.
        features: corners described in the left view.
        similar: how many of them have something similar anywhere in the right view.
        candidates: how many of them have one clear partner there, before it is looked at closely.
        texture: corners, in the view that has fewer, that are more than noise.
        size: (H, W) px of the views.
    """

    left: Points
    right: Points
    clear: npt.NDArray[np.bool_]
    colour_left: Points
    colour_right: Points
    features: int
    similar: int
    candidates: int
    texture: int
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.left)


def brightness(image: Image) -> Gray:
    """(R + 2 G + B) / 4: the same whichever way round the channels are."""
    return cv2.transform(image, np.array([[0.25, 0.5, 0.25]], np.float32)).astype(np.uint8, copy=False)


def texture_corners(gray: Gray) -> int:
    """Corners that survive a slight blur."""
    blurred = cv2.GaussianBlur(gray, (0, 0), TEXTURE_BLUR_PX)
    return len(cv2.FastFeatureDetector.create(TEXTURE_LEVELS).detect(blurred))


def match_features(left: Gray, right: Gray) -> tuple[Points, Points, int, int]:
    """Mutual, unambiguous feature matches (N×2 px each), the number of left features, and how many found a likeness."""
    nothing = np.zeros((0, 2), np.float32)
    if min(left.shape) < SMALLEST_SIDE:
        return nothing, nothing, 0, 0
    orb = cv2.ORB.create(FEATURES, scaleFactor=1.2, nlevels=6, fastThreshold=CORNER_LEVELS)
    (points_left, codes_left), (points_right, codes_right) = (
        orb.detectAndCompute(view, None) for view in (left, right)
    )  # fmt: skip
    if len(points_left) < 2 or len(points_right) < 2:
        return nothing, nothing, len(points_left), 0
    matcher = cv2.BFMatcher(cv2.NORM_HAMMING)
    back = {match.queryIdx: match.trainIdx for match in matcher.match(codes_right, codes_left)}
    nearest = matcher.knnMatch(codes_left, codes_right, k=2)
    similar = sum(best.distance < SIMILAR_BITS for best, _ in nearest)
    kept = [
        best
        for best, second in nearest
        if best.distance < RATIO * second.distance and back[best.trainIdx] == best.queryIdx
    ]
    found_left = np.array([points_left[match.queryIdx].pt for match in kept], np.float32).reshape(-1, 2)
    found_right = np.array([points_right[match.trainIdx].pt for match in kept], np.float32).reshape(-1, 2)
    return found_left, found_right, len(points_left), similar


def even_contrast(gray: Gray) -> Gray:
    """The same image with every neighbourhood at mean 128 and one contrast: cameras differ in exposure."""
    levels = gray.astype(np.float32)
    window = (CONTRAST_WINDOW, CONTRAST_WINDOW)
    mean = cv2.blur(levels, window)
    spread = np.sqrt(np.maximum(cv2.blur(levels * levels, window) - mean * mean, 0)) + np.float32(FLAT_LEVELS)
    return np.clip(128 + EVEN_CONTRAST * (levels - mean) / spread, 0, 255).astype(np.uint8)


def flow(start: Gray, end: Gray, points: Points, guess: Points) -> tuple[Points, npt.NDArray[np.bool_]]:
    """Follow points from a guess: N×2 px, and which of them were found."""
    until = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.01)
    found, status, _ = cv2.calcOpticalFlowPyrLK(
        start, end, points, guess.copy(), winSize=(FLOW_WINDOW, FLOW_WINDOW), maxLevel=0, criteria=until,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW, minEigThreshold=1e-3,
    )  # fmt: skip
    return np.asarray(found, np.float32), np.asarray(status)[:, 0] > 0


def refine(left: Gray, right: Gray, points_left: Points, points_right: Points) -> tuple[Points, Points]:
    """Sub-pixel positions in the right view; points that are not found both ways are dropped."""
    if not len(points_left):
        return points_left, points_right
    refined, found = flow(left, right, points_left, points_right)
    returned, found_back = flow(right, left, refined, points_left)
    good = found & found_back
    good &= np.abs(returned - points_left).max(axis=1) < RETURN_PX
    good &= np.abs(refined - points_right).max(axis=1) < LARGEST_REFINEMENT_PX
    return points_left[good], refined[good]


def one_per_cell(points: Points, cell_px: int = 4) -> npt.NDArray[np.intp]:
    """Indexes of one point per cell: a corner found at several sizes is one witness, not several."""
    cells = np.floor(points / cell_px).astype(np.int64)
    return np.sort(np.unique(cells[:, 0] * (1 << 20) + cells[:, 1], return_index=True)[1])


def patch_at(view: Gray, x: float, y: float) -> Gray | None:
    """The square around a point, None where it leaves the image."""
    half, column, row = FLOW_WINDOW // 2, round(x), round(y)
    inside = half <= column < view.shape[1] - half and half <= row < view.shape[0] - half
    return view[row - half : row + half + 1, column - half : column + half + 1] if inside else None


def likeness(patch: Gray, view: Gray, y: float) -> tuple[npt.NDArray[np.float32], int]:
    """Correlation of a patch with every place of a view at most a pixel off row y.

    Returns: scores, rows × (W - 14), and the row that the first one is for; column c is for x = c + 7.
    """
    half, row = FLOW_WINDOW // 2, round(y)
    top = max(0, row - 1 - half)
    scores = cv2.matchTemplate(view[top : row + 1 + half + 1], patch, cv2.TM_CCOEFF_NORMED)
    return np.asarray(scores, np.float32), top + half


def some(indexes: npt.NDArray[np.intp], most: int) -> npt.NDArray[np.intp]:
    """At most so many of them, evenly chosen."""
    return indexes if len(indexes) <= most else indexes[np.linspace(0, len(indexes) - 1, most).astype(int)]


def on_their_rows(left: Gray, right: Gray, points_left: Points, points_right: Points) -> Points:
    """Move matches that are off their row back to it, where something there looks as good: repeating patterns.

    Returns: N×2 px, the right positions.
    """
    points_right, half = points_right.copy(), FLOW_WINDOW // 2
    off = np.flatnonzero(np.abs(points_right[:, 1] - points_left[:, 1]) > DOUBTED_PX)
    for index in some(off, MOST_DOUBTED):
        (x, y), (right_x, right_y) = points_left[index].tolist(), points_right[index].tolist()
        patch = patch_at(left, x, y)
        if patch is None or patch_at(right, right_x, right_y) is None:
            continue
        there, _ = likeness(patch, right, right_y)
        column = min(max(round(right_x) - half, 0), there.shape[1] - 1)
        here, first_row = likeness(patch, right, y)
        row, best = np.unravel_index(int(here.argmax()), here.shape)
        if here[row, best] > there[:, max(0, column - 1) : column + 2].max() - BETTER_BY:
            points_right[index] = best + half + x - round(x), first_row + row + y - round(y)
    return points_right


def without_rival(left: Gray, right: Gray, points_left: Points, points_right: Points) -> npt.NDArray[np.bool_]:
    """Which matches have nothing as good elsewhere on the right view's row; only some of many are looked at."""
    clear, half = np.zeros(len(points_left), bool), FLOW_WINDOW // 2
    for index in some(np.arange(len(points_left)), MOST_RIVALLED):
        (x, y), (right_x, right_y) = points_left[index].tolist(), points_right[index].tolist()
        patch = patch_at(left, x, y)
        if patch is None or patch_at(right, right_x, right_y) is None:
            continue
        scores = likeness(patch, right, right_y)[0].max(axis=0)
        column = round(right_x) - half
        mine = slice(max(0, column - RIVAL_PX), column + RIVAL_PX + 1)
        best = float(scores[mine].max())
        scores[mine] = -1
        clear[index] = best - BETTER_BY > scores.max()
    return clear


def colours(image: Image, points: Points) -> Points:
    """Mean RGB of 5×5 px around points: N×3."""
    smooth = cv2.blur(image, (5, 5))
    limit = (image.shape[1] - 1, image.shape[0] - 1)
    x, y = np.clip(np.rint(points), 0, limit).astype(int).T
    return smooth[y, x].astype(np.float32)


def match_views(pair: StereoPair) -> Matches:
    """Find what both views show; see the module."""
    factor = min(1.0, LARGEST_SIDE / max(pair.height, pair.width))
    left, right = brightness(pair.left), brightness(pair.right)
    if factor < 1:
        size = round(pair.width * factor), round(pair.height * factor)
        left, right = (cv2.resize(view, size, interpolation=cv2.INTER_AREA).astype(np.uint8) for view in (left, right))
    points_left, points_right, features, similar = match_features(left, right)
    candidates = len(points_left)
    points_left, points_right = refine(even_contrast(left), even_contrast(right), points_left, points_right)
    chosen = one_per_cell(points_left)
    points_left, points_right = points_left[chosen], points_right[chosen]
    points_right = on_their_rows(left, right, points_left, points_right)
    clear = without_rival(left, right, points_left, points_right)
    points_left, points_right = (
        ((points + 0.5) / factor - 0.5).astype(np.float32) for points in (points_left, points_right)
    )
    return Matches(
        points_left,
        points_right,
        clear,
        colours(pair.left, points_left),
        colours(pair.right, points_right),
        features=features,
        similar=similar,
        candidates=candidates,
        texture=min(texture_corners(left), texture_corners(right)),
        size=(pair.height, pair.width),
    )  # fmt: skip
