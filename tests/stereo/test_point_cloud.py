"""stereo.point_cloud: exact points of an exact plane, and a PLY file that an independent reader understands."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from stereo.errors import UserError
from stereo.pair import Rig
from stereo.point_cloud import PointCloud, ply_bytes, point_cloud, write_ply

HEIGHT, WIDTH = 5, 8
RIG = Rig(focal_px=100.0, baseline_m=0.25, doffs_px=3.0, cx=2.5, cy=1.25)


def colours_of(height: int, width: int) -> np.ndarray:
    """Every pixel its own colour: (column, row, 7)."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, np.full_like(rows, 7)], axis=2).astype(np.uint8)


def parse_ply(data: bytes) -> tuple[list[str], list[tuple[float, float, float, int, int, int]]]:
    """An own reader of this one form: header lines, and vertices read number by number."""
    header, end, body = data.partition(b"end_header\n")
    assert end
    lines = header.decode("ascii").splitlines()
    (count,) = (int(line.split()[2]) for line in lines if line.startswith("element vertex"))
    assert len(body) == 15 * count
    return lines, [struct.unpack_from("<fffBBB", body, 15 * index) for index in range(count)]


def test_slanted_plane_gives_exactly_its_points() -> None:
    """The plane n·X = 1 has disparity linear in u, v: f·b·(n·ray) - doffs. Every point must lie on it."""
    normal = np.array([0.04, -0.06, 0.5])
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    rays = np.stack([(columns - 2.5) / 100, (rows - 1.25) / 100, np.ones((HEIGHT, WIDTH))], axis=2)
    disparity = (100 * 0.25 * (rays @ normal) - 3).astype(np.float32)
    cloud = point_cloud(RIG, disparity, colours_of(HEIGHT, WIDTH))
    assert len(cloud) == HEIGHT * WIDTH
    expected = (rays / (rays @ normal)[:, :, None]).reshape(-1, 3)
    # float32 disparity and depth: a few parts in 10^7 of 2 m.
    np.testing.assert_allclose(cloud.points_m, expected, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(cloud.colours, colours_of(HEIGHT, WIDTH).reshape(-1, 3))


def test_no_point_where_there_is_no_depth_or_it_is_too_far() -> None:
    disparity = np.array([[7.0, np.nan, -3.0, -4.0, -2.0, 2.0]], np.float32)  # z 2.5, –, inf, behind, 25, 5
    cloud = point_cloud(RIG, disparity, colours_of(1, 6), max_depth_m=5.0)
    np.testing.assert_array_equal(cloud.points_m[:, 2], np.array([2.5, 5.0], np.float32))
    np.testing.assert_array_equal(cloud.colours[:, 0], [0, 5])
    everything = point_cloud(RIG, disparity, colours_of(1, 6))
    np.testing.assert_array_equal(everything.points_m[:, 2], np.array([2.5, 25.0, 5.0], np.float32))


def test_unknown_principal_point_is_the_centre_of_the_image() -> None:
    cloud = point_cloud(Rig(100, 0.25), np.full((3, 3), 5, np.float32), colours_of(3, 3))
    np.testing.assert_array_equal(cloud.points_m[4], np.array([0, 0, 5], np.float32))
    np.testing.assert_allclose(cloud.points_m[0], [-0.05, -0.05, 5], rtol=1e-6)


def test_file_is_read_back_by_an_independent_parser(tmp_path: Path) -> None:
    points = np.array([[0.5, -1.25, 3.0], [1e-3, 2.0, 65.5]], np.float32)
    colours = np.array([[255, 0, 1], [2, 128, 254]], np.uint8)
    write_ply(tmp_path / "points.ply", PointCloud(points, colours))
    lines, vertices = parse_ply((tmp_path / "points.ply").read_bytes())
    assert lines == [
        "ply",
        "format binary_little_endian 1.0",
        "comment left camera frame, metres: x right, y down, z forward",
        "element vertex 2",
        "property float x",
        "property float y",
        "property float z",
        "property uchar red",
        "property uchar green",
        "property uchar blue",
    ]
    assert [vertex[3:] for vertex in vertices] == [(255, 0, 1), (2, 128, 254)]
    np.testing.assert_array_equal(np.array([vertex[:3] for vertex in vertices], np.float32), points)


def test_cloud_without_a_point_is_still_a_file() -> None:
    lines, vertices = parse_ply(ply_bytes(point_cloud(RIG, np.full((2, 2), np.nan, np.float32), colours_of(2, 2))))
    assert "element vertex 0" in lines
    assert vertices == []


def test_refusals() -> None:
    disparity = np.ones((2, 2), np.float32)
    with pytest.raises(UserError, match="the colours are"):
        point_cloud(RIG, disparity, colours_of(2, 3))
    with pytest.raises(UserError, match="0 m is no depth"):
        point_cloud(RIG, disparity, colours_of(2, 2), max_depth_m=0.0)
