import os

import cv2
import numpy as np
import pytest

from stereo.errors import UserError
from stereo.pictures import write_png
from stereo.sources import open_source

HEIGHT, WIDTH = 48, 64


def view(number, side, height=HEIGHT, width=WIDTH):
    """A flat colour that tells frame and side, so that a mixed-up pair is seen."""
    return np.full((height, width, 3), (10 * number, 200 if side == "right" else 50, 77), np.uint8)


def check(source, numbers):
    assert len(source) == len(numbers)
    for number, frame in zip(numbers, source, strict=True):
        assert frame.problem is None
        np.testing.assert_allclose(frame.pair.left.mean((0, 1)), view(number, "left")[0, 0], atol=3)
        np.testing.assert_allclose(frame.pair.right.mean((0, 1)), view(number, "right")[0, 0], atol=3)


NAMINGS = {
    "two_folders": ["left/{:06d}.png", "right/{:06d}.png"],
    "kitti gray": ["image_0/{:06d}.png", "image_1/{:06d}.png"],
    "kitti colour": ["image_2/{:06d}.png", "image_3/{:06d}.png"],
    "prefix": ["left_{:03d}.png", "right_{:03d}.png"],
    "bare prefix": ["left{:03d}.jpg", "right{:03d}.jpg"],
    "suffix": ["{:03d}_left.png", "{:03d}_right.png"],
    "letters": ["{:03d}_L.png", "{:03d}_R.png"],
    "scenes": ["scene{}/im0.png", "scene{}/im1.png"],
    "scenes by view": ["scene{}/left.png", "scene{}/right.png"],
}


@pytest.mark.parametrize("naming", NAMINGS)
def test_image_namings(tmp_path, naming):
    for number in range(3):
        for pattern, side in zip(NAMINGS[naming], ("left", "right"), strict=True):
            path = tmp_path / pattern.format(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), view(number, side)[:, :, ::-1])
    (tmp_path / "notes.txt").write_text("not an image")
    source = open_source(tmp_path)
    check(source, [0, 1, 2])
    names = [source.name(index) for index in range(3)]
    assert len(set(names)) == 3
    frame = source.read(1)
    assert frame.files is not None
    assert all(file.exists() for file in frame.files)


def test_two_folders_given_apart(tmp_path):
    for number in (4, 7):
        for side in ("left", "right"):
            write_png(tmp_path / f"cam_{side}" / f"{number}.png", view(number, side))
    check(open_source(tmp_path / "cam_left", right=tmp_path / "cam_right"), [4, 7])


def test_single_pair_folder(tmp_path):
    for side, name in (("left", "im0"), ("right", "im1")):
        write_png(tmp_path / f"{name}.png", view(2, side))
    check(open_source(tmp_path), [2])


def test_bad_frames_of_a_folder_are_told_and_the_rest_goes_on(tmp_path):
    for number in range(6):
        for side in ("left", "right"):
            write_png(tmp_path / side / f"{number:06d}.png", view(number, side))
    (tmp_path / "right/000001.png").unlink()
    torn = tmp_path / "left/000002.png"
    torn.write_bytes(torn.read_bytes()[:-30])
    write_png(tmp_path / "right/000003.png", view(3, "right", height=HEIGHT - 2))
    write_png(tmp_path / "left/000004.png", view(4, "left")[:, :, 0])
    cv2.imwrite(str(tmp_path / "right/000005.png"), view(5, "right")[:, :, ::-1].astype(np.uint16) * 257)
    frames = list(open_source(tmp_path))
    reasons = [frame.reason for frame in frames]
    assert reasons == [None, "image missing", "image unreadable", "views differ in size", None, None]
    assert "000002.png" in frames[2].problem
    assert "truncated" in frames[2].problem
    assert frames[4].files is not None, "a gray file can be linked"
    np.testing.assert_array_equal(frames[5].pair.right, view(5, "right"))
    assert frames[5].files is None, "a 16-bit file cannot be linked: the set holds 8 bits"


def write_video(path, images, fourcc="MJPG", fps=10):
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*fourcc), fps, (width, height))
    assert writer.isOpened(), f"this OpenCV cannot write {fourcc}"
    for image in images:
        writer.write(image[:, :, ::-1])
    writer.release()
    return path


def side_by_side(number):
    return np.concatenate([view(number, "left"), view(number, "right")], axis=1)


def test_side_by_side_video(tmp_path):
    source = open_source(write_video(tmp_path / "clip.avi", [side_by_side(number) for number in range(8)]))
    assert source.kind == "side_by_side_video"
    check(source, list(range(8)))
    for number in (5, 2, 3, 7, 0):
        np.testing.assert_allclose(source.read(number).pair.left.mean((0, 1)), view(number, "left")[0, 0], atol=3)


def test_two_videos(tmp_path):
    paths = [
        write_video(tmp_path / f"{side}.mp4", [view(number, side) for number in range(8)], "mp4v")
        for side in ("left", "right")
    ]
    check(open_source(paths[0], right=paths[1]), list(range(8)))


def break_frame(path, number, count):
    """Overwrite the picture data of one frame of a PNG-in-AVI file."""
    data = bytearray(path.read_bytes())
    starts = [position for position in range(len(data)) if data.startswith(b"\x89PNG", position)]
    assert len(starts) == count
    data[starts[number] : starts[number] + 40] = bytes(40)
    path.write_bytes(data)


def test_broken_frame_in_the_middle_of_a_video_is_one_lost_frame(tmp_path):
    path = write_video(tmp_path / "clip.avi", [side_by_side(number) for number in range(8)], "png ")
    break_frame(path, 3, 8)
    frames = list(open_source(path))
    lost = [frame.index for frame in frames if frame.pair is None]
    assert lost in ([3], [3, 4]), "FFmpeg's PNG parser may take the packet behind the broken one for its end"
    assert frames[3].reason == "frame cannot be decoded"
    for number in {*range(8)} - {*lost}:
        np.testing.assert_allclose(frames[number].pair.left.mean((0, 1)), view(number, "left")[0, 0], atol=3)
    again = open_source(path)
    assert again.read(3).pair is None, "also when it is the first one asked for"
    np.testing.assert_allclose(again.read(6).pair.left.mean((0, 1)), view(6, "left")[0, 0], atol=3)


def test_two_videos_stay_together_behind_a_broken_frame(tmp_path):
    paths = [
        write_video(tmp_path / f"{side}.avi", [view(number, side) for number in range(8)], "png ")
        for side in ("left", "right")
    ]
    break_frame(paths[1], 2, 8)
    frames = list(open_source(paths[0], right=paths[1]))
    lost = [frame.index for frame in frames if frame.pair is None]
    assert lost in ([2], [2, 3])
    assert "right.avi" in frames[2].problem
    for number in {*range(8)} - {*lost}:
        np.testing.assert_allclose(frames[number].pair.left.mean((0, 1)), view(number, "left")[0, 0], atol=3)
        np.testing.assert_allclose(frames[number].pair.right.mean((0, 1)), view(number, "right")[0, 0], atol=3)


def test_truncated_video_gives_what_it_has(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (8, HEIGHT, 2 * WIDTH, 3), np.uint8)
    path = write_video(tmp_path / "clip.avi", list(noise))
    os.truncate(path, path.stat().st_size // 2)
    frames = list(open_source(path))
    assert len(frames) == 8
    good = [frame.index for frame in frames if frame.pair]
    assert good == list(range(len(good)))
    assert 2 <= len(good) <= 5


def test_odd_width_is_refused(tmp_path):
    # OpenCV's writer rounds odd widths down, so this is written by hand: raw 4:4:4 video.
    path = tmp_path / "clip.y4m"
    path.write_bytes(b"YUV4MPEG2 W63 H48 F10:1 Ip A1:1 C444\n" + 3 * (b"FRAME\n" + bytes(3 * 63 * 48)))
    with pytest.raises(UserError, match="width 63 is odd"):
        open_source(path)


def test_videos_of_different_size_are_refused(tmp_path):
    left = write_video(tmp_path / "l.avi", [view(0, "left")] * 3)
    right = write_video(tmp_path / "r.avi", [view(0, "right", width=WIDTH * 2)] * 3)
    with pytest.raises(UserError, match="64x48 but the right one 128x48"):
        open_source(left, right=right)


@pytest.mark.parametrize("names", [("lamp.png", "ramp.png"), ("im01.png", "im11.png"), ("a.png", "b.png")])
def test_names_that_only_look_like_a_pair_are_none(tmp_path, names):
    for name in names:
        write_png(tmp_path / name, view(0, "left"))
    with pytest.raises(UserError, match="belong together"):
        open_source(tmp_path)


def test_names_stay_apart_when_made_plain(tmp_path):
    for key in ("a b", "a_b", "a+b"):
        for side in ("left", "right"):
            write_png(tmp_path / side / f"{key}.png", view(0, side))
    source = open_source(tmp_path)
    names = [source.name(index) for index in range(3)]
    assert len(set(names)) == 3
    assert not any(" " in name or "+" in name for name in names)


def test_what_is_no_source_is_told(tmp_path):
    with pytest.raises(UserError, match="no such source"):
        open_source(tmp_path / "none")
    with pytest.raises(UserError, match="no left and right image belong together"):
        open_source(tmp_path)
    (tmp_path / "clip.mp4").write_bytes(b"not a video at all")
    with pytest.raises(UserError, match="cannot open this as a video"):
        open_source(tmp_path / "clip.mp4")
    write_png(tmp_path / "one.png", view(0, "left"))
    with pytest.raises(UserError, match="single image"):
        open_source(tmp_path / "one.png")
    with pytest.raises(UserError, match="--right"):
        open_source(tmp_path, kind="two_folders")
    with pytest.raises(UserError, match="not of kind"):
        open_source(tmp_path, kind="side_by_side_video")
