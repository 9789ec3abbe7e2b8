import cv2
import numpy as np
import pytest

from stereo.errors import UserError
from stereo.pair import Rig, StereoPair, read_image


def gradient(height=6, width=8):
    return np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)


def test_pair_of_different_sizes_is_refused_with_both_sizes():
    with pytest.raises(UserError, match="left is 8x6 but right is 7x6"):
        StereoPair(gradient(), gradient(6, 7), "frame 3")


def test_pair_refuses_wrong_type_and_misshapen_truth():
    with pytest.raises(UserError, match="uint8 HxWx3"):
        StereoPair(gradient().astype(np.float32), gradient(), "x")
    with pytest.raises(UserError, match="disparity"):
        StereoPair(gradient(), gradient(), "x", disparity=np.zeros((6, 8)))


def test_depth_is_focal_times_baseline_over_shifted_disparity():
    rig = Rig(focal_px=100.0, baseline_m=0.5, doffs_px=2.0)
    depth = rig.depth_m(np.array([[3.0, np.nan, -2.0, -4.0]], np.float32))
    np.testing.assert_array_equal(depth, np.array([[10.0, np.nan, np.inf, np.nan]], np.float32))


def test_scaled_rig_measures_the_same_depth():
    rig = Rig(100.0, 0.5, doffs_px=2.0, cx=49.5)
    half = rig.scaled(0.5)
    disparity = np.array([[8.0]], np.float32)
    np.testing.assert_allclose(half.depth_m(disparity / 2), rig.depth_m(disparity))
    assert half.cx == 24.5


def test_swapped_cameras_are_named():
    with pytest.raises(UserError, match="swapped"):
        Rig(100.0, -0.5)


def test_gray_becomes_three_equal_channels(tmp_path):
    gray = gradient()[:, :, 0]
    cv2.imwrite(str(tmp_path / "gray.png"), gray)
    np.testing.assert_array_equal(read_image(tmp_path / "gray.png"), np.stack([gray] * 3, axis=2))


def test_colour_order_is_rgb_and_alpha_is_dropped(tmp_path):
    rgb = gradient()
    cv2.imwrite(str(tmp_path / "rgb.png"), rgb[:, :, ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / "rgb.png"), rgb)
    cv2.imwrite(str(tmp_path / "rgba.png"), np.dstack([rgb[:, :, ::-1], np.full((6, 8), 77, np.uint8)]))
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), rgb)


def test_sixteen_bit_is_scaled_by_a_fixed_rule(tmp_path):
    values = np.array([[0, 128, 129, 257, 65535, 32896]], np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), values)
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png")[0, :, 0], [0, 0, 1, 1, 255, 128])


def test_twelve_bits_in_sixteen_are_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "twelve.png"), np.full((4, 4), 4095, np.uint16))
    with pytest.raises(UserError, match="only reach 4095"):
        read_image(tmp_path / "twelve.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_truncated_file_is_named(tmp_path, suffix):
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    path = tmp_path / f"image{suffix}"
    cv2.imwrite(str(path), picture)
    data = path.read_bytes()
    for length in (1, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match=f"image{suffix}"):
            read_image(path)


def test_damaged_png_is_named(tmp_path):
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), gradient(32, 32))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        read_image(path)


def test_missing_empty_and_foreign_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"no such image"):
        read_image(tmp_path / "none.png")
    (tmp_path / "empty.png").touch()
    with pytest.raises(UserError, match="empty"):
        read_image(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(UserError, match="not an image"):
        read_image(tmp_path / "text.png")
