"""Pictures of a report as data: links, small enough that the page stays one file that opens quickly."""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from deploy.report.choice import worth_showing
from deploy.report.entries import Entry, datasets, fp32_of
from deploy.report.text import label
from deploy.result_pictures import FOLDER_SUFFIX, spread
from deploy.results import Pictures
from stereo.errors import UserError
from stereo.pair import Image, read_image

# Base64 adds a third; with Plotly's 4.9 MB the page stays below 8 MB.
BUDGET_BYTES = 1_900_000
WIDTHS_PX = (720, 560, 480, 400, 320, 240, 160)
JPEG_QUALITY = 85
# Each costs some ten milliseconds to read and to encode, for every image; `--pictures all` takes all.
MOST_ENTRIES = 16

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shot:
    """One picture with its caption.

    Args:
        source: a data: link.
    """

    source: str
    caption: str


@dataclass(frozen=True)
class Result:
    """What one entry made of an image.

    Args:
        beside: the numbers of the entries it wants to be seen beside: its FP32 variant.
    """

    entry: Entry
    epe_px: float | None
    disparity: Shot
    error: Shot
    beside: int | None


@dataclass(frozen=True)
class Scene:
    """All pictures of one image.

    Args:
        given: left image and truth.
    """

    dataset: str
    image: str
    given: tuple[Shot, Shot]
    results: tuple[Result, ...]


@dataclass(frozen=True)
class Gallery:
    """All pictures of a page.

    Args:
        left_out: to keep the page small.
        gone: names of the folders that lack pictures which a results file names.
    """

    scenes: list[Scene]
    left_out: list[str]
    gone: list[str]


def gallery(entries: Sequence[Entry], *, everything: bool = False) -> Gallery:
    """The pictures of a few images of each dataset; what cannot be read is warned of and left out.

    Args:
        everything: of all entries and all images, however large the page becomes.
    """
    wanted, left_out = [], []
    own = [entry for entry in entries if entry.accuracy_from is None and entry.pictures]
    shown = own if everything else pictured(entries)
    if len(shown) < len(own):
        left_out.append(f"{len(own) - len(shown)} variants that others beat in both latency and error")
    entries = shown
    for dataset, images in datasets(entries).items():
        keys = [(dataset, image) for image in dict.fromkeys(image for image, _ in images)]
        keys = [key for key in keys if any(key in entry.pictures for entry in entries)]
        chosen = keys if everything else spread(keys)
        wanted += chosen
        if len(chosen) < len(keys):
            left_out.append(f"{len(keys) - len(chosen)} more of {dataset}")
    paths = list(dict.fromkeys(path for key in wanted for path in paths_of(key, entries)))
    # Shrunk at once: full-size benchmarks have pictures of 18 MB each.
    pictures = {path: shrink(picture, WIDTHS_PX[0]) for path in paths if (picture := load(path)) is not None}
    if everything:
        encoded = {path: encode(picture, WIDTHS_PX[0]) for path, picture in pictures.items()}
    else:
        encoded = encode_all(pictures)
    wanted = [key for key in wanted if whole(key, entries, encoded)]
    kept, total = [], 0
    for key in wanted:
        total += sum(len(encoded[path]) for path in paths_of(key, entries) if path in encoded)
        if total > BUDGET_BYTES and kept and not everything:
            break
        kept.append(key)
    left_out += [f"{image} of {dataset}" for dataset, image in wanted[len(kept) :]]
    gone = tell_gone([path for path in paths if path not in pictures])
    return Gallery([scene(key, entries, encoded) for key in kept], left_out, gone)


def pictured(entries: Sequence[Entry]) -> list[Entry]:
    """The entries whose pictures are shown: undominated ones, references, and the FP32 variants of those."""
    chosen = worth_showing(entries, datasets(entries))
    bases = {base.number for entry in entries if entry.number in chosen and (base := fp32_of(entry, entries))}
    # An estimate that no other beats shows what its file did where it ran.
    lent = [entry.accuracy_rows for entry in entries if entry.number in chosen and entry.accuracy_from]
    own = [entry for entry in entries if entry.accuracy_from is None and entry.pictures]
    found = [entry for entry in own if entry.number in chosen | bases or entry.accuracy_rows in lent]
    found.sort(key=lambda entry: (entry.model.role != "reference", entry.number not in bases, entry.latency is None))
    kept = {entry.number for entry in found[:MOST_ENTRIES]}
    return [entry for entry in own if entry.number in kept]


def encode_all(pictures: Mapping[str, Image]) -> dict[str, bytes]:
    """All pictures at the largest of `WIDTHS_PX` that keeps to the budget, or at the smallest."""
    encoded: dict[str, bytes] = {}
    for width in WIDTHS_PX:
        encoded = {path: encode(picture, width) for path, picture in pictures.items()}
        if sum(map(len, encoded.values())) <= BUDGET_BYTES:
            break
    return encoded


def paths_of(key: tuple[str, str], entries: Sequence[Entry]) -> list[str]:
    """Every picture file of one image, each once."""
    found = [entry.pictures[key] for entry in entries if key in entry.pictures]
    return list(dict.fromkeys(p for item in found for p in (item.left, item.truth, item.disparity, item.error)))


def whole(key: tuple[str, str], entries: Sequence[Entry], known: Mapping[str, object]) -> list[tuple[Entry, Pictures]]:
    """The entries with all their pictures of one image.

    Args:
        known: has every picture that could be read.
    """
    found = [(entry, entry.pictures[key]) for entry in entries if key in entry.pictures]
    return [
        (entry, item) for entry, item in found if known.keys() >= {item.left, item.truth, item.disparity, item.error}
    ]


def load(path: str) -> Image | None:
    """Read a picture; None when it is gone or damaged: numbers need no pictures, so the page is made without."""
    try:
        return read_image(path)
    except UserError as error:
        log.debug("%s", error)
        return None


def tell_gone(paths: Sequence[str]) -> list[str]:
    """Warn of pictures that could not be read, once for each folder. Returns the folders' names."""
    folders: dict[Path, int] = {}
    for path in paths:
        parents = Path(path).parents
        folder = next((parent for parent in parents if parent.name.endswith(FOLDER_SUFFIX)), parents[0])
        folders[folder] = folders.get(folder, 0) + 1
    for folder, count in folders.items():
        log.warning("%s: %d of the pictures that a results file names are gone or damaged: left out; keep the folder "
                    "beside its results file, or evaluate again", folder, count)  # fmt: skip
    return list(dict.fromkeys(folder.name for folder in folders))


def shrink(picture: Image, width: int) -> Image:
    """The picture at most this wide."""
    if picture.shape[1] <= width:
        return picture
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA).astype(picture.dtype)


def encode(picture: Image, width: int) -> bytes:
    """JPEG of at most this width."""
    small = shrink(picture, width)
    done, data = cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise UserError(f"OpenCV could not encode a {small.shape} picture as JPEG")
    return data.tobytes()


def scene(key: tuple[str, str], entries: Sequence[Entry], encoded: dict[str, bytes]) -> Scene:
    """Compose the pictures of one image."""
    dataset, image = key

    def shot(path: str, caption: str) -> Shot:
        return Shot(f"data:image/jpeg;base64,{base64.b64encode(encoded[path]).decode()}", caption)

    found = whole(key, entries, encoded)
    first = found[0][1]
    results = []
    for entry, files in found:
        errors = next((item for item in entry.accuracy(dataset) if item.image == image), None)
        base = fp32_of(entry, entries)
        results.append(Result(
            entry, errors and errors.epe_px, shot(files.disparity, f"disparity of {image} by {label(entry)}"),
            shot(files.error, f"error on {image} of {label(entry)}"), base.number if base else None,
        ))  # fmt: skip
    given = (shot(first.left, f"left image of {image}"), shot(first.truth, f"true disparity of {image}"))
    return Scene(dataset, image, given, tuple(results))
