"""Which topics of a bag are the left and right view, and what their `CameraInfo` tells."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stereo.bag_reader import connections_of, messages_past_damage
from stereo.calibration_files import lens as lens_model
from stereo.calibration_model import CameraModel, LensModel, StereoCalibration
from stereo.errors import UserError
from stereo.pair import Rig
from stereo.rig_files import rig_of
from stereo.source_options import SourceOptions

IMAGE, COMPRESSED, INFO = (f"sensor_msgs/msg/{name}" for name in ("Image", "CompressedImage", "CameraInfo"))
PICTURES = (IMAGE, COMPRESSED)
# What stands in a topic for left and right; digits must end there, short words must stand alone.
WORDS = (
    (r"left", "right"), (r"Left", "Right"), (r"infra1(?!\d)", "infra2"), (r"cam0(?!\d)", "cam1"),
    (r"cam_0(?!\d)", "cam_1"), (r"camera0(?!\d)", "camera1"), (r"camera_0(?!\d)", "camera_1"),
    (r"image_00(?!\d)", "image_01"), (r"image_02(?!\d)", "image_03"), (r"(?<=/)0(?=/)", "1"), (r"(?<=/)l(?=/)", "r"),
)  # fmt: skip
NO_VIEW = re.compile(r"depth|disparity|mask|seg|thermal", re.IGNORECASE)
RECTIFIED = re.compile(r"(^|[/_])rect(ified)?([/_]|$)")

log = logging.getLogger(__name__)


def picture_topics(reader: Any) -> dict[str, tuple[str, int]]:
    """Topic → (message type, number of messages) of all that hold pictures."""
    found: dict[str, tuple[str, int]] = {}
    for each in reader.connections:
        if each.msgtype in PICTURES:
            found[each.topic] = (each.msgtype, each.msgcount + found.get(each.topic, ("", 0))[1])
    return dict(sorted(found.items()))


def partners(topic: str, topics: Sequence[str]) -> list[str]:
    """The topics of the right view that a topic of a left view may belong to."""
    names = [re.sub(word, right, topic) for word, right in WORDS if re.search(word, topic)]
    return [name for name in dict.fromkeys(names) if name != topic and name in topics]


def find_topics(reader: Any, options: SourceOptions, *, where: Path) -> tuple[str, str]:
    """The topics of the left and right view.

    Raises:
        UserError: not there, or not exactly one pair is plausible; it lists what is there.
    """
    known = picture_topics(reader)
    listed = ", ".join(f"{topic} ({form.rpartition('/')[2]}, {count})" for topic, (form, count) in known.items())
    for side, topic in (("left", options.left_topic), ("right", options.right_topic)):
        if topic is not None and topic not in known:
            others = listed or "none; topics: " + ", ".join(sorted({each.topic for each in reader.connections}))
            raise UserError(f"no images in topic '{topic}'", where=where,
                            fix=f"--source.{side}_topic: {others}")  # fmt: skip
    if options.left_topic and options.right_topic:
        return options.left_topic, options.right_topic
    views = [topic for topic, (_, count) in known.items() if count and not NO_VIEW.search(topic)]
    pairs = [(left, right) for left in views for right in partners(left, views)]
    pairs = [
        (left, right)
        for left, right in pairs
        if options.left_topic in (None, left) and options.right_topic in (None, right)
    ]
    if len(pairs) == 1:
        return pairs[0]
    what = "several topics may be the two views: " + "; ".join(f"{left} and {right}" for left, right in pairs)
    if not pairs:
        what = f"no two topics look like left and right; topics with images: {listed or 'none'}"
    raise UserError(what, where=where, fix="name them with --source.left_topic and --source.right_topic")


def info_topic(topic: str, topics: Sequence[str]) -> str | None:
    """The `camera_info` that belongs to a topic of images: in the nearest namespace."""
    while "/" in topic:
        topic = topic.rpartition("/")[0]
        if f"{topic}/camera_info" in topics:
            return f"{topic}/camera_info"
    return None


def first_infos(reader: Any, views: tuple[str, str], *, where: Path) -> list[Any] | None:
    """The first `CameraInfo` of each view, None when one has none."""
    known = [each.topic for each in reader.connections if each.msgtype == INFO and each.msgcount]
    infos = []
    for view in views:
        topic = info_topic(view, known)
        if topic is None:
            return None
        messages = messages_past_damage(reader, connections_of(reader, [topic]), where=where)
        connection, _, data = next(messages, (None, 0, b""))
        messages.close()
        if connection is None:
            return None
        infos.append(reader.deserialize(data, connection.msgtype))
    return infos


def numbers(info: Any, letter: str, *shape: int) -> Any:
    """A matrix of a CameraInfo, whose fields ROS 1 writes in capitals."""
    value = getattr(info, letter) if hasattr(info, letter) else getattr(info, letter.upper())
    found = np.asarray(value, np.float64)
    return found.reshape(shape) if shape else found


def cameras_of(
    infos: list[Any], *, rectified: bool, where: Path
) -> tuple[Rig | None, StereoCalibration | None, bool | None]:
    """The rig, the calibration, and whether the images are rectified, as two CameraInfo tell.

    P holds how the rectified images project, R how the camera turns to get there: x_rectified = R x.

    Args:
        rectified: whether the images are known to be.

    Raises:
        UserError: values that are no calibration.
    """
    left_p, right_p = (numbers(info, "p", 3, 4) for info in infos)
    if not left_p[0, 0] or not right_p[0, 0] or right_p[0, 3] == left_p[0, 3]:
        return None, None, rectified or None  # not calibrated, or each camera for itself
    turned = [numbers(info, "r", 3, 3) for info in infos]
    matrices = [numbers(info, "k", 3, 3) for info in infos]
    lenses = [tuple(numbers(info, "d")) for info in infos]
    ideal = all(
        not any(lens) and np.allclose(turn, np.eye(3), atol=1e-6) and np.allclose(matrix, p[:, :3], atol=1e-3)
        for lens, turn, matrix, p in zip(lenses, turned, matrices, (left_p, right_p), strict=True)
    )
    if rectified or ideal:
        return rig_of(left_p, right_p), None, True
    models: list[LensModel] = [lens_model(info.distortion_model or "plumb_bob", where=where) for info in infos]
    shift = np.array([(right_p[0, 3] - left_p[0, 3]) / right_p[0, 0], 0.0, 0.0])
    cameras = [CameraModel(matrix, lens, model) for matrix, lens, model in zip(matrices, lenses, models, strict=True)]
    size = (int(infos[0].height), int(infos[0].width))
    calibration = StereoCalibration(
        cameras[0], cameras[1], turned[1].T @ turned[0], turned[1].T @ shift, size if min(size) > 0 else None
    )
    return None, calibration, False


def describe_cameras(
    reader: Any, views: tuple[str, str], *, where: Path
) -> tuple[Rig | None, StereoCalibration | None, bool | None]:
    """What a bag tells about its cameras; see `cameras_of`. Unknown, with a warning, where that is no calibration."""
    rectified = all(RECTIFIED.search(view) for view in views)
    infos = first_infos(reader, views, where=where)
    if infos is None:
        return None, None, rectified or None
    try:
        return cameras_of(infos, rectified=rectified, where=where)
    except (UserError, ValueError) as error:
        log.warning("%s: its camera_info is no calibration: %s", where, error)
        return None, None, rectified or None
