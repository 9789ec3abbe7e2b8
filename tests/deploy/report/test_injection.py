"""Names that try to break out of the page, in the parser and in a real browser."""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.profile_records import CrossCheck, Interval, Layers, LayerTime, Power, Sample, Soak
from deploy.report.compare import compare
from deploy.report.entries import make_entries
from deploy.report.markdown import markdown
from deploy.report.report import Extras, page
from deploy.report.studies import read_study
from deploy.results import Difference, Pictures, ResultRow
from stereo.error_regions import RegionErrors
from stereo.pictures import write_png

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'`|[a](javascript:alert(3))"
REGIONS = (RegionErrors("texture", "textured", 900, 800, 0.5, 1.5), RegionErrors("texture", "flat", 9, 8, 5.0, 9.0))
DIFFERENCE = Difference("nano fp32", "cd" * 32, 2, 100, 0.01, 0.02, (-0.5, 0.0, 0.5), (1, 49, 48, 2))
POWER = Power("tegrastats", ("VDD_IN",), 11.5, 14.0, 5.0, 0.25, 61.0, 80.0, 40.0, True, ("hot",), 10.0, 460, 100,
              (Sample(0.0, 10.0, 50.0), Sample(1.0, 11.0, 51.0)))  # fmt: skip
SOAK = Soak(1.0, 60.0, 46.0, 0.04, (Interval(0.0, 20.0, 25.0, 400), Interval(10.0, 21.0, 25.0, 400)))
LAYERS = Layers(10.0, 30, 5, (LayerTime("layer", "Conv", 3.0),))
CROSS_CHECK = CrossCheck("trtexec", "trtexec --x", 1.0, 2.0, 3.0, 4.0)


def evil(value: Any, kind: Any = str) -> Any:
    """The same value with every free text replaced, however deep; numbers and the words that reading checks stay."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = typing.get_type_hints(type(value))
        changes = {
            field.name: evil(getattr(value, field.name), hints[field.name]) for field in dataclasses.fields(value)
        }
        return dataclasses.replace(value, **changes)
    if isinstance(value, tuple):
        return tuple(evil(item) for item in value)
    if isinstance(value, dict):
        return {f"runtime.{EVIL}": EVIL}
    return f"{EVIL} {value}" if isinstance(value, str) and typing.get_origin(kind) is not typing.Literal else value


@pytest.fixture
def evil_rows(rows: list[ResultRow], tmp_path: Path) -> list[ResultRow]:
    """Rows with everything that a row can hold, all of whose texts try to break out."""
    write_png(tmp_path / "a.png", np.full((8, 8, 3), 90, np.uint8))
    file = str(tmp_path / "a.png")
    full: list[ResultRow] = []
    for row in rows:
        row = dataclasses.replace(
            row, problems=("told",), difference=DIFFERENCE if row.accuracy else None,
            accuracy=tuple(dataclasses.replace(item, regions=REGIONS, benchmark="b", split="s", stamp="t")
                           for item in row.accuracy),
        )  # fmt: skip
        if row.latency:
            row = dataclasses.replace(row, power=POWER, soak=SOAK, layers=LAYERS, cross_check=CROSS_CHECK)
        changed = evil(row)
        pictures = tuple(Pictures(item.image, file, file, file, file) for item in changed.accuracy)
        full.append(dataclasses.replace(changed, pictures=pictures))
    return full


@pytest.fixture
def evil_page(tmp_path: Path, evil_rows: list[ResultRow]) -> str:
    """A page in which every free text tries to break out, compared with itself, with a study."""
    score = {"epe_px": 1.0, "moved_px": 0.5}
    part = {"name": EVIL, "convolutions": [EVIL], "alone": score}
    content = {"kind": EVIL, "made_from": {"student": f"{EVIL} {'5e' * 32}"}, "by": EVIL, "fp32": score,
               "everything": score, "parts": [part], "search": [{"taken_out": EVIL, **score}]}  # fmt: skip
    (tmp_path / "s.json").write_text(json.dumps(content))
    entries = make_entries(evil_rows)
    study = read_study(tmp_path / "s.json")
    return page(EVIL, entries, Extras(compare(entries, entries), [study], all_pictures=True))


def test_every_text_field_of_a_row_is_tried(evil_rows: list[ResultRow]) -> None:
    """A field that is added to results later, and is not in these rows, shows up here."""

    def kinds(value: Any) -> set[type]:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {type(value)}.union(*(kinds(getattr(value, field.name)) for field in dataclasses.fields(value)))
        return set().union(*map(kinds, value)) if isinstance(value, tuple) else set()

    def reachable(kind: Any) -> set[type]:
        if dataclasses.is_dataclass(kind):
            return {kind}.union(*map(reachable, typing.get_type_hints(kind).values()))  # type: ignore[arg-type]
        return set().union(*map(reachable, typing.get_args(kind)))

    assert set().union(*map(kinds, evil_rows)) == reachable(ResultRow)


def test_names_cannot_inject(evil_page: str, rendered: str, parse_page: Callable[[str], Any]) -> None:
    parsed = parse_page(evil_page)
    expected = {tag for tag, _ in parse_page(rendered).tags} | {"img", "figure", "figcaption", "ul", "li", "i"}
    expected |= {"svg", "path", "rect", "text", "polyline", "dl", "dt", "dd", "h3", "h4"}
    assert {tag for tag, _ in parsed.tags} <= expected
    assert len([tag for tag, _ in parsed.tags if tag == "script"]) == 4
    for tag, attributes in parsed.tags:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert tag != "img" or (attributes.get("src") or "data:image/jpeg;base64,").startswith(
            "data:image/jpeg;base64,"
        )
        assert not (attributes.get("href") or "").startswith("javascript")
    assert "alert(1)" in parsed.text
    assert EVIL in json.loads(parsed.raw[1])["entries"][0]["label"]
    assert "</script" not in parsed.raw[1]


def test_markdown_escapes_names_and_keeps_its_tables_whole(evil_rows: list[ResultRow]) -> None:
    entries = make_entries(evil_rows)
    text = markdown(EVIL, entries, compare(entries, entries))
    assert "<script" not in text
    assert not re.search(r"(?<!\\)\]\(", text)
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


@pytest.mark.slow
def test_nothing_breaks_out_in_a_real_browser(open_page: Callable[[str], Any], evil_page: str) -> None:
    """Script, chart and hover texts included."""
    tab = open_page(evil_page)
    assert tab.run("document.querySelectorAll('script').length") == 4
    assert tab.run("document.querySelectorAll('img[onerror], img[src=x]').length") == 0
    # Plotly makes elements of its texts: the point's hover is the last place where a name could become one.
    tab.run("Plotly.Fx.hover('plot', [{curveNumber: 1, pointNumber: 0}])")
    tab.wait("document.querySelector('#plot .hovertext') !== null")
    assert tab.run("document.querySelectorAll('#plot img, #plot script, #plot a[href^=javascript]').length") == 0
    assert (tab.console, tab.requests) == ([], [])


@pytest.mark.slow
def test_policy_stops_what_would_be_injected(open_page: Callable[[str], Any], rendered: str) -> None:
    """The counterpart: a script and a picture from elsewhere are refused, and the check above would see it."""
    added = "<script>document.title = 'injected'</script><img src='http://127.0.0.1:9/x.png'>"
    tab = open_page(rendered.replace("</main>", f"</main>{added}"))
    assert len(tab.console) >= 2
    assert tab.run("document.title") == "The title"
