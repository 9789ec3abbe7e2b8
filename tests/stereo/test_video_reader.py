"""Frames of videos by exact number: any order gives the bits of decoding from the start, damage is told, not hidden."""

import random

import numpy as np
import pytest

from stereo.errors import UserError
from stereo.sources import open_source
from stereo.video_reader import VideoReader

av = pytest.importorskip("av", reason="PyAV decodes videos")

HEIGHT, WIDTH, FRAMES, GROUP = 64, 96, 40, 10
X264 = {"bf": "3", "x264-params": "scenecut=0"}
KINDS = {
    "b-frames": ("clip.mp4", "libx264", X264),
    "open groups": ("clip.mp4", "libx264", {"bf": "3", "x264-params": "open-gop=1:scenecut=0"}),
    "hevc": ("clip.mkv", "libx265", {"x265-params": "log-level=0:keyint=10:min-keyint=10:pools=1"}),
    "mpeg4 with b-frames": ("clip.avi", "mpeg4", {"bf": "2"}),
    "transport stream": ("clip.ts", "libx264", X264),
    "lossless": ("clip.mkv", "ffv1", {}),
    "no key frames": ("clip.mp4", "libx264", {"bf": "0", "x264-params": "intra-refresh=1:scenecut=0"}),
}


def picture(number, height=HEIGHT, width=WIDTH):
    """A texture that moves, so that every frame is predicted from others and none is like another."""
    texture = np.random.default_rng(3).integers(0, 255, (height // 4, width // 4 + FRAMES, 3), np.uint8)
    return np.ascontiguousarray(np.kron(texture[:, number : number + width // 4], np.ones((4, 4, 1), np.uint8)))


def write(path, codec="libx264", options=None, *, stamps=None, images=None, rate=10):
    images = [picture(number) for number in range(FRAMES)] if images is None else images
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=dict(options or {}))
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt, stream.gop_size = ("bgr0" if codec == "ffv1" else "yuv420p"), GROUP
        stream.codec_context.thread_count = 1
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number if stamps is None else stamps[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def packets(path):
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size, packet.pts) for packet in container.demux(video=0) if packet.size]


def plainly_decoded(path):
    """All frames from the start, in the order in which they are shown; only the conversion to RGB is the reader's."""
    reader = VideoReader(path)
    with av.open(str(path)) as container:
        return [reader._to_rgb(frame) for frame in container.decode(video=0)]


def read_all(path):
    reader = VideoReader(path)
    frames = [reader.read(index) for index in range(reader.count)]
    reader.close()
    return frames


def check_any_order(path, frames):
    reader, order = VideoReader(path), random.Random(0)
    indexes = [order.randrange(len(frames)) for _ in range(25)] + list(range(20, 32)) + [5, 5, 4]
    for index in indexes:
        found = reader.read(index)
        assert isinstance(found, str) == isinstance(frames[index], str), index
        if isinstance(found, str):
            assert found == frames[index]
        else:
            np.testing.assert_array_equal(found, frames[index], err_msg=f"frame {index}")
    reader.close()


@pytest.mark.parametrize("kind", KINDS)
def test_any_order_gives_the_bits_of_decoding_from_the_start(tmp_path, kind):
    name, codec, options = KINDS[kind]
    path = write(tmp_path / name, codec, options)
    frames, plain = read_all(path), plainly_decoded(path)
    assert len(frames) == len(plain) == FRAMES
    for number in range(FRAMES):
        np.testing.assert_array_equal(frames[number], plain[number], err_msg=f"frame {number}")
        assert number == 0 or not np.array_equal(frames[number], frames[number - 1])
    check_any_order(path, frames)


def test_lossless_video_gives_the_very_pixels(tmp_path):
    frames = read_all(write(tmp_path / "clip.mkv", "ffv1"))
    for number, frame in enumerate(frames):
        np.testing.assert_array_equal(frame, picture(number))


def test_variable_frame_rate_is_numbered_by_time_stamps(tmp_path):
    stamps = np.cumsum([1 + (number * 7) % 5 for number in range(FRAMES)]).tolist()
    path = write(tmp_path / "clip.mkv", options=X264, stamps=stamps)
    reader = VideoReader(path)
    assert reader.count == FRAMES
    times_ms = [reader.index.time_ms(index) for index in range(FRAMES)]
    np.testing.assert_allclose(times_ms, 100 * (np.array(stamps) - stamps[0]), atol=1)
    frames = read_all(path)
    assert not any(isinstance(frame, str) for frame in frames)
    check_any_order(path, frames)


def damage(path, number, *, size=40):
    """Overwrite the middle of the packet of a frame with noise; returns the numbers of the frames after it."""
    found = packets(path)
    stamps = sorted(stamp for _, _, stamp in found)
    place = next(place for place, packet in enumerate(found) if packet[2] == stamps[number])
    position, length, _ = found[place]
    data = bytearray(path.read_bytes())
    start = position + min(60, length // 3)
    size = min(size, position + length - start)
    data[start : start + size] = np.random.default_rng(1).bytes(size)
    path.write_bytes(data)
    return {stamps.index(stamp) for _, _, stamp in found[place:]}


@pytest.mark.parametrize(("name", "codec", "options"), [
    ("clip.mp4", "libx264", X264), ("clip.mp4", "libx264", {"bf": "0"}), ("clip.avi", "mpeg4", {}),
])  # fmt: skip
def test_a_damaged_group_in_the_middle_is_lost_and_the_rest_is_not(tmp_path, name, codec, options):
    path = write(tmp_path / name, codec, options)
    whole = read_all(path)
    after = damage(path, 10, size=400)
    frames = read_all(path)
    lost = {number for number, frame in enumerate(frames) if isinstance(frame, str)}
    assert lost == set(range(10, 20)) & after, "the key frame and all that depend on it"
    assert frames[10] == "frame cannot be decoded"
    assert {frames[number] for number in lost - {10}} == {"frame depends on a damaged one: frame 10"}
    for number in set(range(FRAMES)) - lost:
        np.testing.assert_array_equal(frames[number], whole[number], err_msg=f"frame {number}")
    check_any_order(path, frames)


def test_no_frame_that_depends_on_a_damaged_one_slips_through(tmp_path):
    """Pictures between two others are shown before the damaged one that they were predicted from."""
    path = write(tmp_path / "clip.mp4", options=X264)
    whole = read_all(path)
    order = [stamp for _, _, stamp in packets(path)]
    shown = sorted(order)
    ahead = next(place for place in range(12, len(order) - 1) if order[place + 1] < order[place])
    number = shown.index(order[ahead])
    damage(path, number, size=400)
    frames = read_all(path)
    assert isinstance(frames[number], str)
    for index, frame in enumerate(frames):
        assert isinstance(frame, str) or np.array_equal(frame, whole[index]), f"frame {index} is made up"
    assert isinstance(frames[number - 1], str), "shown before, predicted from it"


def test_a_file_that_was_cut_keeps_its_numbers(tmp_path):
    path = write(tmp_path / "clip.avi", "mpeg4")
    whole = read_all(path)
    path.write_bytes(path.read_bytes()[: packets(path)[25][0] + 10])
    frames = read_all(path)
    assert len(frames) == FRAMES
    for index in range(25):
        np.testing.assert_array_equal(frames[index], whole[index])
    assert all(isinstance(frame, str) for frame in frames[25:])
    assert frames[-1] == "video ends early"
    check_any_order(path, frames)


def test_a_recording_without_its_end_gives_what_it_has(tmp_path):
    path = write(tmp_path / "clip.mkv", options=X264)
    whole = read_all(path)
    path.write_bytes(path.read_bytes()[: packets(path)[30][0]])
    frames = read_all(path)
    assert len(frames) == FRAMES, "Matroska promises a duration"
    good = [index for index, frame in enumerate(frames) if not isinstance(frame, str)]
    assert len(good) >= 27
    for index in good:
        np.testing.assert_array_equal(frames[index], whole[index])


def test_frames_that_the_file_lacks_keep_their_place(tmp_path):
    stamps = [*range(20), *range(23, FRAMES + 3)]
    path = write(tmp_path / "clip.mkv", "ffv1", stamps=stamps)
    frames = read_all(path)
    assert len(frames) == FRAMES + 3
    assert [index for index, frame in enumerate(frames) if isinstance(frame, str)] == [20, 21, 22]
    assert frames[21] == "frame is missing from the video"
    np.testing.assert_array_equal(frames[23], picture(20))


def test_a_file_that_cannot_be_decoded_is_told(tmp_path):
    path = tmp_path / "raw.h264"
    write(path, options={"bf": "2"})
    with pytest.raises(UserError, match=r"no time stamp.*genpts"):
        VideoReader(path)
    sound = tmp_path / "sound.mka"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(UserError, match="no video stream, only audio"):
        VideoReader(sound)
    torn = write(tmp_path / "torn.mp4", options=X264)
    torn.write_bytes(torn.read_bytes()[:-2000])
    with pytest.raises(UserError, match="is it truncated"):
        VideoReader(torn)


def test_a_missing_decoder_is_told(tmp_path, monkeypatch):
    path = write(tmp_path / "clip.avi", "mpeg4")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(UserError, match=r"cannot import av.*stereodistill\[video\]"):
        open_source(path)


def test_half_width_views_are_stretched(tmp_path):
    from stereo.source_options import SourceOptions

    views = [np.full((96, 64, 3), 40, np.uint8), np.full((96, 64, 3), 200, np.uint8)]
    path = write(tmp_path / "clip.mkv", "ffv1", images=[np.concatenate(views, axis=1)] * 3)
    source = open_source(path, options=SourceOptions(layout="half"))
    pair = source.read(1).pair
    assert pair.left.shape == (96, 128, 3)
    assert (pair.left == 40).all()
    assert (pair.right == 200).all()
    assert source.describe()["layout"] == "half"


def test_views_narrower_than_tall_bring_a_hint(tmp_path, caplog):
    write(tmp_path / "narrow.mkv", "ffv1", images=[np.zeros((96, 128, 3), np.uint8)] * 2)
    open_source(tmp_path / "narrow.mkv")
    assert "--source.layout half" in caplog.text
    caplog.clear()
    write(tmp_path / "wide.mkv", "ffv1", images=[np.zeros((48, 128, 3), np.uint8)] * 2)
    open_source(tmp_path / "wide.mkv")
    assert not caplog.text


def test_two_videos_are_paired_by_time(tmp_path):
    images = [picture(number) for number in range(30)]
    stamps = list(range(30))
    right = [number for number in range(30) if number not in (7, 8, 20)]
    write(tmp_path / "l.mkv", "ffv1", images=images[:28], stamps=stamps[:28])
    # The duration of the right one is that of its last frame, so the gaps are lost frames of a damaged file.
    write(tmp_path / "r.mkv", "ffv1", images=[images[number] for number in right], stamps=right)
    source = open_source(tmp_path / "l.mkv", right=tmp_path / "r.mkv")
    frames = list(source)
    assert len(frames) == 30
    assert [frame.index for frame in frames if frame.pair is None] == [7, 8, 20, 28, 29]
    assert frames[8].reason == "frame is missing from the video"
    assert frames[29].reason == "video ends early"
    assert "l.mkv" in frames[29].problem
    for frame in frames[:28]:
        if frame.pair:
            np.testing.assert_array_equal(frame.pair.left, frame.pair.right)


def test_frames_without_a_partner_are_told(tmp_path):
    images = [picture(number) for number in range(12)]
    stamps = [3 * number + (number % 3 == 1) for number in range(12)]
    write(tmp_path / "l.mkv", "ffv1", images=images, stamps=stamps, rate=30)
    keep = [number for number in range(12) if number != 5]
    write(tmp_path / "r.mkv", "ffv1", images=[images[n] for n in keep], stamps=[stamps[n] for n in keep], rate=30)
    left, right = VideoReader(tmp_path / "l.mkv"), VideoReader(tmp_path / "r.mkv")
    if abs(left.fps - right.fps) > 0.01 * left.fps:
        pytest.skip(f"this FFmpeg tells {left.fps:g} and {right.fps:g} frames/s of variable rates")
    frames = list(open_source(tmp_path / "l.mkv", right=tmp_path / "r.mkv"))
    assert [frame.index for frame in frames if frame.pair is None] == [5]
    assert frames[5].reason == "views are not simultaneous"
    for frame in frames:
        if frame.pair:
            np.testing.assert_array_equal(frame.pair.left, frame.pair.right)
