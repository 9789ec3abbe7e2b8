"""Stereo streams that are image files.

Two folders: `left/ right/`, KITTI's `image_0/ image_1/` or `image_2/ image_3/`, or any two; files are matched by name.
One folder: `left_NAME right_NAME`, `NAME_left NAME_right`, `NAME_l NAME_r`, or scenes `NAME/im0 NAME/im1`,
`NAME/left NAME/right`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from stereo.errors import UserError
from stereo.pair import StereoPair, decode_raw, read_bytes, to_rgb8
from stereo.rig_files import rig_beside
from stereo.source_options import SourceOptions
from stereo.sources import IMAGE_SUFFIXES, Frame, StereoSource

VIEW_FOLDERS = (
    ("left", "right"), ("Left", "Right"), ("image_left", "image_right"), ("image_2", "image_3"),
    ("image_0", "image_1"), ("image_02/data", "image_03/data"), ("image_00/data", "image_01/data"),
    ("cam0/data", "cam1/data"), ("cam0", "cam1"),
)  # fmt: skip
# Words for left and right, and where in a file's name they stand ({} is the word). The first scheme that pairs any two
# files is taken. Short words only count where nothing else can be meant: `im01` is a frame number, `lamp` is a lamp.
SUFFIX, PREFIX, ALONE = r"(?P<key>.+)[_\-.]{}", r"{}[_\-.]?(?P<key>.+)", r"(?P<key>){}"
PREFIX_OF_NUMBER = r"{}[_\-.]?(?P<key>\d.*)"
WORDS = (
    (("left", "right"), (SUFFIX, PREFIX, ALONE)),
    (("im0", "im1"), (SUFFIX, ALONE)),
    (("view1", "view5"), (SUFFIX, ALONE)),
    (("l", "r"), (SUFFIX, PREFIX_OF_NUMBER, ALONE)),
)
SCHEMES = tuple(
    (re.compile(form.format(left), re.IGNORECASE), re.compile(form.format(right), re.IGNORECASE))
    for (left, right), forms in WORDS
    for form in forms
)

Files = dict[str, Path]


def images_in(folder: Path) -> list[Path]:
    """Image files of a folder by suffix, sorted by name, hidden ones left out.

    Of a million files only the names are looked at and compared, which a folder tells without opening any.
    """
    with os.scandir(folder) as entries:
        names = sorted(
            entry.name
            for entry in entries
            if entry.name.lower().endswith(IMAGE_SUFFIXES) and not entry.name.startswith(".") and entry.is_file()
        )
    return [folder / name for name in names]


def view_folders(path: Path) -> tuple[Path, Path] | None:
    """The two folders of the views in a folder, if its naming is known."""
    for left, right in VIEW_FOLDERS:
        if (path / left).is_dir() and (path / right).is_dir():
            return path / left, path / right
    return None


def by_scheme(files: Iterable[Path]) -> tuple[Files, Files]:
    """Sort files into views by the first naming scheme that pairs any two of them."""
    files = list(files)
    for left_pattern, right_pattern in SCHEMES:
        views: tuple[Files, Files] = ({}, {})
        for view, pattern in zip(views, (left_pattern, right_pattern), strict=True):
            for path in files:
                match = pattern.fullmatch(path.stem)
                if match:
                    view[match["key"]] = path
        if views[0].keys() & views[1].keys():
            return views
    return {}, {}


def by_scene(folder: Path) -> tuple[Files, Files]:
    """The pair of each subfolder, under the subfolder's name."""
    views: tuple[Files, Files] = ({}, {})
    for scene in sorted(path for path in folder.iterdir() if path.is_dir()):
        found = by_scheme(images_in(scene))
        for view, files in zip(views, found, strict=True):
            # More than one pair in a scene (exposures, lights): each becomes a frame of its own.
            for key, path in files.items():
                view[f"{scene.name}_{key}" if key else scene.name] = path
    return views


def problem_of(error: UserError) -> str:
    """The kind of problem, for counting."""
    if "no such image" in error.what:
        return "image missing"
    if "but right is" in error.what:
        return "views differ in size"
    return "image unreadable"


class ImagePairs(StereoSource):
    """Pairs of image files; a frame whose one view is missing, or unreadable, is a frame with a problem.

    Args:
        kind: "two_folders", "image_folder", or a data set's.
        folders: where they come from.
        left, right: frame name → file.
    """

    def __init__(self, kind: str, folders: list[Path], left: Files, right: Files) -> None:
        self.kind, self._folders, self._left, self._right = kind, folders, left, right
        self._names = sorted(left.keys() | right.keys())
        # Names become file names of the label set, so they are made plain, and must not clash.
        safe = [re.sub(r"[^\w.\-]", "_", key) or "pair" for key in self._names]
        clash = len(set(safe)) < len(safe)
        self._safe = [f"{number:06d}_{name}" if clash else name for number, name in enumerate(safe)]
        if not left.keys() & right.keys():
            raise UserError(
                f"no left and right image belong together ({len(left)} left, {len(right)} right)",
                where=folders[0],
                fix="name them left/NAME.png right/NAME.png, or NAME_left.png NAME_right.png",
            )

    @classmethod
    def open_two(cls, path: Path, right: Path | None, options: SourceOptions) -> ImagePairs:
        """See `stereo.sources.OPENERS`."""
        return cls.two_folders(path, right)

    @classmethod
    def open_folder(cls, path: Path, right: Path | None, options: SourceOptions) -> ImagePairs:
        """See `stereo.sources.OPENERS`."""
        return cls.image_folder(path)

    @classmethod
    def two_folders(cls, path: Path, right: Path | None, *, kind: str = "two_folders") -> ImagePairs:
        """Match by file name without suffix. A KITTI `calib.txt` beside the folders gives the rig.

        Args:
            path: the left folder; or, without `right`, the folder that holds both.
            kind: what the source calls itself; other kinds bring their own rig.
        """
        folders = (path, right) if right is not None else view_folders(path)
        if folders is None:
            known = ", ".join("/".join(pair) for pair in VIEW_FOLDERS)
            raise UserError("no two view folders in there", where=path, fix=f"known names: {known}; or use --right")
        left_files, right_files = ({image.stem: image for image in images_in(folder)} for folder in folders)
        pairs = cls(kind, list(folders), left_files, right_files)
        if kind == "two_folders":
            pairs.rig = rig_beside(folders[0])
        return pairs

    @classmethod
    def image_folder(cls, path: Path) -> ImagePairs:
        """Match by naming scheme, in the folder itself or scene by scene."""
        left, right = by_scheme(images_in(path))
        if not left:
            left, right = by_scene(path)
        return cls("image_folder", [path], left, right)

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        return self._safe[index]

    def paths(self) -> list[Path]:
        return self._folders

    def read(self, index: int) -> Frame:
        key, name = self._names[index], self.name(index)
        for side, files in (("left", self._left), ("right", self._right)):
            if key not in files:
                return Frame(index, name, reason="image missing", problem=f"no {side} image for '{key}'")
        paths = self._left[key], self._right[key]
        try:
            raw = [decode_raw(read_bytes(path), where=path) for path in paths]
            left, right = (to_rgb8(image, where=path) for image, path in zip(raw, paths, strict=True))
            pair = StereoPair(left, right, name, rig=self.rig)
        except UserError as error:
            return Frame(index, name, reason=problem_of(error), problem=str(error))
        plain = all(image.dtype == np.uint8 and (image.ndim == 2 or image.shape[2] == 3) for image in raw)
        return Frame(index, name, pair, files=paths if plain else None)
