import numpy as np
import pytest

from stereo.benchmarks import load_pairs, motorcycle_pair
from stereo.disparity_files import write_kitti_png
from stereo.errors import UserError
from stereo.pictures import write_png


@pytest.fixture
def pairs(tmp_path):
    random = np.random.default_rng(0)
    for name in ("b", "a"):
        for side in ("left", "right"):
            write_png(tmp_path / name / f"{side}.png", random.integers(0, 255, (4, 6, 3), np.uint8))
        disparity = np.full((4, 6), 2.5, np.float32)
        disparity[0, 0] = np.nan
        write_kitti_png(tmp_path / name / "disp_left_x256.png", disparity)
    mask = np.full((4, 6), 255, np.uint8)
    mask[1, 1] = 0
    write_png(tmp_path / "a" / "noc.png", mask)
    return tmp_path


def test_pairs_are_read_in_order_with_truth_and_mask(pairs):
    first, second = load_pairs(pairs)
    assert (first.name, second.name) == ("a", "b")
    assert np.isnan(first.disparity[0, 0])
    assert first.disparity[1, 1] == 2.5
    assert not first.noc[1, 1]
    assert first.noc.sum() == 23
    assert second.noc is None
    assert [pair.name for pair in load_pairs(pairs / "b")] == ["b"]


def test_what_is_missing_is_named(pairs, tmp_path_factory):
    (pairs / "b" / "right.png").unlink()
    with pytest.raises(UserError, match=r"b/right\.png"):
        load_pairs(pairs)
    with pytest.raises(UserError, match="no pairs"):
        load_pairs(tmp_path_factory.mktemp("empty"))


def test_motorcycle_truth_matches_its_images():
    """Pixels moved by the truth look alike; moved by 4 px more or less they do not."""
    pytest.importorskip("skimage", reason="scikit-image carries the pair")
    pair = motorcycle_pair()
    assert (pair.height, pair.width) == (500, 741)
    rows, columns = np.nonzero(np.isfinite(pair.disparity))

    def difference(extra):
        seen = np.rint(columns - pair.disparity[rows, columns] - extra).astype(int)
        inside = (seen >= 0) & (seen < pair.width)
        left, right = pair.left[rows[inside], columns[inside]], pair.right[rows[inside], seen[inside]]
        return np.abs(left.astype(int) - right).mean()

    assert difference(0) < 0.6 * min(difference(-4), difference(4))


def test_real_pairs_load(shared_data):
    pairs = load_pairs(shared_data / "pairs")
    assert len(pairs) >= 7
    assert all(np.isfinite(pair.disparity).mean() > 0.1 for pair in pairs)
