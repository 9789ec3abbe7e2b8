"""Names that try to break out of the page, in the parser and in a real browser."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.report.entries import make_entries
from deploy.report.markdown import markdown
from deploy.report.report import page
from deploy.results import ImageAccuracy, ModelFacts, Pictures, Place, ResultRow
from stereo.pictures import write_png

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'`|[a](javascript:alert(3))"


def every_string_evil(kind: type, value: object) -> object:
    """The same dataclass with every free text replaced; numbers and the words that reading checks stay."""
    changes = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        old = getattr(value, field.name)
        if isinstance(old, str) and field.name not in ("role", "kind"):
            changes[field.name] = f"{EVIL} {field.name}"
        elif isinstance(old, dict):
            changes[field.name] = {f"runtime.{EVIL}": EVIL}
    return dataclasses.replace(value, **changes)  # type: ignore[type-var]


def evil_rows(rows: list[ResultRow], pictures: Pictures) -> list[ResultRow]:
    altered = []
    for row in rows:
        accuracy = tuple(every_string_evil(ImageAccuracy, item) for item in row.accuracy)
        altered.append(dataclasses.replace(
            every_string_evil(ResultRow, row),  # type: ignore[type-var]
            model=every_string_evil(ModelFacts, row.model), place=every_string_evil(Place, row.place),
            accuracy=accuracy, problems=(EVIL,), pictures=(pictures,) * len(accuracy),
        ))  # fmt: skip
    return altered


@pytest.fixture
def evil_page(tmp_path: Path, rows: list[ResultRow]) -> str:
    """A page in which every free text tries to break out."""
    write_png(tmp_path / "a.png", np.full((8, 8, 3), 90, np.uint8))
    file = str(tmp_path / "a.png")
    return page(EVIL, make_entries(evil_rows(rows, Pictures(EVIL, file, file, file, file))))


def test_names_cannot_inject(evil_page: str, rendered: str, parse_page: Callable[[str], Any]) -> None:
    parsed = parse_page(evil_page)
    expected = {tag for tag, _ in parse_page(rendered).tags} | {"img", "figure", "figcaption", "ul", "li", "i"}
    assert {tag for tag, _ in parsed.tags} <= expected
    assert len([tag for tag, _ in parsed.tags if tag == "script"]) == 3
    for tag, attributes in parsed.tags:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert tag != "img" or (attributes["src"] or "").startswith("data:image/jpeg;base64,")
        assert not (attributes.get("href") or "").startswith("javascript")
    assert "alert(1)" in parsed.text
    figures = json.loads(parsed.raw[1])
    hover = figures[0]["0:epe_px"]["data"][0]["hovertext"][0]
    assert "<script" not in hover
    assert "<img" not in hover
    assert "&lt;script&gt;" in hover


def test_markdown_escapes_names_and_keeps_its_tables_whole(tmp_path: Path, rows: list[ResultRow]) -> None:
    write_png(tmp_path / "a.png", np.full((8, 8, 3), 90, np.uint8))
    file = str(tmp_path / "a.png")
    text = markdown(EVIL, make_entries(evil_rows(rows, Pictures(EVIL, file, file, file, file))))
    assert "<script" not in text
    assert not re.search(r"(?<!\\)\]\(", text)
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def browse(browser: str, path: Path, profile_folder: Path) -> subprocess.CompletedProcess[str]:
    switches = "headless no-sandbox disable-gpu disable-background-networking no-first-run disable-dev-shm-usage"
    flags = [f"--{switch}" for switch in switches.split()]
    flags += ["--enable-logging=stderr", "--virtual-time-budget=5000", f"--user-data-dir={profile_folder}"]
    return subprocess.run([browser, *flags, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=180)


def console(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


@pytest.fixture
def browser() -> str:
    """A headless browser, or a skip."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no chromium or google-chrome on this machine")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("which", ["plain", "evil"])
def test_real_browser_draws_it_without_errors(
    tmp_path: Path, rendered: str, evil_page: str, which: str, browser: str, parse_page: Callable[[str], Any]
) -> None:
    path = tmp_path / "report.html"
    path.write_text({"plain": rendered, "evil": evil_page}[which], encoding="utf-8")
    done = browse(browser, path, tmp_path / "profile")
    # Blocked requests and refused scripts are console messages too, because of the page's own policy.
    assert console(done) == []
    drawn = parse_page(done.stdout)
    assert sum(tag == "svg" and "main-svg" in (a.get("class") or "") for tag, a in drawn.tags) >= 2
    assert not [a for _, a in drawn.tags if "onerror" in a]
    assert len([tag for tag, _ in drawn.tags if tag == "script"]) == 3
    pressed = [a.get("data-value") for tag, a in drawn.tags if tag == "button" and a.get("aria-pressed") == "true"]
    assert pressed[0] == "epe_px"


@pytest.mark.slow
def test_policy_stops_what_would_be_injected(tmp_path: Path, rendered: str, browser: str) -> None:
    """The counterpart: a script and a picture from elsewhere are refused, and the check above would see it."""
    path = tmp_path / "report.html"
    added = "<script>document.title = 'injected'</script><img src='http://127.0.0.1:9/x.png'>"
    path.write_text(rendered.replace("</main>", f"</main>{added}"), encoding="utf-8")
    done = browse(browser, path, tmp_path / "profile")
    assert len(console(done)) >= 2
    assert "<title>injected" not in done.stdout
