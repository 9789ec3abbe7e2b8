"""Where each benchmark keeps its pairs and their truth: nothing is opened here, folders are only listed.

pairs       NAME/{left.png right.png disp_left_x256.png [noc.png]}
middlebury  [MiddEval3/]training{Q,H,F}/SCENE/{im0.png im1.png disp0GT.pfm mask0nocc.png}; other years: disp0.pfm
eth3d       two_view_training/SCENE/{im0.png im1.png}, two_view_training_gt/SCENE/{disp0GT.pfm mask0nocc.png}
kitti2012   training/{colored_0 colored_1 | image_0 image_1}/NNNNNN_10.png, training/{disp_occ disp_noc}
kitti2015   training/{image_2 image_3}/NNNNNN_10.png, training/{disp_occ_0 disp_noc_0}
sceneflow   [PART/]frames_{final,clean}pass/**/{left right}/NNNN.png, [PART/]disparity/**/left/NNNN.pfm
fsd         SCENE/dataset/data/{left/rgb right/rgb}/NAME.jpg, left/disparity/NAME.png
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from stereo.benchmarks import TRUTH_NAME
from stereo.image_sources import images_in
from stereo.source_kinds import both_in, folders

ETH3D_FOLDER = "two_view_"
# The truth files of a scene, the first that is there: MiddEval3's, and that of the 2014 and 2021 sets.
SCENE_TRUTHS = ("disp0GT.pfm", "disp0.pfm")
COLOUR_2012, GRAY_2012 = ("colored_0", "colored_1"), ("image_0", "image_1")


@dataclass(frozen=True)
class PairFiles:
    """The files of one pair; whether they exist is checked by whoever opens the set.

    Args:
        name: unique in its split.
        truth: disparity of the left view.
        noc: tells which pixels the right view sees too: a mask, or KITTI's second map of truth; None where unknown.
    """

    name: str
    left: Path
    right: Path
    truth: Path
    noc: Path | None = None


@dataclass(frozen=True)
class Split:
    """Pairs that are evaluated together.

    Args:
        benchmark: its name in reports, a key of `stereo.protocols.PROTOCOLS`.
        key: what an option calls it.
        label: what reports call it; empty where a benchmark has one split only.
    """

    benchmark: str
    key: str
    label: str
    files: tuple[PairFiles, ...]

    @property
    def has_truth(self) -> bool:
        """Whether any of its pairs has truth: the test splits of benchmarks have none."""
        return any(each.truth.is_file() for each in self.files)


def find_pairs(path: Path) -> list[Split]:
    """A folder of this project's pairs with truth, or one such pair."""
    found = [path] if (path / TRUTH_NAME).exists() else folders(path, "*")
    files = [
        PairFiles(each.name, each / "left.png", each / "right.png", each / TRUTH_NAME, existing(each / "noc.png"))
        for each in found
        if both_in(each, ("left.png", "right.png")) or (each / TRUTH_NAME).exists()
    ]
    return [Split("pairs", "pairs", "", tuple(files))] if files else []


def existing(path: Path) -> Path | None:
    """The path if a file is there."""
    return path if path.is_file() else None


def scenes_in(folder: Path) -> list[Path]:
    """Subfolders with `im0.png`; the folder itself when it is one."""
    return [each for each in (folder, *folders(folder, "*")) if (each / "im0.png").is_file()]


def scene_files(scene: Path, truth_folder: Path) -> PairFiles:
    """The files of one scene of Middlebury or ETH3D."""
    truths = [truth_folder / name for name in SCENE_TRUTHS]
    truth = next((each for each in truths if each.is_file()), truths[0])
    return PairFiles(scene.name, scene / "im0.png", scene / "im1.png", truth, existing(truth_folder / "mask0nocc.png"))


def is_eth3d_scene(scene: Path) -> bool:
    """ETH3D's scenes carry COLMAP's files, or lie in a folder with a name of its own."""
    return scene.parent.name.startswith(ETH3D_FOLDER) or any(
        (scene / name).is_file() for name in ("cameras.txt", "images.txt")
    )


def find_middlebury(path: Path) -> list[Split]:
    """Sizes Q, H and F of MiddEval3, or a folder of scenes of another year."""
    splits = []
    for folder in (path, *folders(path, "*"), *folders(path, "MiddEval3/*")):
        scenes = [each for each in scenes_in(folder) if each.parent == folder or each == path]
        scenes = [each for each in scenes if not is_eth3d_scene(each)]
        if not scenes:
            continue
        name = scenes[0].parent.name
        benchmark = "Middlebury v3" if name in ("trainingQ", "trainingH", "trainingF") else "Middlebury"
        key = folder.relative_to(path).as_posix() if folder != path else name
        splits.append(Split(benchmark, key, name, tuple(scene_files(each, each) for each in scenes)))
    return splits


def find_eth3d(path: Path) -> list[Split]:
    """The two-view part; its truth lies in a folder beside, or in the scenes themselves."""
    splits = []
    for folder in (path, *folders(path, f"{ETH3D_FOLDER}*")):
        files = []
        for scene in scenes_in(folder):
            if (scene.parent == folder or scene == path) and is_eth3d_scene(scene):
                beside = scene.parent.with_name(f"{scene.parent.name}_gt") / scene.name
                files.append(scene_files(scene, beside if beside.is_dir() else scene))
        if files:
            name = files[0].left.parent.parent.name
            splits.append(Split("ETH3D", name, name.removeprefix(ETH3D_FOLDER), tuple(files)))
    return splits


def kitti_part(part: Path, views: tuple[str, str], occ: str, noc: str) -> tuple[PairFiles, ...]:
    """The first frames of the pairs of one part; only those have truth."""
    folder_occ, folder_noc = part / occ, part / noc
    # With one of the two maps only, that one is the truth, and it tells its mask too.
    truth = folder_occ if folder_occ.is_dir() or not folder_noc.is_dir() else folder_noc
    return tuple(
        PairFiles(
            left.stem,
            left,
            part / views[1] / left.name,
            truth / left.name,
            folder_noc / left.name if folder_noc.is_dir() else None,
        )
        for left in images_in(part / views[0])
        if left.stem.endswith("_10")
    )


def find_kitti2012(path: Path) -> list[Split]:
    """KITTI 2012, in colour where that is there."""
    splits = []
    for part in (path, path / "training", path / "testing"):
        views = next((each for each in (COLOUR_2012, GRAY_2012) if both_in(part, each)), None)
        known = (part / "colored_0").is_dir() or any((part / name).is_dir() for name in ("disp_occ", "disp_noc"))
        if views and known:
            files = kitti_part(part, views, "disp_occ", "disp_noc")
            splits.append(Split("KITTI 2012", part.name, part.name, files))
    return [each for each in splits if each.files]


def find_kitti2015(path: Path) -> list[Split]:
    """KITTI 2015."""
    splits = []
    for part in (path, path / "training", path / "testing"):
        beside = ("disp_occ_0", "disp_noc_0", "calib_cam_to_cam")
        if both_in(part, ("image_2", "image_3")) and any((part / name).is_dir() for name in beside):
            files = kitti_part(part, ("image_2", "image_3"), "disp_occ_0", "disp_noc_0")
            splits.append(Split("KITTI 2015", part.name, part.name, files))
    return [each for each in splits if each.files]


def view_files(lefts: Iterable[Path], root: Path, truth: Path) -> tuple[PairFiles, ...]:
    """The pairs of some `left` folders below `root`; their truth lies at the same place below `truth`."""
    files = []
    for left in sorted(lefts, key=str):
        below = left.relative_to(root)
        name, right, true = below.parent.as_posix(), left.with_name("right"), truth / below
        for image in images_in(left):
            stem = image.stem
            files.append(
                PairFiles(f"{name}/{stem}".removeprefix("./"), image, right / image.name, true / f"{stem}.pfm")
            )
    return tuple(files)


def find_sceneflow(path: Path) -> list[Split]:
    """FlyingThings3D, Driving and Monkaa in both renderings, and the subset of FlyingThings3D made for DispNet."""
    splits = []
    for part in (path, *folders(path, "*")):
        above = "" if part == path else f"{part.name}/"
        for name in ("finalpass", "cleanpass"):
            frames, truth = part / f"frames_{name}", part / "disparity"
            if not frames.is_dir():
                continue
            for half in ("TRAIN", "TEST"):
                files = view_files(folders(frames, f"{half}/*/*/left"), frames, truth)
                key = f"{above}frames_{name}/{half}"
                splits.append(Split("FlyingThings3D", key, f"{name} {half}", files))
            if any((frames / half).is_dir() for half in ("TRAIN", "TEST")):
                continue
            for benchmark, pattern in (("Driving", "*/*/*/left"), ("Monkaa", "*/left")):
                files = view_files(folders(frames, pattern), frames, truth)
                splits.append(Split(benchmark, f"{above}frames_{name}", name, files))
        for half, name in ((half, name) for half in ("val", "train") for name in ("final", "clean")):
            frames = part / half / f"image_{name}"
            if (frames / "left").is_dir():
                files = view_files([frames / "left"], frames, part / half / "disparity")
                key = f"{above}{half}/image_{name}"
                splits.append(Split("FlyingThings3D subset", key, f"{name}pass {half}", files))
    return [each for each in splits if each.files]


def find_fsd(path: Path) -> list[Split]:
    """The data set of FoundationStereo, whole or one scene."""
    files = []
    for data in folders(path, "*/dataset/data", "dataset/data"):
        for left in images_in(data / "left/rgb") if (data / "left/rgb").is_dir() else ():
            name = f"{data.parent.parent.name}/{left.stem}"
            truth = data / "left/disparity" / f"{left.stem}.png"
            files.append(PairFiles(name, left, data / "right/rgb" / left.name, truth))
    return [Split("FSD", "fsd", "", tuple(files))] if files else []


@dataclass(frozen=True)
class Layout:
    """One way in which pairs and truth lie in a folder.

    Args:
        find: folder → its splits, empty when it is not of this layout.
        looked_for: in short, what makes a folder one of this layout.
        default: how the key of the split ends that is meant when none is named; empty when one must be named.
    """

    find: Callable[[Path], list[Split]]
    looked_for: str
    default: str = ""


LAYOUTS: dict[str, Layout] = {
    "pairs": Layout(find_pairs, f"NAME/{{left.png right.png {TRUTH_NAME}}}"),
    "middlebury": Layout(find_middlebury, "training{Q,H,F}/SCENE/{im0.png im1.png disp0GT.pfm}"),
    "eth3d": Layout(find_eth3d, "two_view_training/SCENE/im0.png, two_view_training_gt/SCENE/disp0GT.pfm"),
    "kitti2012": Layout(find_kitti2012, "training/{colored_0 colored_1 disp_occ}"),
    "kitti2015": Layout(find_kitti2015, "training/{image_2 image_3 disp_occ_0}"),
    "sceneflow": Layout(find_sceneflow, "frames_finalpass/**/left, disparity/**/left", "frames_finalpass/TEST"),
    "fsd": Layout(find_fsd, "SCENE/dataset/data/left/{rgb disparity}"),
}
