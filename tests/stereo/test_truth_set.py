"""Small copies of every benchmark's layout: recognised, read exactly, and refused in one line when incomplete."""

import shutil

import numpy as np
import pytest

from stereo.errors import UserError
from stereo.truth_set import open_truth_set, read_truth_pair

EXPECTED = {
    "pairs": (None, "", ("noc or all",), ["a", "b"]),
    "middlebury": ("Middlebury v3", "trainingQ", ("noc", "all"), ["Adirondack", "ArtL"]),
    "eth3d": ("ETH3D", "training", ("noc", "all"), ["delivery_area_1l", "electro_1l"]),
    "kitti2012": ("KITTI 2012", "training", ("noc", "all"), ["000000_10", "000001_10"]),
    "kitti2015": ("KITTI 2015", "training", ("noc", "all"), ["000000_10", "000001_10"]),
    "sceneflow": ("FlyingThings3D", "finalpass TEST", ("all",), ["TEST/A/0000/0006", "TEST/A/0000/0007"]),
    "fsd": ("FSD", "", ("all",), ["manipulation_kitchen_1/0000", "manipulation_kitchen_1/0001"]),
}


@pytest.mark.parametrize("layout", EXPECTED)
def test_every_layout_is_recognised_and_read_exactly(tmp_path, tiny_benchmarks, layout):
    found = open_truth_set(tiny_benchmarks.write(layout, tmp_path))
    assert (found.layout, found.benchmark, found.split, found.masks, [each.name for each in found.files]) == (
        layout, *EXPECTED[layout],
    )  # fmt: skip
    assert len(found) == 2
    for index, pair in enumerate(found):
        truth = tiny_benchmarks.TRUTHS[index]
        if layout == "sceneflow":
            truth = np.where(np.isnan(truth), np.float32(500), truth)
        np.testing.assert_array_equal(pair.disparity, truth)
        # JPEG keeps a flat colour to a step.
        assert abs(int(pair.left[0, 0, 0]) - (10 * index + 10)) <= (layout == "fsd")
        if found.masks == ("noc", "all"):
            known = np.isfinite(truth)
            np.testing.assert_array_equal(pair.noc & known, ~tiny_benchmarks.OCCLUDED[index] & known)


@pytest.mark.parametrize(("layout", "below"), [
    ("middlebury", "trainingQ"), ("middlebury", "trainingQ/ArtL"), ("eth3d", "two_view_training"),
    ("kitti2015", "training"), ("kitti2012", "training"), ("fsd", "manipulation_kitchen_1"),
])  # fmt: skip
def test_a_part_of_a_benchmark_is_recognised_too(tmp_path, tiny_benchmarks, layout, below):
    whole = open_truth_set(tiny_benchmarks.write(layout, tmp_path))
    part = open_truth_set(tmp_path / below)
    assert (part.layout, part.name.split(",")[0], part.masks) == (layout, whole.name, whole.masks)
    assert set(part.files) <= set(whole.files)


def test_middlebury_sizes_must_be_chosen(tmp_path, tiny_benchmarks):
    for size in "QH":
        tiny_benchmarks.middlebury(tmp_path / "MiddEval3", 0, size)
    (tmp_path / "MiddEval3" / "testH" / "Australia").mkdir(parents=True)
    shutil.copy(tmp_path / "MiddEval3/trainingH/Adirondack/im0.png", tmp_path / "MiddEval3/testH/Australia/im0.png")
    for folder in (tmp_path, tmp_path / "MiddEval3"):
        with pytest.raises(UserError, match=r"2 splits with truth.*--split: .*trainingH, .*trainingQ\)$"):
            open_truth_set(folder)
    assert open_truth_set(tmp_path / "MiddEval3", split="trainingH").split == "trainingH"
    with pytest.raises(UserError, match="no split 'trainingF'"):
        open_truth_set(tmp_path / "MiddEval3", split="trainingF")


def test_scenes_of_other_years_have_all_pixels_only(tmp_path, tiny_benchmarks):
    tiny_benchmarks.middlebury(tmp_path, 0)
    scene = (tmp_path / "trainingQ").rename(tmp_path / "2014") / "Adirondack"
    (scene / "disp0GT.pfm").rename(scene / "disp0.pfm")
    (scene / "mask0nocc.png").unlink()
    found = open_truth_set(tmp_path / "2014")
    assert (found.name, found.masks) == ("Middlebury 2014", ("all",))
    np.testing.assert_array_equal(next(iter(found)).disparity, tiny_benchmarks.TRUTHS[0])


def test_sceneflow_parts_and_the_usual_split(tmp_path, tiny_benchmarks, caplog):
    for half in ("TEST/A/0000", "TRAIN/C/0012"):
        tiny_benchmarks.sceneflow(tmp_path, 0, half, tree="FlyingThings3D")
    tiny_benchmarks.sceneflow(tmp_path, 0, "35mm_focallength/scene_forwards/fast", tree="Driving")
    tiny_benchmarks.sceneflow(tmp_path, 1, "a_rain_of_stones_x2", tree="Monkaa")
    caplog.set_level("INFO")
    usual = open_truth_set(tmp_path)
    assert usual.name == "FlyingThings3D finalpass TEST"
    assert "split FlyingThings3D/frames_finalpass/TEST, of Driving/frames_finalpass, " in caplog.text
    assert "1 of the benchmark's 4370 pairs are here" in caplog.text
    names = {
        "FlyingThings3D/frames_cleanpass/TRAIN": "FlyingThings3D cleanpass TRAIN",
        "Driving/frames_finalpass": "Driving finalpass",
        "Monkaa/frames_cleanpass": "Monkaa cleanpass",
    }
    for key, name in names.items():
        found = open_truth_set(tmp_path, split=key)
        assert (found.name, len(found), found.protocol.max_disp) == (name, 1, 192)
    monkaa = next(iter(open_truth_set(tmp_path, split="Monkaa/frames_finalpass")))
    assert (monkaa.name, monkaa.disparity[0, 0]) == ("a_rain_of_stones_x2/0007", 8)


def test_negative_disparities_of_the_subset_become_positive(tmp_path, tiny_benchmarks, caplog):
    tiny_benchmarks.sceneflow(tmp_path, 0, "left_out", sign=-1)
    half = tmp_path / "val"
    for old, new in (("frames_finalpass/left_out", "image_final"), ("frames_cleanpass/left_out", "image_clean"),
                     ("disparity/left_out", "disparity")):  # fmt: skip
        (half / new).parent.mkdir(exist_ok=True)
        (tmp_path / old).rename(half / new)
        shutil.rmtree(tmp_path / old.split("/")[0])
    found = open_truth_set(tmp_path, split="val/image_clean")
    assert found.name == "FlyingThings3D subset cleanpass val"
    truth = tiny_benchmarks.TRUTHS[0]
    np.testing.assert_array_equal(next(iter(found)).disparity, np.where(np.isnan(truth), np.float32(500), truth))
    mixed = -np.array([[10, 20, 30, -1], [1, 2, 3, 4]], np.float32)
    tiny_benchmarks.pfm(half / "disparity/left/0006.pfm", mixed)
    disparity = next(iter(found)).disparity
    assert np.isnan(disparity[0, 3])
    assert np.nanmin(disparity) == 1
    assert "1 pixels of the other sign" in caplog.text


def test_kitti_with_the_visible_pixels_only(tmp_path, tiny_benchmarks):
    shutil.rmtree(tiny_benchmarks.write("kitti2015", tmp_path) / "training/disp_occ_0")
    found = open_truth_set(tmp_path)
    assert found.masks == ("noc",)
    pair = next(iter(found))
    np.testing.assert_array_equal(pair.noc, np.isfinite(pair.disparity))
    assert np.isnan(pair.disparity[1, 0]), "this pixel is occluded"


def test_swapped_channels_of_fsd_are_noticed(tmp_path, tiny_benchmarks):
    found = open_truth_set(tiny_benchmarks.write("fsd", tmp_path))
    steps = np.full((2, 400), 61_234)
    digits = np.stack([steps // 65025, steps % 65025 // 255, steps % 255], axis=-1)
    for path, value in ((found.files[0].left, 10), (found.files[0].right, 10)):
        tiny_benchmarks.png(path, np.full((2, 400, 3), value))
    tiny_benchmarks.png(found.files[0].truth, digits[:, :, ::-1])
    np.testing.assert_allclose(next(iter(found)).disparity, 61.234, rtol=1e-6)
    tiny_benchmarks.png(found.files[0].truth, digits)
    with pytest.raises(UserError, match=r"0000\.png: half of the disparities are above .* order BGR"):
        next(iter(found))


def test_a_draw_is_that_of_the_raft_stereo_evaluation(tmp_path, tiny_benchmarks):
    """400 of the 4,370 test pairs, by its rule: numpy's legacy generator, seed 1000, positions of a permutation."""
    for number in range(12):
        tiny_benchmarks.sceneflow(tmp_path, number)
    drawn = open_truth_set(tmp_path, images=3)
    np.random.seed(1000)  # noqa: NPY002
    expected = sorted(np.random.permutation(12)[:3])  # noqa: NPY002
    assert [each.name for each in drawn.files] == [f"TEST/A/0000/{index + 6:04d}" for index in expected]
    assert drawn.name == "FlyingThings3D finalpass TEST, 3 of 12 images"
    assert len(open_truth_set(tmp_path, images=99)) == 12
    with pytest.raises(UserError, match="-1 images"):
        open_truth_set(tmp_path, images=-1)


def test_pairs_are_read_one_at_a_time(tmp_path, tiny_benchmarks):
    found = open_truth_set(tiny_benchmarks.write("kitti2015", tmp_path))
    found.files[1].truth.write_bytes(b"broken")
    pairs = iter(found)
    assert next(pairs).name == "000000_10"
    with pytest.raises(UserError, match=r"000001_10\.png: not an image"):
        next(pairs)


@pytest.mark.parametrize(("layout", "drop", "message"), [
    ("kitti2015", "training/disp_occ_0/000001_10.png", "no true disparity for 1 of 2 pairs of KITTI 2015, first "),
    ("kitti2012", "training/disp_noc/000001_10.png", "no noc mask for 1 of 2 pairs of KITTI 2012"),
    ("middlebury", "trainingQ/ArtL/mask0nocc.png", "no noc mask for 1 of 2 pairs of Middlebury v3"),
    ("eth3d", "two_view_training_gt/electro_1l/disp0GT.pfm", "no true disparity for 1 of 2 pairs of ETH3D"),
    ("sceneflow", "frames_finalpass/TEST/A/0000/right/0006.png", "no right image for 1 of 2 pairs of FlyingThings3D"),
    ("pairs", "b/disp_left_x256.png", "no true disparity for 1 of 2 pairs, first .*b/disp_left_x256"),
    ("pairs", "b/right.png", "no right image for 1 of 2 pairs"),
    ("fsd", "manipulation_kitchen_1/dataset/data/left/disparity/0000.png", "no true disparity for 1 of 2 pairs of FSD"),
])  # fmt: skip
def test_a_missing_file_is_named_before_any_work(tmp_path, tiny_benchmarks, layout, drop, message):
    (tiny_benchmarks.write(layout, tmp_path) / drop).unlink()
    with pytest.raises(UserError, match=message):
        open_truth_set(tmp_path)


@pytest.mark.parametrize("layout", ["kitti2015", "eth3d", "middlebury", "sceneflow"])
def test_a_part_without_truth_is_no_benchmark(tmp_path, tiny_benchmarks, layout):
    root = tiny_benchmarks.write(layout, tmp_path)
    for path in [*root.rglob("disp*.p*"), *root.rglob("*.pfm")]:
        path.unlink(missing_ok=True)
    for name in ("disp_occ_0", "disp_noc_0"):
        shutil.rmtree(root / "training" / name, ignore_errors=True)
    (root / "training" / "calib_cam_to_cam").mkdir(parents=True, exist_ok=True)
    with pytest.raises(UserError, match="no true disparity for 2 of 2"):
        open_truth_set(tmp_path)


def test_sizes_that_differ_are_named(tmp_path, tiny_benchmarks):
    found = open_truth_set(tiny_benchmarks.write("middlebury", tmp_path))
    tiny_benchmarks.pfm(found.files[0].truth, np.ones((4, 8), np.float32))
    with pytest.raises(UserError, match=r"Adirondack/disp0GT\.pfm: is 8x4 but its image 4x2"):
        next(iter(found))
    tiny_benchmarks.png(found.files[1].right, np.zeros((2, 5, 3)))
    with pytest.raises(UserError, match="ArtL: left is 4x2 but right is 5x2"):
        read_truth_pair(found.files[1], found.layout)


def test_unknown_folders_say_what_was_looked_for(tmp_path, tiny_benchmarks):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(UserError) as raised:
        open_truth_set(tmp_path)
    text = str(raised.value)
    assert "\n" not in text
    for layout in tiny_benchmarks.LAYOUTS:
        assert f"{layout}: " in text
    assert "disp_left_x256.png" in text
    with pytest.raises(UserError, match=r"looked for fsd: SCENE/dataset"):
        open_truth_set(tmp_path, layout="fsd")
    with pytest.raises(UserError, match="unknown layout 'kitty'"):
        open_truth_set(tmp_path, layout="kitty")
    with pytest.raises(UserError, match="no such folder"):
        open_truth_set(tmp_path / "nowhere")


def test_a_folder_of_two_layouts_must_be_told(tmp_path, tiny_benchmarks):
    for layout in ("kitti2012", "kitti2015"):
        tiny_benchmarks.write(layout, tmp_path)
    with pytest.raises(UserError, match=r"could be kitti2012 or kitti2015 \(--layout kitti2012\)"):
        open_truth_set(tmp_path)
    assert open_truth_set(tmp_path, layout="kitti2015").benchmark == "KITTI 2015"


def test_the_development_pairs(shared_data):
    found = open_truth_set(shared_data / "pairs")
    assert (found.layout, found.name, len(found), found.masks) == ("pairs", "pairs", 7, ("noc or all",))
