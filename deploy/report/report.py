"""`stereodistill report`: results files → report.html, report.md and results.csv.

The page is one file that needs no network: Plotly, pictures, style and script stand in it, and its content security
policy forbids everything else. It is a pure function of the results files and the pictures they name.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.config import ReportConfig
from deploy.report.charts import figure, left_out
from deploy.report.entries import Entry, datasets, make_entries, mask_note, reduction_of
from deploy.report.markdown import markdown
from deploy.report.pictures import scenes
from deploy.report.provenance import facts, sources
from deploy.report.spreadsheet import spreadsheet
from deploy.report.tables import image_cells, key_of, main_line
from deploy.report.text import label, number, place, size
from deploy.report.verdict import verdict
from deploy.results import ImageAccuracy, read_all
from deploy.summary import METRICS
from stereo.artifacts import write_bytes
from stereo.errors import UserError, require
from stereo.pictures import ERROR_COLOURS, ERROR_STEPS_PX, MISSING_COLOUR

INSTALL = "pip install 'stereodistill[report]'"
TEMPLATES = Path(__file__).parent
# A page of a benchmark's thousands of images would not open; results.json holds them all.
IMAGES_LISTED = 100


def report(config: ReportConfig) -> Path:
    """Write the report and return the page's path.

    Raises:
        UserError: a file that is no results file, no rows, or plotly or jinja2 missing.
    """
    out = Path(config.out)
    if out.suffix.lower() not in (".html", ".htm"):
        raise UserError("the report is an HTML page", where=f"--out {out}", fix="let its name end in .html")
    entries = make_entries(read_all(config.results))
    write_bytes(out, page(config.title, entries).encode())
    write_bytes(out.with_suffix(".md"), markdown(config.title, entries).encode())
    write_bytes(out.with_name("results.csv"), spreadsheet(entries).encode())
    return out


def page(title: str, entries: Sequence[Entry]) -> str:
    """The HTML text.

    Raises:
        UserError: plotly or jinja2 is missing, or a picture is gone.
    """
    jinja2: Any = require("jinja2", hint=INSTALL)
    plotly: Any = require("plotly.offline", hint=INSTALL)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(label=label, place=place, size=size, number=number)
    scripts = [plotly.get_plotlyjs(), environment.get_template("script.js.j2").render()]
    found = datasets(entries)
    devices = [
        device_view(device, [entry for entry in entries if entry.place.device == device], found)
        for device in dict.fromkeys(entry.place.device for entry in entries)
    ]
    shots, without_pictures = scenes(entries)
    return environment.get_template("report.html.j2").render(
        title=title,
        policy=policy(scripts),
        scripts=[jinja2.utils.markupsafe.Markup(script) for script in scripts],
        style=jinja2.utils.markupsafe.Markup(environment.get_template("style.css.j2").render()),
        figures=jinja2.utils.markupsafe.Markup(script_json([view["figures"] for view in devices])),
        verdict=verdict(entries),
        newest=max(row.made_at for entry in entries for row in entry.rows),
        metrics=list(METRICS.items()),
        datasets=[
            {
                "index": index,
                "name": name,
                "images": images,
                "masks": mask_note(images),
                "reduction": reduction_of(entries, name, len(images)),
            }
            for index, (name, images) in enumerate(found.items())
        ],
        devices=devices,
        per_image=per_image(entries, found),
        scenes=shots,
        without_pictures=without_pictures,
        error_classes=error_classes(),
        entries=[(entry, facts(entry), sources(entry)) for entry in entries],
    )


def device_view(device: str, entries: Sequence[Entry], found: dict[str, list[tuple[str, str]]]) -> dict[str, Any]:
    """Figures and table of one device; variants stand by runtime, references last."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        name = "reference points" if entry.model.role == "reference" else entry.place.runtime
        groups.setdefault(name, []).append(entry)
    figures = {
        key_of(index, metric): {
            **figure(entries, dataset, metric, images=len(images)),
            "left_out": left_out(entries, dataset, images=len(images)),
        }
        for index, (dataset, images) in enumerate(found.items())
        for metric in METRICS
    }
    tables = {name: [main_line(entry, found) for entry in members] for name, members in groups.items()}
    return {"name": device, "figures": figures, "groups": tables}


def per_image(entries: Sequence[Entry], found: dict[str, list[tuple[str, str]]]) -> list[dict[str, Any]]:
    """Per dataset, a table of its images' errors: a line for each image, a column for each entry."""
    tables = []
    for index, (dataset, images) in enumerate(found.items()):
        known = {
            entry.number: {(item.image, item.mask): item for item in accuracy}
            for entry in entries
            if (accuracy := entry.accuracy(dataset))
        }
        scored = [entry for entry in entries if entry.number in known]
        lines = [(key, image_cells(key, scored, known, index)) for key in worst(images, known.values())]
        tables.append({"index": index, "name": dataset, "entries": scored, "lines": lines, "images": len(images)})
    return tables


def worst(
    images: Sequence[tuple[str, str]], known: Iterable[Mapping[tuple[str, str], ImageAccuracy]]
) -> list[tuple[str, str]]:
    """All images where they are few, else those with the largest EPE of any entry, the worst first."""
    if len(images) <= IMAGES_LISTED:
        return list(images)
    errors = dict.fromkeys(images, 0.0)
    for accuracy in known:
        for key, item in accuracy.items():
            errors[key] = max(errors[key], float("inf") if item.epe_px is None else item.epe_px)
    return sorted(images, key=lambda key: -errors[key])[:IMAGES_LISTED]


def error_classes() -> list[tuple[str, str]]:
    """(colour, meaning) of the error pictures' legend."""
    bounds = [f"{bound:g}" for bound in ERROR_STEPS_PX]
    texts = [f"< {bounds[0]} px", *(f"{low}-{high} px" for low, high in itertools.pairwise(bounds))]
    texts += [f"> {bounds[-1]} px", "no prediction", "no truth"]
    colours = [*ERROR_COLOURS, MISSING_COLOUR, (0, 0, 0)]
    return [("#{:02x}{:02x}{:02x}".format(*colour), text) for colour, text in zip(colours, texts, strict=True)]


def script_json(value: Any) -> str:
    """JSON that no text in it can end the script element of."""
    text = json.dumps(value, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def policy(scripts: Sequence[str]) -> str:
    """A content security policy: pictures from data: links, and no script but these."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {allowed}"
