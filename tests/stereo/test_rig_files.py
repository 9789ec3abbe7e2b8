import pytest

from stereo.errors import UserError
from stereo.pair import Rig
from stereo.rig_files import kitti_rig, rig_beside
from stereo.sources import open_source


def matrix(offset, focal=700.0, cx=600.0):
    return f"{focal} 0 {cx} {offset} 0 {focal} 180.0 0 0 0 1 0"


def test_named_and_bare_lines(tmp_path):
    named = tmp_path / "named.txt"
    rows = [matrix(0), matrix(-378), matrix(42), matrix(-336)]
    named.write_text(
        "".join(f"P{number}: {row}\n" for number, row in enumerate(rows)) + "Tr: 1 0 0 0 0 1 0 0 0 0 1 0\n"
    )
    bare = tmp_path / "bare.txt"
    bare.write_text(f"{matrix(0)}\n{matrix(-378)}\n")
    expected = Rig(focal_px=700.0, baseline_m=0.54, doffs_px=0.0, cx=600.0, cy=180.0)
    assert kitti_rig(named) == kitti_rig(bare) == expected
    colour = kitti_rig(named, colour=True)
    assert colour.baseline_m == pytest.approx(0.54), "both colour cameras are written relative to camera 0"


@pytest.mark.parametrize(("text", "message"), [
    ("hello\n", "not a KITTI calibration"),
    (f"P0: {matrix(0)}\n", "1 projection matrices"),
    (f"P0: {matrix(0)}\nP1: {matrix(378)}\n", "swapped"),
])  # fmt: skip
def test_other_files_are_named_and_leave_the_rig_unknown(tmp_path, caplog, text, message):
    (tmp_path / "calib.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        kitti_rig(tmp_path / "calib.txt")
    assert rig_beside(tmp_path / "left") is None
    assert message in caplog.text


def test_none_beside(tmp_path):
    assert rig_beside(tmp_path / "left") is None


def test_real_sequence_knows_its_rig(shared_data):
    source = open_source(shared_data / "video" / "kitti_odom_seq_1")
    assert source.rig is not None
    assert source.rig.focal_px == pytest.approx(707.09, abs=0.01)
    assert source.rig.baseline_m == pytest.approx(0.537, abs=0.001)
    assert source.read(0).pair.rig == source.rig
