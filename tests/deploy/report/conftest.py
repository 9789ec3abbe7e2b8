"""Rows as profile and evaluate write them, without running anything."""

from __future__ import annotations

import dataclasses
import html.parser
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.report.entries import make_entries
from deploy.report.report import page
from deploy.results import ImageAccuracy, Latency, Memory, ModelFacts, Place, ResultRow

STUDENT = "5e" * 32


@pytest.fixture(scope="session")
def make_row() -> Callable[..., ResultRow]:
    """make_row(variant, precision, runtime, hint, p50=ms | None, epe=[px per image] | None, **changes) → one row.

    `changes` are fields of model, place or row by name; the sha256 follows from variant and precision.
    """

    def make(
        variant: str = "nano",
        precision: str = "fp32",
        runtime: str = "openvino",
        hint: str = "f32",
        *,
        p50: float | None = None,
        ratio: float | None = None,
        epe: list[float | None] | None = None,
        dataset: str = "pairs",
        **changes: Any,
    ) -> ResultRow:
        digest = (f"{variant}{precision}".encode().hex() + "0" * 64)[:64]
        name = " ".join(filter(None, (variant, precision)))
        model = ModelFacts(name, f"{variant}/{precision}.onnx", digest, 2_500_000, "nano", precision, 192, 2, STUDENT)
        place = Place(runtime, "2026.4", hint, "a board", 1, None, 480, 640, {})
        row = ResultRow(model, place, commit="c0ffee", tools={"numpy": "2"}, command="stereodistill profile",
                        made_at="2026-01-01T00:00:00+00:00")  # fmt: skip
        if p50 is not None:
            row = dataclasses.replace(
                row, latency=Latency(p50, 1.1 * p50, 1.3 * p50, p50, 50, 5, ratio), memory=Memory(300.0, 123.0)
            )
        if epe is not None:
            images = [
                ImageAccuracy(dataset, f"image {index}", "noc", 480, 640, 1.0, value, 9.0, 5.0, 3.0, 2.0, None, None,
                              1000, 0.0 if value is None else 100.0)
                for index, value in enumerate(epe)
            ]  # fmt: skip
            row = dataclasses.replace(row, accuracy=tuple(images))
        for name, value in changes.items():
            for part in ("model", "place"):
                holder = getattr(row, part)
                if name in {item.name for item in dataclasses.fields(holder)}:
                    row = dataclasses.replace(row, **{part: dataclasses.replace(holder, **{name: value})})
                    break
            else:
                row = dataclasses.replace(row, **{name: value})
        return row

    return make


@pytest.fixture(scope="session")
def rows(make_row: Callable[..., ResultRow]) -> list[ResultRow]:
    """Two precisions on two runtimes, BF16, a teacher without latency, SGBM that leaves pixels open, two boards."""
    sgbm = make_row("SGBM", runtime="opencv", hint="int16", epe=[0.7, 0.9, 1.4], role="reference", precision=None,
                    source_sha256=None, path=None, size_bytes=None, sha256=None, max_disp=None, iterations=None,
                    preset=None, height=None, width=None)  # fmt: skip
    holes = tuple(dataclasses.replace(item, coverage_pct=80.0) for item in sgbm.accuracy)
    return [
        make_row(p50=200.0, ratio=1.0),
        make_row(epe=[1.0, 2.0, 3.0]),
        make_row(precision="int8", p50=95.0, ratio=0.47),
        make_row(precision="int8", epe=[1.1, 2.1, 3.25]),
        make_row(hint="bf16", p50=60.0, ratio=0.3),
        make_row(hint="bf16", epe=[1.0, 2.0, 3.1]),
        make_row(runtime="onnxruntime", p50=330.0),
        make_row(runtime="onnxruntime", epe=[1.0, 2.0]),
        make_row(p50=30.0, device="another board"),
        make_row("teacher", epe=[0.5, 0.6, 0.7], runtime="onnxruntime", role="reference", source_sha256=None),
        dataclasses.replace(sgbm, accuracy=holes),
    ]


class Page(html.parser.HTMLParser):
    """Tags, attributes and text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.raw: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag in ("script", "style"):
            self.raw.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in ("script", "style"):
            self.raw[-1] += data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="session")
def parse_page() -> type[Page]:
    """parse_page(text) → tags with attributes, text outside scripts and styles, and those raw."""
    return Page


@pytest.fixture(autouse=True, scope="session")
def _packages() -> None:
    pytest.importorskip("plotly", reason="plotly is not installed (extra report)")
    pytest.importorskip("jinja2", reason="jinja2 is not installed (extra report)")


@pytest.fixture(scope="session")
def rendered(rows: list[ResultRow]) -> str:
    """The page of the plain rows."""
    return page("The title", make_entries(rows))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One tab of a headless Chromium (benchmarks/headless_browser.py), or a skip."""
    path = Path(__file__).resolve().parents[3] / "benchmarks" / "headless_browser.py"
    spec = importlib.util.spec_from_file_location("headless_browser", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["headless_browser"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    if module.find_browser() is None:
        pytest.skip(f"none of {', '.join(module.NAMES)} on this machine")
    with module.browse(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Callable[[str], Any]:
    """open_page(text) → the tab that shows it, with nothing in its console yet but what the page wrote."""

    def show(text: str) -> Any:
        path = tmp_path / "shown.html"
        path.write_text(text, encoding="utf-8")
        browser.call("Page.navigate", url="about:blank")
        browser.console.clear()
        browser.requests.clear()
        browser.resize(1280, 900)
        browser.open(path)
        return browser

    return show
