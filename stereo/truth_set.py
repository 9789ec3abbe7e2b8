"""Pairs with truth in any layout that is known, read one at a time: a benchmark of 4,000 pairs does not sit in memory.

`open_truth_set` finds out what a folder is (`stereo.benchmark_files`), chooses a split and sees that every file is
there before anything is evaluated; iterating reads pair after pair.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from stereo.artifacts import sha256_bytes
from stereo.benchmark_files import LAYOUTS, PairFiles, Split
from stereo.disparity_files import read_disparity, read_fsd_png, read_kitti_png, read_pfm
from stereo.errors import UserError
from stereo.pair import Disparity, Mask, StereoPair, decode_raw, read_bytes, read_image
from stereo.protocols import Protocol, protocol_of

# "noc or all" takes the noc mask of each pair that has one.
MaskChoice = Literal["noc", "all", "noc or all"]
# The value of a pixel that both views see in a benchmark's mask0nocc.png; 128 is occluded, 0 unknown.
VISIBLE = 255
# The RAFT-Stereo evaluation draws its 400 pairs of FlyingThings3D so.
DRAW_SEED = 1000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TruthSet:
    """Pairs with truth.

    Args:
        layout: a key of `LAYOUTS`.
        benchmark: its name in reports; None for a folder of this project's own pairs.
        split: of the benchmark, as reports call it; empty where it has one only.
        folder: name of the folder, which is what a set that is no benchmark is called.
        files: of its pairs, all there.
        of_all: how many pairs the split has, of which `files` may be a draw.
    """

    layout: str
    benchmark: str | None
    split: str
    folder: str
    files: tuple[PairFiles, ...]
    of_all: int

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[StereoPair]:
        """Read one pair after the other.

        Raises:
            UserError: a file is unreadable, or sizes differ.
        """
        return map(self.read, self.files)

    def read(self, files: PairFiles) -> StereoPair:
        """Read one pair of `files`. Raises UserError as iterating does."""
        return read_truth_pair(files, self.layout)

    @property
    def protocol(self) -> Protocol:
        """How the benchmark is counted."""
        return protocol_of(self.benchmark)

    @property
    def name(self) -> str:
        """Benchmark, split, and how many pairs were drawn: "FlyingThings3D finalpass TEST, 400 of 4370 images"."""
        name = " ".join(filter(None, (self.benchmark, self.split))) if self.benchmark else self.folder
        return name if len(self) == self.of_all else f"{name}, {len(self)} of {self.of_all} images"

    @property
    def masks(self) -> tuple[MaskChoice, ...]:
        """The masks under which each pair is counted."""
        if self.benchmark is None:
            return ("noc or all",)
        if self.files[0].noc is None:
            return ("all",)
        # One map of truth, that of the pixels both views see: nothing tells about the others.
        return ("noc",) if self.files[0].noc == self.files[0].truth else ("noc", "all")


def open_truth_set(path: Path | str, *, layout: str = "auto", split: str = "", images: int = 0) -> TruthSet:
    """Find out what a folder is and choose its pairs.

    Args:
        path: of a benchmark, of one of its parts, or of this project's pairs.
        layout: a key of `LAYOUTS`, where the folder could be more than one.
        split: which part, such as "trainingH" or "frames_finalpass/TEST"; empty where there is one, or a usual one.
        images: so many pairs only, drawn as the RAFT-Stereo evaluation draws; 0 takes all.

    Raises:
        UserError: no such folder, layout or split, several and none chosen, or a file of a pair is missing.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError("no such folder", where=path, fix="give the folder of a benchmark or of pairs with truth")
    if layout != "auto" and layout not in LAYOUTS:
        raise UserError(f"unknown layout '{layout}'", where="--layout", fix=f"known: auto, {', '.join(LAYOUTS)}")
    found = {name: each.find(path) for name, each in LAYOUTS.items() if layout in ("auto", name)}
    found = {name: splits for name, splits in found.items() if splits}
    with_truth = {name: splits for name, splits in found.items() if any(each.has_truth for each in splits)}
    kind = only_layout(path, with_truth or found, layout)
    chosen = choose_split(path, LAYOUTS[kind].default, found[kind], split)
    files = draw(chosen.files, images)
    check_files(path, chosen.benchmark, files)
    benchmark = None if kind == "pairs" else chosen.benchmark
    complete = protocol_of(benchmark).images.get(chosen.label)
    if complete is not None and len(chosen.files) != complete:
        log.warning(
            "%s %s: %d of the benchmark's %d pairs are here", benchmark, chosen.label, len(chosen.files), complete
        )
    return TruthSet(kind, benchmark, chosen.label, path.resolve().name, files, len(chosen.files))


def only_layout(path: Path, found: dict[str, list[Split]], layout: str) -> str:
    """The one layout that a folder has.

    Raises:
        UserError: none or several.
    """
    if len(found) == 1:
        return next(iter(found))
    if found:
        raise UserError(f"could be {' or '.join(found)}", where=path, fix=f"--layout {next(iter(found))}")
    names = LAYOUTS if layout == "auto" else [layout]
    looked_for = "; ".join(f"{name}: {LAYOUTS[name].looked_for}" for name in names)
    raise UserError("no pairs with truth in a known layout", where=path, fix=f"looked for {looked_for}")


def choose_split(path: Path, default: str, splits: Sequence[Split], wanted: str) -> Split:
    """The split that was asked for, the only one with truth, or the usual one.

    Raises:
        UserError: no such split, or several and none is usual.
    """
    keys = ", ".join(each.key for each in splits)
    if wanted:
        match = next((each for each in splits if wanted in (each.key, each.label)), None)
        if match is None:
            raise UserError(f"no split '{wanted}'", where=path, fix=f"--split: {keys}")
        return match
    usable = [each for each in splits if each.has_truth] or list(splits)
    usual = [each for each in usable if default and each.key.endswith(default)]
    if len(usable) > 1 and len(usual) == 1:
        log.info("%s: split %s, of %s", path, usual[0].key, keys)
        return usual[0]
    if len(usable) > 1:
        raise UserError(f"{len(usable)} splits with truth in there", where=path,
                        fix=f"choose with --split: {', '.join(each.key for each in usable)}")  # fmt: skip
    return usable[0]


def draw(files: tuple[PairFiles, ...], images: int) -> tuple[PairFiles, ...]:
    """So many pairs, in their order; all for 0.

    Raises:
        UserError: a negative number.
    """
    if images < 0:
        raise UserError(f"{images} images", where="--images", fix="give 0 for all, or how many")
    if not 0 < images < len(files):
        return files
    # Numpy's legacy generator, because it is the one that the evaluation draws with.
    kept = np.random.RandomState(DRAW_SEED).permutation(len(files))[:images]
    return tuple(files[index] for index in sorted(kept))


def check_files(path: Path, benchmark: str, files: Sequence[PairFiles]) -> None:
    """See that each pair has its right view, its truth, and a mask where others have one.

    Raises:
        UserError: some do not; a number on the rest would not be the benchmark's.
    """
    masked = benchmark != "pairs" and any(each.noc is not None for each in files)
    for what, missing in (
        ("left image", [each.left for each in files if not each.left.is_file()]),
        ("right image", [each.right for each in files if not each.right.is_file()]),
        ("true disparity", [each.truth for each in files if not each.truth.is_file()]),
        ("noc mask", [each.truth.with_name("mask0nocc.png") if each.noc is None else each.noc for each in files
                      if masked and (each.noc is None or not each.noc.is_file())]),
    ):  # fmt: skip
        if missing:
            kind = "pairs" if benchmark == "pairs" else f"pairs of {benchmark}"
            raise UserError(f"no {what} for {len(missing)} of {len(files)} {kind}, first {missing[0]}", where=path,
                            fix="complete the download, or choose a part that has truth")  # fmt: skip


def stamp_of(files: PairFiles) -> str:
    """Changes when one of the files of a pair is another or was written again."""
    paths = (files.left, files.right, files.truth, files.noc)
    stats = [(str(path), path.stat()) for path in paths if path is not None]
    return sha256_bytes(repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]).encode())[:16]


def read_truth_pair(files: PairFiles, layout: str) -> StereoPair:
    """Read images, truth and mask of one pair.

    Raises:
        UserError: a file is unreadable, or sizes differ.
    """
    left, right = read_image(files.left), read_image(files.right)
    truth, noc = read_truth(files, layout)
    for path, plane in ((files.truth, truth), (files.noc, noc)):
        if plane is not None and plane.shape != left.shape[:2]:
            raise UserError(
                f"is {plane.shape[1]}x{plane.shape[0]} but its image {left.shape[1]}x{left.shape[0]} (width x height)",
                where=path,
                fix="truth and images must be of one size: for Middlebury, both of Q, H or F",
            )
    return StereoPair(left, right, files.name, disparity=truth, noc=noc)


def read_truth(files: PairFiles, layout: str) -> tuple[Disparity, Mask | None]:
    """True disparity, float32 H×W px, and the mask of the pixels that both views see, where it is known."""
    if layout in ("kitti2012", "kitti2015"):
        truth = read_kitti_png(files.truth)
        if files.noc is None:
            return truth, None
        return truth, np.isfinite(truth if files.noc == files.truth else read_kitti_png(files.noc))
    if layout == "sceneflow":
        return left_view(read_pfm(files.truth), where=files.truth), None
    if layout == "fsd":
        return read_fsd_png(files.truth), None
    return read_disparity(files.truth), read_mask(files.noc, visible=1 if layout == "pairs" else VISIBLE)


def read_mask(path: Path | None, *, visible: int) -> Mask | None:
    """A mask picture as bool H×W: True where its value is at least `visible`."""
    if path is None:
        return None
    raw = decode_raw(read_bytes(path), where=path)
    return (raw if raw.ndim == 2 else raw[:, :, 0]) >= visible


def left_view(signed: Disparity, *, where: Path) -> Disparity:
    """SceneFlow's disparity of a left view as a positive one.

    The full data set stores it positive, copies of the subset made for DispNet negative: the sign of most pixels is the
    map's. Pixels of the other sign have no truth.
    """
    known = np.isfinite(signed)
    sign = -1.0 if np.count_nonzero(signed[known] < 0) > np.count_nonzero(signed[known] > 0) else 1.0
    disparity = (np.float32(sign) * signed).astype(np.float32)
    wrong = known & (disparity < 0)
    if wrong.any():
        log.warning("%s: %d pixels of the other sign than the rest have no truth", where, int(wrong.sum()))
        disparity[wrong] = np.nan
    return disparity
