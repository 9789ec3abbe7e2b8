"""Benchmarks as stereo streams: Middlebury, ETH3D, KITTI 2012 and 2015, SceneFlow. Their images are rectified.

    middlebury    PART/SCENE/{im0.png im1.png calib.txt}, or view1 view5, or im2 im6 of older years
    eth3d         two_view_PART/SCENE/{im0.png im1.png calib.txt}
    kitti_stereo  PART/image_2 PART/image_3 (2015), PART/colored_0 PART/colored_1 (2012), gray too; frame NN_10, NN_11
    sceneflow     frames_finalpass/**/left frames_finalpass/**/right, of one of its three parts or of all

Labels of a benchmark are for comparing teachers; the truth itself is read by `stereo.benchmarks`.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from stereo.errors import UserError
from stereo.image_sources import Files, ImagePairs, images_in
from stereo.kitti_sources import chosen_cameras
from stereo.pair import Rig
from stereo.rig_files import kitti_rig, middlebury_rig, rectified_rig
from stereo.source_kinds import SHORT_COLOUR, SHORT_GRAY, both_in, folders
from stereo.source_options import SourceOptions
from stereo.sources import Frame, StereoSource

OLD_COLOUR = ("colored_0", "colored_1")
SCENE_PAIRS = (("im0", "im1"), ("view1", "view5"), ("im2", "im6"))

log = logging.getLogger(__name__)


class BenchmarkPairs(ImagePairs):
    """Pairs of a benchmark, each with a rig of its own where that is known.

    Args:
        kind, folder, left, right: see `ImagePairs`.
        rigs: frame name → file that tells its rig.
        read_rig: reads such a file.
    """

    rectified = True

    def __init__(
        self, kind: str, folder: Path, left: Files, right: Files, *, rigs: Files | None = None, form: str = "middlebury"
    ) -> None:
        super().__init__(kind, [folder], left, right)
        self._rigs, self._form = rigs or {}, form
        found = {name: self._rig_of(name) for name in sorted(self._rigs)[:1]}
        # One rig for all would be wrong; where there is one pair only, it is the source's.
        self.rig = next(iter(found.values()), None) if len(self._names) == 1 else None

    def _rig_of(self, key: str) -> Rig | None:
        path = self._rigs.get(key)
        if path is None:
            return None
        try:
            if self._form == "middlebury":
                return middlebury_rig(path)
            colour = self._form.endswith("colour")
            return rectified_rig(path, colour=colour) if "2015" in self._form else kitti_rig(path, colour=colour)
        except UserError as error:
            log.warning("the rig stays unknown: %s", error)
            return None

    def read(self, index: int) -> Frame:
        frame = super().read(index)
        if frame.pair is not None:
            frame.pair.rig = self._rig_of(self._names[index])
        return frame


def scene_files(path: Path, kind: str) -> tuple[Files, Files, Files]:
    """Left, right and calibration file of each scene in a folder, or one or two levels down.

    Raises:
        UserError: no scenes in there.
    """
    left: Files = {}
    right: Files = {}
    rigs: Files = {}
    for scene in [path, *folders(path, "*"), *folders(path, "*/*")]:
        images = {image.stem: image for image in images_in(scene)}
        names = next((pair for pair in SCENE_PAIRS if images.keys() >= {*pair}), None)
        if names is None:
            continue
        key = "_".join(scene.relative_to(path).parts) or scene.name
        left[key], right[key] = images[names[0]], images[names[1]]
        if (scene / "calib.txt").is_file():
            rigs[key] = scene / "calib.txt"
    if not left:
        wanted = ", ".join("/".join(pair) for pair in SCENE_PAIRS)
        raise UserError(f"no scenes of {kind} in there", where=path, fix=f"expected SCENE/ with {wanted}")
    return left, right, rigs


def open_middlebury(path: Path, right: Path | None, options: SourceOptions) -> StereoSource:
    """Scenes of Middlebury, of any year. Raises UserError where none are."""
    folder = part_of(path, options, [each.name for each in folders(path, "*")])
    left, right_files, rigs = scene_files(folder, "Middlebury")
    return BenchmarkPairs("middlebury", folder, left, right_files, rigs=rigs)


def open_eth3d(path: Path, right: Path | None, options: SourceOptions) -> StereoSource:
    """Scenes of ETH3D two-view. Raises UserError where none are."""
    folder = part_of(path, options, [each.name for each in folders(path, "two_view_*")])
    left, right_files, rigs = scene_files(folder, "ETH3D")
    return BenchmarkPairs("eth3d", folder, left, right_files, rigs=rigs)


def part_of(path: Path, options: SourceOptions, parts: list[str]) -> Path:
    """The folder of the part that the options name, else the whole.

    Raises:
        UserError: no such part.
    """
    part = options.benchmark_part
    if part is None:
        return path
    if part not in parts or not (path / part).is_dir():
        raise UserError(
            f"no part '{part}'", where=path, fix=f"--source.benchmark_part: {', '.join(parts) or 'leave it out'}"
        )
    return path / part


def open_kitti_stereo(path: Path, right: Path | None, options: SourceOptions) -> StereoSource:
    """One part of KITTI 2012 or 2015 stereo, with a rig for each frame.

    Raises:
        UserError: not that layout, or two parts and none chosen.
    """

    def is_part(folder: Path) -> bool:
        return any(both_in(folder, names) for names in (SHORT_COLOUR, SHORT_GRAY, OLD_COLOUR))

    parts = [name for name in ("training", "testing") if is_part(path / name)]
    folder = path if is_part(path) else part_of(path, options, parts)
    if not is_part(folder):
        if len(parts) != 1:
            found = f"both {' and '.join(parts)}" if parts else "no image_2/image_3 or colored_0/colored_1"
            raise UserError(f"{found} in there", where=path, fix="choose with --source.benchmark_part training")
        folder = path / parts[0]
    colour_names = OLD_COLOUR if both_in(folder, OLD_COLOUR) else SHORT_COLOUR
    left, right_folder = chosen_cameras(folder, options.camera, colour_names, SHORT_GRAY)
    views = [{image.stem: image for image in images_in(each)} for each in (left, right_folder)]
    newer = (folder / "calib_cam_to_cam").is_dir()
    calibrations = folder / ("calib_cam_to_cam" if newer else "calib")
    files = {name: calibrations / f"{re.sub(r'_1[01]$', '', name)}.txt" for name in views[0]}
    rigs = {name: file for name, file in files.items() if file.is_file()}
    form = ("2015 " if newer else "2012 ") + ("colour" if left.name == colour_names[0] else "gray")
    return BenchmarkPairs("kitti_stereo", folder, *views, rigs=rigs, form=form)


def open_sceneflow(path: Path, right: Path | None, options: SourceOptions) -> StereoSource:
    """Frames of SceneFlow in one rendering. Its rig is in units of Blender, not metres, and is left out.

    Raises:
        UserError: no frames of that rendering in there.
    """
    name = f"frames_{options.render_pass}"
    root = part_of(path, options, [each.name for each in folders(path, "*")])
    roots = [root] if root.name == name else folders(root, name, f"*/{name}")
    left: Files = {}
    right_files: Files = {}
    for each in roots:
        for folder in sorted(each.rglob("left")):
            for files, view in ((left, folder), (right_files, folder.with_name("right"))):
                if view.is_dir():
                    key = "_".join(folder.parent.relative_to(root).parts)
                    files.update({f"{key}_{image.stem}": image for image in images_in(view)})
    if not left:
        found = ", ".join([each.name for each in folders(path, "*")][:5]) or "no folders"
        raise UserError(f"no {name}/**/left in there, only {found}", where=path, fix="choose with --source.render_pass")
    return BenchmarkPairs("sceneflow", root, left, right_files)
