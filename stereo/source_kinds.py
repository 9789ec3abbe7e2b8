"""What kind of stereo source a path is, told from the names of the files in it; nothing is opened."""

from __future__ import annotations

import os
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

from stereo.errors import UserError
from stereo.sources import IMAGE_SUFFIXES, OPENERS, Kind

BAG_SUFFIXES = (".bag", ".mcap", ".db3")
FILES_ONLY: tuple[Kind, ...] = ("side_by_side_video", "two_videos")
TWO_PATHS: tuple[Kind, ...] = ("two_folders", "two_videos")
GRAY, COLOUR = ("image_00", "image_01"), ("image_02", "image_03")
SHORT_GRAY, SHORT_COLOUR = ("image_0", "image_1"), ("image_2", "image_3")


def folders(path: Path, *patterns: str) -> list[Path]:
    """The folders below a path that match any of some patterns, sorted.

    A million images beside them cost a look at each name, not at each file.
    """
    found: set[Path] = set()
    for pattern in patterns:
        level = [path]
        for part in pattern.split("/"):
            level = [
                Path(entry.path)
                for folder in level
                for entry in os.scandir(folder)
                if fnmatchcase(entry.name, part) and entry.is_dir()
            ]
        found.update(level)
    return sorted(found)


def both_in(path: Path, names: tuple[str, str]) -> bool:
    """Whether both folders (or files) are in a folder."""
    return all((path / name).exists() for name in names)


def is_bag(path: Path) -> bool:
    """A ROS 2 recording: a folder with `metadata.yaml` beside its storage; or one with nothing but bags."""
    if (path / "metadata.yaml").is_file():
        return any(".db3" in each.name or ".mcap" in each.name for each in path.iterdir())
    return {each.suffix for each in path.iterdir()} - {".yaml"} in ({suffix} for suffix in BAG_SUFFIXES)


def is_euroc(path: Path) -> bool:
    """A sequence of EuRoC MAV, or its `mav0`."""
    return any(both_in(each, ("cam0/data.csv", "cam1/data.csv")) for each in (path, path / "mav0"))


def is_raw_drive(path: Path) -> bool:
    """A drive of KITTI raw."""
    return any(both_in(path, (f"{left}/data", f"{right}/data")) for left, right in (COLOUR, GRAY))


def is_kitti_raw(path: Path) -> bool:
    """KITTI raw: a drive whose calibration is one folder up, or a day or the whole set, with its drives."""
    if is_raw_drive(path):
        return (path.parent / "calib_cam_to_cam.txt").exists()
    return bool(folders(path, "*_drive_*", "*/*_drive_*"))


def is_odometry_sequence(path: Path) -> bool:
    """A sequence of KITTI odometry."""
    return (path / "calib.txt").is_file() and any(both_in(path, names) for names in (SHORT_COLOUR, SHORT_GRAY))


def is_kitti_odometry(path: Path) -> bool:
    """KITTI odometry: a sequence, or the folder that holds them."""
    return is_odometry_sequence(path) or any(path.glob("sequences/*/calib.txt"))


def is_kitti_stereo(path: Path) -> bool:
    """KITTI 2012 or 2015 stereo, whole or one part."""
    return any(
        any(both_in(part, names) for names in (SHORT_COLOUR, SHORT_GRAY, ("colored_0", "colored_1")))
        and any((part / name).is_dir() for name in ("calib_cam_to_cam", "calib", "disp_occ_0", "disp_occ"))
        for part in (path, path / "training", path / "testing")
    )


def scenes_of(path: Path) -> list[Path]:
    """Scenes with `im0 im1 calib.txt` in a folder or one level down; the folder itself may be one."""
    found = [path, *folders(path, "*"), *folders(path, "*/*")]
    return [each for each in found if (each / "calib.txt").is_file() and both_in(each, ("im0.png", "im1.png"))]


def is_eth3d(path: Path) -> bool:
    """ETH3D two-view: scenes like Middlebury's, in folders of its own names or with COLMAP's files beside."""
    return any(
        any((scene / name).exists() for name in ("cameras.txt", "images.txt"))
        or scene.parent.name.startswith("two_view_")
        for scene in scenes_of(path)[:1]
    )


def is_sceneflow(path: Path) -> bool:
    """FlyingThings3D, Driving or Monkaa, or all of them in one folder."""
    names = ("frames_finalpass", "frames_cleanpass")
    return path.name in names or any(any(path.glob(f"{level}{name}")) for name in names for level in ("", "*/"))


# In this order, because some forms hold others: the more particular comes first.
FOLDERS: tuple[tuple[Kind, Callable[[Path], bool]], ...] = (
    ("bag", is_bag),
    ("euroc", is_euroc),
    ("kitti_raw", is_kitti_raw),
    ("kitti_stereo", is_kitti_stereo),
    ("kitti_odometry", is_kitti_odometry),
    ("eth3d", is_eth3d),
    ("middlebury", lambda path: bool(scenes_of(path))),
    ("sceneflow", is_sceneflow),
)


def check_paths(path: Path, right: Path | None) -> None:
    """Raises UserError where nothing is, or a single image."""
    for each in (path, right):
        if each is not None and not each.exists():
            raise UserError("no such source", where=each, fix="give a folder of images, a video file or a bag")
        if each is not None and each.is_file() and each.suffix.lower() in IMAGE_SUFFIXES:
            raise UserError("is a single image", where=each, fix="give the folder it is in")


def find_kind(path: Path, right: Path | None) -> Kind:
    """What a path (and a second one for the right view) is.

    Raises:
        UserError: nothing there, or the two do not go together.
    """
    check_paths(path, right)
    if right is not None:
        if right.is_dir() != path.is_dir():
            form = "folder" if path.is_dir() else "file"
            raise UserError(f"the left view is a {form}, so this must be one too", where=right)
        return "two_folders" if path.is_dir() else "two_videos"
    if path.is_file():
        return "bag" if path.suffix.lower() in BAG_SUFFIXES else "side_by_side_video"
    for kind, matches in FOLDERS:
        if matches(path):
            return kind
    from stereo.image_sources import view_folders

    return "two_folders" if view_folders(path) else "image_folder"


def check_kind(kind: Kind, path: Path, right: Path | None) -> None:
    """See that a path can be of the kind that was asked for.

    Raises:
        UserError: nothing there, a file instead of a folder, or a view too many or too few.
    """
    check_paths(path, right)
    if kind not in OPENERS:
        raise UserError(f"unknown kind '{kind}'", where="--source.kind", fix=f"known: auto, {', '.join(OPENERS)}")
    found = find_kind(path, right)
    fix = f"leave --source.kind out, or use {found}"
    if kind in TWO_PATHS and right is None and kind != found:
        raise UserError(f"kind {kind} needs the right view", where=path, fix="give it with --right")
    if right is not None and kind not in TWO_PATHS:
        raise UserError(f"kind {kind} holds both views", where=right, fix="leave --right out")
    if kind != "bag" and (kind in FILES_ONLY) != path.is_file():
        raise UserError(f"is not of kind {kind}", where=path, fix=fix)
