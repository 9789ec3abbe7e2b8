"""The verb `show`: a label set as one page that opens anywhere: frames, disparity, confidence, verdicts.

The page holds its pictures and two scripts of its own and loads nothing; a content security policy forbids the rest.
Of a large set a sample is drawn, spread evenly over every verdict, so that what was dropped can be looked at too.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stereo.artifacts import write_bytes
from stereo.errors import UserError, require
from stereo.label_set import LabelledFrame, LabelSet
from stereo.pair import Image
from stereo.pictures import disparity_picture, gray_picture
from stereo.progress import progress
from teacher.config import ShowConfig

TEMPLATES = Path(__file__).parent / "show_page"
JPEG_QUALITY = 82
TRUSTED, NOT_LABELLED = "trusted", "not labelled"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Card:
    """What the page knows of one frame.

    Args:
        name, number: of the frame in its source.
        group: trusted, not trusted, or not labelled.
        reason: why it is not trusted, or was not labelled; empty otherwise.
        detail: the whole message, for frames that were not labelled.
        kept_pct, valid_pct: shares of its pixels; None where it was not labelled.
        largest_px: disparity of the last colour.
        pictures: left, disparity, confidence as data: links; empty where it was not labelled.
        wide: pictures of more than twice their height, better put below one another.
    """

    name: str
    number: int
    group: str
    reason: str
    detail: str = ""
    kept_pct: float | None = None
    valid_pct: float | None = None
    largest_px: float | None = None
    pictures: tuple[str, ...] = ()
    wide: bool = False


def verdict_of(line: dict[str, Any]) -> tuple[str, str]:
    """Group and reason of a line of the journal."""
    for key in ("skipped", "dropped"):
        if key in line:
            return NOT_LABELLED, str(line[key])
    reason = line.get("verdict")
    return ("not trusted", str(reason)) if reason else (TRUSTED, "")


def chosen(lines: Sequence[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """At most `limit` lines of every verdict, spread evenly, in the order they came."""
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, line in enumerate(lines):
        groups[verdict_of(line)].append(place)
    places: set[int] = set()
    for members in groups.values():
        count = min(limit, len(members))
        places.update(members[round(at)] for at in np.linspace(0, len(members) - 1, count))
    return [lines[place] for place in sorted(places)]


def picture(image: Image, width: int) -> str:
    """A picture, at most `width` px wide, as a data: link."""
    if image.shape[1] > width:
        height = max(1, round(image.shape[0] * width / image.shape[1]))
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
    done, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise UserError(f"OpenCV could not encode a {image.shape} picture as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def card_of(line: dict[str, Any], frame: LabelledFrame | None, width: int) -> Card:
    """The card of a frame.

    Args:
        line: of the journal.
        frame: what was labelled, None when nothing was.
        width: of its pictures, px.
    """
    group, reason = verdict_of(line)
    if frame is None:
        return Card(line["name"], line["frame"], group, reason, detail=str(line.get("detail", "")))
    valid = frame.disparity[np.isfinite(frame.disparity)]
    largest = float(np.percentile(valid, 99)) if valid.size else 1.0
    pictures = (frame.left, disparity_picture(frame.disparity, largest), gray_picture(frame.confidence))
    return Card(
        line["name"], line["frame"], group, reason,
        kept_pct=line["kept_pct"], valid_pct=line["valid_pct"], largest_px=round(largest, 1),
        pictures=tuple(picture(each, width) for each in pictures),
        wide=frame.left.shape[1] > 2 * frame.left.shape[0],
    )  # fmt: skip


def show(config: ShowConfig) -> Path:
    """Write the page; see `ShowConfig`.

    Raises:
        UserError: no label set there, or an altered one.
    """
    for option, value in (("limit", config.limit), ("width", config.width)):
        if value < 1:
            raise UserError(f"{value} is below 1", where=f"--{option}")
    labels = LabelSet.open(config.labels, untrusted=True)
    lines = list(labels.all_lines())
    places = {name: place for place, name in enumerate(labels.names)}
    drawn = chosen(lines, config.limit)
    cards = []
    with progress("show", len(drawn)) as ticker:
        for line in drawn:
            frame = labels.read(places[line["name"]]) if "files" in line else None
            cards.append(card_of(line, frame, config.width))
            ticker.advance()
    out = Path(config.out) if config.out else labels.path / "show.html"
    write_bytes(out, page(labels, lines, cards).encode())
    if len(drawn) < len(lines):
        log.info("drew %d of %d frames, spread over every verdict; --limit draws more", len(drawn), len(lines))
    return out


def page(labels: LabelSet, lines: Sequence[dict[str, Any]], cards: Sequence[Card]) -> str:
    """The page's HTML."""
    jinja2 = require("jinja2", hint="pip install 'stereodistill[report]'")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    script = (TEMPLATES / "show.js").read_text(encoding="utf-8")
    # "<" would let a frame's name end the script.
    data = json.dumps([asdict(card) for card in cards], allow_nan=False).replace("<", "\\u003c")
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for line in lines:
        counts[verdict_of(line)] += 1
    labelled = [line for line in lines if "files" in line]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    markup = jinja2.utils.markupsafe.Markup
    return environment.get_template("show.html.j2").render(
        title=labels.path.resolve().name,
        teacher=(labels.manifest.get("teacher") or {}).get("name", "unknown"),
        frames=len(lines),
        drawn=len(cards),
        labelled=len(labelled),
        mean_valid=sum(line["valid_pct"] for line in labelled) / len(labelled),
        mean_kept=sum(line["kept_pct"] for line in labelled) / len(labelled),
        keep_threshold=labels.keep_threshold,
        counts=sorted(counts.items(), key=lambda item: (item[0][0] != TRUSTED, -item[1])),
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        style=markup((TEMPLATES / "show.css").read_text(encoding="utf-8")),
        data=markup(data),
        script=markup(script),
    )
