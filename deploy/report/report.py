"""`stereodistill report`: results files → report.html, report.md and results.csv.

The page is one file that needs no network: Plotly, pictures, style and scripts stand in it, and its content security
policy forbids everything else. It is a pure function of the results files and the pictures they name.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.config import ReportConfig
from deploy.report.compare import Comparison, compare
from deploy.report.entries import Entry, datasets, make_entries, mask_note, places, reduction_of
from deploy.report.markdown import markdown
from deploy.report.page_data import page_data
from deploy.report.pictures import gallery
from deploy.report.references import as_references
from deploy.report.sections import cost_lines, details, image_tables, overview_tables
from deploy.report.spreadsheet import spreadsheet
from deploy.report.studies import Study, lists_for, read_studies, tell_strangers
from deploy.report.tables import main_line
from deploy.report.text import label, number, place, size
from deploy.report.verdict import answers
from deploy.results import read_all
from deploy.summary import METRICS
from stereo.artifacts import write_bytes
from stereo.errors import UserError, require
from stereo.pictures import ERROR_COLOURS, ERROR_STEPS_PX, MISSING_COLOUR

INSTALL = "pip install 'stereodistill[report]'"
FOLDER = Path(__file__).parent
# What needs no Plotly works while Plotly is still being read.
SCRIPTS_BEFORE, SCRIPTS_AFTER = ("state.js", "budget.js", "table.js", "pictures.js", "start.js"), ("chart.js",)
REGRESSED = 3

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Extras:
    """What a page holds besides the entries.

    Args:
        comparison: with a baseline.
        studies: of quantisation.
        all_pictures: of every entry and image, however large the page becomes.
    """

    comparison: Comparison | None = None
    studies: Sequence[Study] = ()
    all_pictures: bool = False


def report(config: ReportConfig) -> Path | int:
    """The verb `report`. Returns the page's path, or the exit code for a regression or a measurement that was lost.

    Raises:
        UserError: a file that is no results file, no rows, or plotly or jinja2 missing.
    """
    if config.fail_on_regression and not config.baseline:
        raise UserError("there is nothing to be worse than", where="--fail-on-regression", fix="give --baseline")
    out, comparison = write_report(config)
    if comparison is None:
        return out
    for item, check in comparison.worse:
        log.warning("worse: %s, %s: %s → %s (%s)", label(item.entry), check.what, check.before, check.after,
                    check.change)  # fmt: skip
    for item, check in comparison.lost:
        log.warning("only in the baseline: %s, %s: %s → %s", label(item.entry), check.what, check.before, check.after)
    for name in comparison.gone:
        log.warning("only in the baseline: %s", name)
    log.info("%d regressions in %d variants, %d measurements and %d variants only in the baseline",
             len(comparison.worse), len(comparison.compared), len(comparison.lost), len(comparison.gone))  # fmt: skip
    if config.fail_on_regression and not comparison.is_passed:
        print(out)
        return REGRESSED
    return out


def write_report(config: ReportConfig) -> tuple[Path, Comparison | None]:
    """Write the report. Returns the page's path, and what was compared.

    Raises:
        UserError: as `report`.
    """
    out = Path(config.out)
    if out.suffix.lower() not in (".html", ".htm"):
        raise UserError("the report is an HTML page", where=f"--out {out}", fix="let its name end in .html")
    files, baseline = results_files(config)
    rows, older = read_all(files), read_all([baseline]) if baseline else []
    if names := words(config.references):
        both = as_references([*rows, *older], names)
        rows, older = both[: len(rows)], both[len(rows) :]
    entries = make_entries(rows)
    comparison = compare(entries, make_entries(older)) if baseline else None
    studies = read_studies(words(config.studies))
    tell_strangers(entries, studies)
    extras = Extras(comparison, studies, config.pictures == "all")
    write_bytes(out, page(config.title, entries, extras).encode())
    write_bytes(out.with_suffix(".md"), markdown(config.title, entries, comparison).encode())
    write_bytes(out.with_name("results.csv"), spreadsheet(entries).encode())
    return out, comparison


def words(text: str) -> list[str]:
    """What stands between the commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def results_files(config: ReportConfig) -> tuple[list[Path], Path | None]:
    """The files of the report, and the baseline, which is none of them.

    Raises:
        UserError: nothing but the baseline.
    """
    files = [in_folder(word) for word in config.results]
    if not config.baseline:
        return files, None
    baseline = in_folder(config.baseline)
    others = [file for file in files if file.resolve() != baseline.resolve()]
    if not others:
        raise UserError("there is only the baseline", where="--baseline", fix="give the results to compare with it too")
    return others, baseline


def in_folder(word: str) -> Path:
    """A file, or results.json of a folder."""
    path = Path(word)
    return path / "results.json" if path.is_dir() else path


def page(title: str, entries: Sequence[Entry], extras: Extras | None = None) -> str:
    """The HTML text.

    Raises:
        UserError: plotly or jinja2 is missing.
    """
    extras = extras or Extras()
    jinja2: Any = require("jinja2", hint=INSTALL)
    plotly: Any = require("plotly.offline", hint=INSTALL)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    trusted = jinja2.utils.markupsafe.Markup
    environment.filters.update(label=label, place=place, size=size, number=number, trusted=trusted)
    before, after = (
        "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in names)
        for names in (SCRIPTS_BEFORE, SCRIPTS_AFTER)
    )
    scripts = [before, plotly.get_plotlyjs(), after]
    found = datasets(entries)
    with_power = any(entry.power for entry in entries)
    shown = gallery(entries, everything=extras.all_pictures)
    return environment.get_template("report.html.j2").render(
        title=title,
        policy=policy(scripts),
        scripts=[trusted(script) for script in scripts],
        style=trusted((FOLDER / "style.css").read_text(encoding="utf-8")),
        data=trusted(script_json(page_data(entries, found))),
        answers=answers(entries),
        comparison=extras.comparison,
        newest=max(row.made_at for entry in entries for row in entry.rows)[:10] or "at an unknown time",
        metrics=list(METRICS.items()),
        datasets=[dataset_view(entries, index, name, images) for index, (name, images) in enumerate(found.items())],
        places=places(entries),
        lines=[main_line(entry, found, with_power=with_power) for entry in entries],
        costs=[(index, lines) for index, name in enumerate(found) if (lines := cost_lines(entries, name))],
        failing=overview_tables(entries, found),
        image_tables=image_tables(entries, found),
        gallery=shown,
        error_classes=error_classes(),
        details=[details(entry, entries, found, lists_for(entry, extras.studies)) for entry in entries],
    )


def dataset_view(
    entries: Sequence[Entry], index: int, name: str, images: Sequence[tuple[str, str]]
) -> dict[str, str | int]:
    """What the page says about a dataset."""
    reduction = reduction_of(entries, name, len(images))
    return {"index": index, "name": name, "masks": mask_note(images), "reduction": reduction}


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
