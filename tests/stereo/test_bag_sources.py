"""ROS 1 bags, ROS 2 recordings and MCAP files as stereo streams, written by the library that reads them."""

import cv2
import numpy as np
import pytest

from stereo.errors import UserError
from stereo.source_options import SourceOptions
from stereo.sources import open_source

pytest.importorskip("rosbags", reason="rosbags reads and writes bags")
from rosbags.highlevel import AnyReader
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_typestore

HEIGHT, WIDTH = 12, 20
IMAGE, COMPRESSED, INFO = (f"sensor_msgs/msg/{name}" for name in ("Image", "CompressedImage", "CameraInfo"))
START_NS, PERIOD_NS = 1_700_000_000_000_000_000, 50_000_000


def picture(number, side):
    """Colours that tell number, side and channel order."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:] = (10 + 5 * number, 200 if side == "right" else 60, 130)
    image[:, : WIDTH // 2, 2] = 20
    return image


class Messages:
    """Makes messages of one version of ROS."""

    def __init__(self, ros2=True):
        self.ros2 = ros2
        self.store = get_typestore(Stores.ROS2_HUMBLE if ros2 else Stores.ROS1_NOETIC)

    def make(self, name, **fields):
        return self.store.types[name](**fields)

    def header(self, stamp_ns, sequence=0):
        time = self.make("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
        extra = {} if self.ros2 else {"seq": sequence}
        return self.make("std_msgs/msg/Header", stamp=time, frame_id="camera", **extra)

    def image(self, stamp_ns, data, encoding="rgb8", *, padding=0, big_endian=False):
        rows = np.ascontiguousarray(data).reshape(data.shape[0], -1)
        if rows.dtype == np.uint16:
            rows = rows.astype(">u2" if big_endian else "<u2")
        rows = rows.view(np.uint8)
        rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
        return self.make(IMAGE, header=self.header(stamp_ns), height=data.shape[0], width=data.shape[1],
                         encoding=encoding, is_bigendian=int(big_endian), step=rows.shape[1],
                         data=rows.reshape(-1))  # fmt: skip

    def compressed(self, stamp_ns, image, suffix=".png", form="rgb8; png compressed bgr8"):
        data = cv2.imencode(suffix, image[:, :, ::-1])[1].reshape(-1)
        return self.make(COMPRESSED, header=self.header(stamp_ns), format=form, data=data)

    def info(self, stamp_ns, p, *, k=None, d=(0.0,) * 5, r=None, model="plumb_bob"):
        roi = self.make("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0,
                        do_rectify=False)  # fmt: skip
        values = {"d": np.array(d, float), "k": np.array(p[:, :3] if k is None else k, float).reshape(-1),
                  "r": np.array(np.eye(3) if r is None else r, float).reshape(-1),
                  "p": np.array(p, float).reshape(-1)}  # fmt: skip
        if not self.ros2:
            values = {name.upper(): value for name, value in values.items()}
        return self.make(INFO, header=self.header(stamp_ns), height=HEIGHT, width=WIDTH, distortion_model=model,
                         binning_x=0, binning_y=0, roi=roi, **values)  # fmt: skip

    def serialize(self, message, name):
        return self.store.serialize_cdr(message, name) if self.ros2 else self.store.serialize_ros1(message, name)


def write(path, records, form="mcap", **options):
    """Write (topic, type, logged ns, message) in this order; form: ros1, sqlite3, mcap."""
    messages = Messages(form != "ros1")
    if form == "ros1":
        writer = Writer1(path)
        if options.get("compressed"):
            writer.set_compression(Writer1.CompressionFormat.LZ4)
    else:
        writer = Writer2(path, version=9, storage_plugin=StoragePlugin[form.upper()])
        if options.get("compressed"):
            writer.set_compression(CompressionMode.STORAGE if form == "mcap" else CompressionMode.MESSAGE,
                                   CompressionFormat.ZSTD)  # fmt: skip
    with writer:
        connections = {}
        for topic, name, logged, message in records:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, name, typestore=messages.store)
            writer.write(connections[topic], logged, messages.serialize(message, name))
    return path


def stereo_records(messages, count=6, *, right_late_ns=0, left="/stereo/left/image_raw",
                   right="/stereo/right/image_raw"):  # fmt: skip
    records = []
    for number in range(count):
        stamp = START_NS + number * PERIOD_NS
        records.append((left, IMAGE, stamp + 1000, messages.image(stamp, picture(number, "left"))))
        right_image = messages.image(stamp + right_late_ns, picture(number, "right"))
        records.append((right, IMAGE, stamp + 1000, right_image))
    return records


def check(source, count=6):
    assert len(source) == count
    for number in [*range(count), *(number % count for number in (4, 1, 1, 3, 0))]:
        frame = source.read(number)
        assert frame.problem is None
        np.testing.assert_array_equal(frame.pair.left, picture(number, "left"))
        np.testing.assert_array_equal(frame.pair.right, picture(number, "right"))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("form", ["ros1", "sqlite3", "mcap"])
def test_every_form_in_any_order(tmp_path, form, compressed):
    path = tmp_path / ("run.bag" if form == "ros1" else "run")
    write(path, stereo_records(Messages(form != "ros1")), form, compressed=compressed)
    source = open_source(path)
    assert source.kind == "bag"
    check(source)
    assert source.name(2) == str(START_NS + 2 * PERIOD_NS)
    assert source.topics == ("/stereo/left/image_raw", "/stereo/right/image_raw")
    assert (source.rig, source.calibration, source.rectified) == (None, None, None)
    source.close()
    if form == "mcap":
        check(open_source(next(path.glob("*.mcap"))))
        (path / "metadata.yaml").unlink()
        check(open_source(path))


def bayer(image, pattern):
    plane = np.zeros(image.shape[:2], image.dtype)
    for place, letter in enumerate(pattern):
        row, column = divmod(place, 2)
        plane[row::2, column::2] = image[row::2, column::2, "rgb".index(letter)]
    return plane


def encoded(name):
    """A flat colour in an encoding of ROS, and what must come out."""
    colour = np.full((HEIGHT, WIDTH, 3), (200, 90, 30), np.uint8)
    if name.startswith("bayer"):
        wide = name.endswith("16")
        plane = bayer(colour.astype(np.uint16) * 257 if wide else colour, name[6:10])
        return plane, colour
    values = {
        "rgb8": colour, "bgr8": colour[:, :, ::-1], "8UC3": colour[:, :, ::-1],
        "rgba8": np.dstack([colour, colour[:, :, :1]]), "bgra8": np.dstack([colour[:, :, ::-1], colour[:, :, :1]]),
        "rgb16": colour.astype(np.uint16) * 257, "bgr16": colour[:, :, ::-1].astype(np.uint16) * 257,
    }  # fmt: skip
    if name in values:
        return values[name], colour
    gray = np.full((HEIGHT, WIDTH), 77, np.uint8)
    return (gray.astype(np.uint16) * 257 if "16" in name else gray), np.repeat(gray[:, :, None], 3, axis=2)


@pytest.mark.parametrize("encoding", [
    "mono8", "8UC1", "mono16", "16UC1", "rgb8", "bgr8", "8UC3", "rgba8", "bgra8", "rgb16", "bgr16", "bayer_rggb8",
    "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8", "bayer_rggb16", "bayer_grbg16",
])  # fmt: skip
@pytest.mark.parametrize("big_endian", [False, True])
def test_encodings(tmp_path, encoding, big_endian):
    from stereo.bag_images import image_from

    values, expected = encoded(encoding)
    message = Messages().image(0, values, encoding, padding=6, big_endian=big_endian)
    # Bayer patterns are filled in from the neighbours, which are missing at the edge.
    inner = (slice(2, -2), slice(2, -2)) if encoding.startswith("bayer") else (slice(None), slice(None))
    np.testing.assert_array_equal(image_from(message, where="here")[inner], expected[inner])


def test_compressed_images(tmp_path):
    messages = Messages()
    records = []
    for number in range(3):
        stamp = START_NS + number * PERIOD_NS
        for side in ("left", "right"):
            message = messages.compressed(stamp, picture(number, side))
            records.append((f"/{side}/image_raw/compressed", COMPRESSED, stamp, message))
    check(open_source(write(tmp_path / "run", records)), 3)


def test_what_is_no_picture_is_a_frame_with_a_problem(tmp_path):
    messages = Messages()
    records = stereo_records(messages, 5)
    float_image = messages.image(START_NS, np.zeros((HEIGHT, WIDTH), np.uint8), "32FC1")
    records[0] = (*records[0][:3], float_image)
    short = records[3][3]
    short.data = short.data[:-10]
    dark = messages.image(START_NS + 2 * PERIOD_NS, np.full((HEIGHT, WIDTH), 1000, np.uint16), "mono16")
    records[4] = (*records[4][:3], dark)
    frames = list(open_source(write(tmp_path / "run", records)))
    assert [frame.reason for frame in frames] == ["image unreadable"] * 3 + [None] * 2
    assert "'32FC1'" in frames[0].problem
    assert "message 0" in frames[0].problem
    assert "holds 710 bytes" in frames[1].problem
    assert "16-bit image whose values only reach 1000" in frames[2].problem


def test_pairs_are_found_by_stamp(tmp_path, caplog):
    """Recorded out of order, one left and one right image missing, one right image late."""
    messages = Messages()
    records = stereo_records(messages, 8, right_late_ns=2_000_000)
    late = messages.image(START_NS + 4 * PERIOD_NS + 9_000_000, picture(4, "right"))
    records[9] = (*records[9][:3], late)
    del records[13]  # right 6
    del records[4]  # left 2
    records[0], records[2] = (*records[0][:2], *records[2][2:]), (*records[2][:2], *records[0][2:])
    records[2] = (*records[2][:2], records[2][2] + 10**6, records[2][3])
    source = open_source(write(tmp_path / "run", sorted(records, key=lambda record: record[2])))
    frames = list(source)
    assert len(frames) == 7, "the left view numbers the frames"
    numbers = [0, 1, 3, 4, 5, 6, 7]
    assert [number for number, frame in zip(numbers, frames, strict=True) if frame.pair is None] == [4, 6]
    assert {frame.reason for frame in frames if frame.pair is None} == {"views are not simultaneous"}
    assert "9 ms away" in frames[3].problem
    for number, frame in zip(numbers, frames, strict=True):
        if frame.pair:
            np.testing.assert_array_equal(frame.pair.left, picture(number, "left"))
            np.testing.assert_array_equal(frame.pair.right, picture(number, "right"))
    assert "5 of 7 images of /stereo/left/image_raw" in caplog.text
    wider = open_source(tmp_path / "run", options=SourceOptions(tolerance_ms=10))
    assert wider.read(3).pair is not None


def test_unmatched_stamps_stop_with_how_far_they_are_apart(tmp_path):
    write(tmp_path / "run", stereo_records(Messages(), right_late_ns=20_000_000))
    with pytest.raises(UserError, match=r"0 of 6 images .* within 5 ms: .* 20 to 20 ms away, median 20 ms .*toleranc"):
        open_source(tmp_path / "run")
    check(open_source(tmp_path / "run", options=SourceOptions(tolerance_ms=21)))
    write(tmp_path / "far", stereo_records(Messages(), right_late_ns=10**15))
    with pytest.raises(UserError, match="do not overlap in time"):
        open_source(tmp_path / "far")


def test_headers_without_stamps_give_way_to_the_time_of_recording(tmp_path, caplog):
    records = stereo_records(Messages())
    for _, _, _, message in records:
        message.header.stamp.sec = message.header.stamp.nanosec = 0
    check(open_source(write(tmp_path / "run", records)))
    assert "times of recording" in caplog.text


def test_topics_that_are_not_clear_are_listed(tmp_path):
    messages = Messages()
    both = stereo_records(messages) + stereo_records(messages, left="/cam0/image", right="/cam1/image")
    path = write(tmp_path / "two", both)
    with pytest.raises(UserError, match=r"/cam0/image and /cam1/image; /stereo/left.* --source.left_topic"):
        open_source(path)
    check(open_source(path, options=SourceOptions(left_topic="/cam0/image")))
    check(open_source(path, options=SourceOptions(left_topic="/cam0/image", right_topic="/stereo/right/image_raw")))
    with pytest.raises(UserError, match=r"no images in topic '/nothing' .*/cam0/image \(Image, 6\)"):
        open_source(path, options=SourceOptions(left_topic="/nothing"))
    path = write(tmp_path / "one", stereo_records(messages, left="/front/image", right="/back/image"))
    with pytest.raises(UserError, match=r"no two topics look like .*/back/image \(Image, 6\), /front/image"):
        open_source(path)
    depth = stereo_records(messages, left="/left/depth", right="/right/depth")
    check(open_source(write(tmp_path / "depth", depth + stereo_records(messages))))


@pytest.mark.parametrize(("left", "right"), [
    ("/camera/infra1/image_rect_raw", "/camera/infra2/image_rect_raw"), ("/cam0/image_raw", "/cam1/image_raw"),
    ("/zed/zed_node/left/image_rect_color", "/zed/zed_node/right/image_rect_color"),
    ("/camera/0/image", "/camera/1/image"), ("/stereo/leftImage", "/stereo/rightImage"),
    ("/kitti/camera_gray_left/image_raw", "/kitti/camera_gray_right/image_raw"),
])  # fmt: skip
def test_names_of_topics(tmp_path, left, right):
    write(tmp_path / "run", stereo_records(Messages(), 2, left=left, right=right))
    assert open_source(tmp_path / "run").topics == (left, right)


def projection(shift=0.0):
    return np.array([[500, 0, 320, shift], [0, 500, 240, 0], [0, 0, 1, 0]], float)


@pytest.mark.parametrize("form", ["ros1", "mcap"])
def test_camera_info_of_rectified_images_is_the_rig(tmp_path, form):
    messages = Messages(form != "ros1")
    infos = [
        ("/stereo/left/camera_info", INFO, START_NS, messages.info(START_NS, projection())),
        ("/stereo/right/camera_info", INFO, START_NS, messages.info(START_NS, projection(-60))),
    ]
    path = tmp_path / {"ros1": "run.bag", "mcap": "run"}[form]
    source = open_source(write(path, infos + stereo_records(messages), form))
    check(source)
    assert source.rectified is True
    assert (source.rig.focal_px, source.rig.baseline_m, source.rig.cx) == (500, pytest.approx(0.12), 320)
    assert source.read(0).pair.rig == source.rig


def test_camera_info_of_raw_images_is_the_calibration(tmp_path):
    """Made of two cameras that OpenCV rectifies; what comes back is where they stood."""
    matrix = np.array([[480.0, 0, 10], [0, 482, 6], [0, 0, 1]])
    lens = np.array([-0.2, 0.05, 0.001, -0.002, 0.0])
    rotation = cv2.Rodrigues(np.array([0.01, -0.02, 0.015]))[0]
    translation = np.array([[-0.12], [0.002], [-0.001]])
    turned = cv2.stereoRectify(matrix, lens, matrix, lens, (WIDTH, HEIGHT), rotation, translation)
    messages = Messages()
    infos = [
        (f"/stereo/{side}/camera_info", INFO, START_NS, messages.info(START_NS, turned[2 + number], k=matrix, d=lens,
                                                                      r=turned[number]))
        for number, side in enumerate(("left", "right"))
    ]  # fmt: skip
    source = open_source(write(tmp_path / "run", infos + stereo_records(messages)))
    assert source.rectified is False
    assert source.rig is None
    calibration = source.calibration
    np.testing.assert_allclose(calibration.rotation, rotation, atol=1e-9)
    np.testing.assert_allclose(calibration.translation, translation[:, 0], atol=1e-9)
    np.testing.assert_allclose(calibration.left.matrix, matrix)
    assert calibration.right.distortion == tuple(lens)
    assert calibration.size == (HEIGHT, WIDTH)


def test_camera_info_without_values_tells_nothing(tmp_path):
    messages = Messages()
    infos = [
        (f"/stereo/{side}/camera_info", INFO, START_NS, messages.info(START_NS, np.zeros((3, 4))))
        for side in ("left", "right")
    ]
    source = open_source(write(tmp_path / "run", infos + stereo_records(messages)))
    assert (source.rig, source.calibration, source.rectified) == (None, None, None)


def test_a_bag_that_was_cut_off_is_told(tmp_path):
    messages = Messages(ros2=False)
    path = write(tmp_path / "run.bag", stereo_records(messages), "ros1")
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(UserError, match=r"cannot be read as a bag: .*rosbag reindex"):
        open_source(path)
    mcap = next(write(tmp_path / "run", stereo_records(Messages())).glob("*.mcap"))
    mcap.write_bytes(mcap.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"cannot be read as a bag: .*mcap recover"):
        open_source(mcap)


def test_a_damaged_stretch_is_left_out(tmp_path, caplog):
    count = 40
    path = write(tmp_path / "run.bag", stereo_records(Messages(ros2=False), count), "ros1", compressed=True)
    with AnyReader([path]) as reader:
        chunks = sorted(reader.readers[0].chunks.items())
    if len(chunks) < 3:  # the writer's chunks are of a megabyte
        big = stereo_records(Messages(ros2=False), count)
        noise = np.random.default_rng(0)
        for _, _, _, message in big:
            message.height, message.width, message.step = 200, 200, 600
            message.data = noise.integers(0, 255, 200 * 600, np.uint8)
        path.unlink()
        write(path, big, "ros1", compressed=True)
        with AnyReader([path]) as reader:
            chunks = sorted(reader.readers[0].chunks.items())
    assert len(chunks) >= 3
    data = bytearray(path.read_bytes())
    position = chunks[1][1].datapos + 4  # behind its length: LZ4's own header, for LZ4 has no checksum of what follows
    data[position : position + 16] = bytes(16)
    whole = open_source(path)
    pairs = {whole.name(index): whole.read(index).pair.left for index in range(len(whole))}
    whole.close()
    path.write_bytes(data)
    source = open_source(path)
    assert "images cannot be read" in caplog.text
    assert 0 < len(source) < count
    for index in range(len(source)):
        frame = source.read(index)
        if frame.pair is not None:
            np.testing.assert_array_equal(frame.pair.left, pairs[frame.name])
    assert sum(source.read(index).pair is not None for index in range(len(source))) >= 10


def test_a_missing_library_is_told(tmp_path, monkeypatch):
    path = write(tmp_path / "run", stereo_records(Messages(), 2))
    monkeypatch.setitem(__import__("sys").modules, "rosbags.highlevel", None)
    with pytest.raises(UserError, match=r"cannot import rosbags.*stereodistill\[bags\]"):
        open_source(path)
