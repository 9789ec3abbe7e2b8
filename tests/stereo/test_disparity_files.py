import struct

import numpy as np
import pytest

from stereo.disparity_files import (
    read_disparity,
    read_kitti_png,
    read_npz,
    read_pfm,
    write_kitti_png,
    write_npz,
    write_pfm,
)
from stereo.errors import UserError

NAN = np.float32(np.nan)


def awkward_map():
    """Values whose every bit counts, the smallest and largest floats, and an invalid pixel."""
    values = np.random.default_rng(1).uniform(0, 192, (5, 7)).astype(np.float32)
    values[0, :4] = [NAN, np.finfo(np.float32).tiny, np.finfo(np.float32).max, 0]
    return values


@pytest.mark.parametrize(("write", "read", "suffix"), [(write_pfm, read_pfm, "pfm"), (write_npz, read_npz, "npz")])
def test_float_files_keep_every_bit(tmp_path, write, read, suffix):
    path = tmp_path / f"map.{suffix}"
    write(path, awkward_map())
    back = read(path)
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back.view(np.uint32), awkward_map().view(np.uint32))
    np.testing.assert_array_equal(read_disparity(path), awkward_map())


def test_pfm_bytes_are_the_format_s(tmp_path):
    write_pfm(tmp_path / "a.pfm", np.array([[1, 2], [NAN, 4]], np.float32))
    expected = b"Pf\n2 2\n-1.0\n" + struct.pack("<4f", np.inf, 4, 1, 2)
    assert (tmp_path / "a.pfm").read_bytes() == expected


def test_big_endian_pfm_is_read(tmp_path):
    (tmp_path / "a.pfm").write_bytes(b"Pf\n2 1\n1.0\n" + struct.pack(">2f", 1.5, np.inf))
    np.testing.assert_array_equal(read_pfm(tmp_path / "a.pfm"), np.array([[1.5, NAN]], np.float32))


@pytest.mark.parametrize(("data", "message"), [
    (b"Pf\n2 2\n-1.0\n" + bytes(15), "truncated"),
    (b"PF\n1 1\n-1.0\n" + bytes(12), "three channels"),
    (b"P5\n1 1\n255\n0", "not a PFM"),
])  # fmt: skip
def test_bad_pfm_is_named(tmp_path, data, message):
    (tmp_path / "bad.pfm").write_bytes(data)
    with pytest.raises(UserError, match=message):
        read_pfm(tmp_path / "bad.pfm")


@pytest.mark.parametrize("scale", [256, 128])
def test_kitti_png_is_exact_on_its_grid(tmp_path, scale):
    steps = np.array([[1, 255, 256, 257, 65535, 12345]], np.uint16)
    disparity = steps.astype(np.float32) / np.float32(scale)
    disparity[0, 5] = NAN
    write_kitti_png(tmp_path / "d.png", disparity, scale=scale)
    np.testing.assert_array_equal(read_kitti_png(tmp_path / "d.png", scale=scale), disparity)
    np.testing.assert_array_equal(read_disparity(tmp_path / "d.png", scale), disparity)


def test_kitti_png_rounds_and_keeps_tiny_values_valid(tmp_path):
    write_kitti_png(tmp_path / "d.png", np.array([[0.0, 0.001, 1 + 0.4 / 256, 1 + 0.6 / 256]], np.float32))
    np.testing.assert_array_equal(read_kitti_png(tmp_path / "d.png") * 256, [[1, 1, 256, 257]])


@pytest.mark.parametrize("value", [-1.0, 256.5])
def test_kitti_png_refuses_what_does_not_fit(tmp_path, value):
    with pytest.raises(UserError, match="do not fit"):
        write_kitti_png(tmp_path / "d.png", np.array([[value]], np.float32))
    assert not list(tmp_path.iterdir())


def test_a_colour_png_is_not_a_disparity(tmp_path):
    from stereo.pictures import write_png

    write_png(tmp_path / "d.png", np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(UserError, match="16-bit gray"):
        read_kitti_png(tmp_path / "d.png")


def test_bad_npz_is_named(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK not really")
    with pytest.raises(UserError, match="not a readable NPZ"):
        read_npz(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", other=np.zeros((2, 2), np.float32))
    with pytest.raises(UserError, match="other"):
        read_npz(tmp_path / "b.npz")
    with pytest.raises(UserError, match="unknown kind"):
        read_disparity(tmp_path / "a.tiff")
