"""The page in a real browser: what a reader does with it, by mouse and by keyboard."""

from __future__ import annotations

import csv
import dataclasses
import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from deploy.profile_records import Power
from deploy.report.entries import make_entries
from deploy.report.report import Extras, page
from deploy.report.verdict import budget_sentences
from deploy.results import Memory, Pictures, ResultRow
from stereo.pictures import write_png

pytestmark = pytest.mark.slow
CELL = "'#variants td[data-head=accuracy] > span:not(.head) > .option.on'"
POWER = Power("tegrastats", ("VDD_IN",), 11.5, 14.0, 5.0, 0.25, 61.0, 80.0, 40.0, False, (), 10.0, 460, 100)
AT = "getComputedStyle(document.querySelector('.stage')).getPropertyValue('--at')"


@pytest.fixture(scope="module")
def all_rows(
    rows: list[ResultRow], make_row: Callable[..., ResultRow], tmp_path_factory: pytest.TempPathFactory
) -> list[ResultRow]:
    """The plain rows, an estimate, a second dataset, pictures of two images."""
    folder, colours = tmp_path_factory.mktemp("pictures"), {"left": 40, "truth": 80, "disparity": 120, "error": 160}
    for name, level in colours.items():
        write_png(folder / f"{name}.png", np.full((60, 80, 3), level, np.uint8))
    files = [str(folder / f"{name}.png") for name in colours]
    shown = [
        dataclasses.replace(row, pictures=tuple(Pictures(item.image, *files) for item in row.accuracy[:2]))
        for row in rows
    ]
    # A quarter of the memory is half as wide beyond the least; what was not measured is smallest.
    shown[2] = dataclasses.replace(shown[2], memory=Memory(800.0, 492.0), power=POWER)
    estimate = make_row(p50=12.0, kind="estimated", device="a Jetson", power_mode="25W")
    shown[4] = dataclasses.replace(shown[4], problems=("<b>its times are not</b>",))
    return [*shown, estimate, make_row(epe=[4.0], dataset="clip"), make_row(p50=90.0, hint="f16")]


@pytest.fixture(scope="module")
def opened(browser: Any, all_rows: list[ResultRow], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The page of all rows, drawn: opened once, because that is what takes long."""
    path = tmp_path_factory.mktemp("page") / "shown.html"
    path.write_text(page("T", make_entries(all_rows), Extras(all_pictures=True)), encoding="utf-8")
    browser.console.clear()
    browser.requests.clear()
    browser.open(path)
    browser.wait("document.querySelector('#plot .main-svg') !== null")
    return browser


@pytest.fixture
def tab(opened: Any) -> Any:
    """The page with everything as it was when it opened."""
    opened.resize(1280, 900)
    opened.run("document.querySelectorAll('.tools select, .controls select').forEach((it) => { it.selectedIndex = 0; "
               "it.dispatchEvent(new Event('change', { bubbles: true })); })")  # fmt: skip
    opened.run("document.querySelectorAll('input[type=checkbox]').forEach((it) => it.checked && it.click())")
    set_value(opened, "find", "")
    opened.run("document.querySelector('button[data-metric=epe_px]').click(); document.activeElement.blur()")
    set_value(opened, "fps-number", 30)
    return opened


def set_value(tab: Any, name: str, value: object, event: str = "input") -> None:
    tab.run(f"(() => {{ const it = document.getElementById('{name}'); it.value = '{value}';"
            f"it.dispatchEvent(new Event('{event}', {{ bubbles: true }})); }})()")  # fmt: skip


def shown_rows(tab: Any) -> list[int]:
    return tab.run(
        "[...document.querySelectorAll('#variants tbody tr')].filter((r) => !r.hidden).map((r) => +r.dataset.n)"
    )


def answer(tab: Any) -> str:
    return tab.run("document.getElementById('answer').textContent")


def test_it_opens_without_a_word_in_the_console_or_to_the_network(tab: Any) -> None:
    assert (tab.console, tab.requests) == ([], [])
    assert tab.run("document.querySelectorAll('#plot .main-svg').length") >= 1


def test_the_budget_slider_names_the_best_as_the_report_does(tab: Any, all_rows: list[ResultRow]) -> None:
    entries = make_entries(all_rows)
    where = "a board"
    for fps in (30.0, 10.0, 2.0):
        set_value(tab, "fps-number", fps)
        expected = next(item.text for item in budget_sentences(entries, fps) if item.about == where)
        assert answer(tab) == expected
    set_value(tab, "fps-number", 10)
    assert "with care: <b>its times are not</b>." in answer(tab)
    set_value(tab, "fps-number", 2)
    assert "Which variant for 2 fps on a board?" in tab.run("document.getElementById('question').textContent")
    chosen = tab.run("[...document.querySelectorAll('tr.chosen')].map((row) => +row.dataset.n)")
    best = next(entry for entry in entries if f"take {entry.number} " in answer(tab))
    assert chosen == [best.number]


def test_common_rates_are_a_click_away(tab: Any) -> None:
    texts = tab.run("[...document.querySelectorAll('#rates button')].map((it) => it.textContent)")
    assert texts[:2] == ["5 fps: 5", "10 fps: 2"]
    assert texts[-1] == "60 fps: none"
    tab.run("document.querySelector('#rates button').click()")
    assert answer(tab).startswith("at 5.00 fps (200 ms per pair), take 5 nano fp32 (openvino f32, 480x640)")


def test_the_slider_works_from_the_keyboard(tab: Any) -> None:
    tab.run("document.getElementById('fps').focus()")
    before = answer(tab)
    for _ in range(3):
        tab.press("Home")
    tab.wait("document.getElementById('question').textContent.includes('0.5 fps')")
    assert answer(tab) != before
    assert tab.run("document.getElementById('fps').getAttribute('aria-valuetext')") == "0.5 frames per second"


def test_estimates_are_hollow_and_told_apart(tab: Any) -> None:
    set_value(tab, "place", "a Jetson, power mode 25W", "change")
    assert "estimated, not measured: " in answer(tab)
    traces = tab.run("document.getElementById('plot').data.map((t) => [t.name, t.marker?.symbol, t.x])")
    assert ["fp32, estimated", "circle-open", [12]] in traces
    assert not [name for name, _, _ in traces if name and "measured" in name]
    assert len(shown_rows(tab)) == 1


def test_the_chart_names_every_point_also_after_a_change_of_place(tab: Any) -> None:
    set_value(tab, "place", "a Jetson, power mode 25W", "change")
    set_value(tab, "place", "a board", "change")
    drawn = "[...document.querySelectorAll('#plot .textpoint')].map((it) => it.textContent.trim()).filter(Boolean)"
    wanted = "document.getElementById('plot').data.flatMap((t) => t.text ?? []).filter(Boolean)"
    tab.wait(f"{drawn}.length >= {wanted}.length")
    assert sorted(tab.run(drawn)) == sorted(tab.run(wanted))


def test_the_budget_line_follows_the_slider(tab: Any) -> None:
    budget = "document.getElementById('plot').layout.shapes.find((it) => it.yref === 'paper')?.x0"
    for fps, at in ((10, 100.0), (8, 125.0)):
        set_value(tab, "fps-number", fps)
        tab.wait(f"{budget} === {at}", timeout_s=10)


def test_metric_and_dataset_switch_chart_and_table(tab: Any) -> None:
    tab.run("document.querySelector('button[data-metric=bad2_pct]').click()")
    assert "bad-2 %" in tab.run("document.getElementById('plot').layout.yaxis.title.text")
    assert tab.run("document.querySelector(CELL).dataset.key".replace("CELL", CELL)) == "0:bad2_pct"
    set_value(tab, "dataset", 1, "change")
    assert "Nothing to draw" not in tab.run("document.getElementById('chart-note').textContent")
    assert tab.run("document.querySelector(CELL).dataset.key".replace("CELL", CELL)) == "1:bad2_pct"


def test_points_are_sized_by_memory_or_energy(tab: Any) -> None:
    """Their areas grow with it; what was not measured is smallest."""
    drawn = ("Object.fromEntries(document.getElementById('plot').data.filter((t) => t.marker)"
             ".flatMap((t) => t.customdata.map((n, i) => [n, t.marker.size[i]])))")  # fmt: skip
    text = tab.run("[...document.querySelectorAll('#variants tbody tr')].map((r) => [r.dataset.n, r.textContent])")
    int8 = next(number for number, words in text if "int8" in words)
    assert set(tab.run(drawn).values()) == {14}
    set_value(tab, "size-by", "memory", "change")
    sizes = tab.run(drawn)
    assert sizes.pop(int8) == 34
    assert set(sizes.values()) == {21}
    set_value(tab, "size-by", "energy", "change")
    sizes = tab.run(drawn)
    assert sizes.pop(int8) == 34
    assert set(sizes.values()) == {8}
    hover = tab.run("document.getElementById('plot').data.flatMap((t) => t.hovertext ?? []).join()")
    assert "memory 492 MB" in hover
    assert "0.250 J per pair" in hover


def test_the_p99_switch_judges_and_draws_by_p99(tab: Any) -> None:
    """BF16 takes 60 ms, and 78 ms at p99: within 70 ms for half of the pairs, not for 99 of 100."""
    set_value(tab, "fps-number", 1000 / 70)
    bf16 = "2 nano fp32 (openvino bf16, 480x640)"
    assert f"take {bf16} with 60.0 ms" in answer(tab)
    tab.run("document.getElementById('by-p99').click()")
    assert answer(tab).startswith(f"no variant reaches 14.3 fps (70.0 ms per pair); the fastest is {bf16} with 78.0 ms")
    assert "latency p99 per pair" in tab.run("document.getElementById('plot').layout.xaxis.title.text")
    traces = tab.run("document.getElementById('plot').data.filter((t) => t.marker).map((t) => [t.customdata, t.x, "
                     "t.error_x?.array ?? null])")  # fmt: skip
    times = {number: x for numbers, xs, _ in traces for number, x in zip(numbers, xs, strict=True)}
    assert times[2] == 78.0
    assert [bars for _, _, bars in traces] == [None] * len(traces)
    tab.run("document.getElementById('by-p99').click()")
    assert "latency p50 per pair" in tab.run("document.getElementById('plot').layout.xaxis.title.text")
    assert f"take {bf16} with 60.0 ms" in answer(tab)


def test_dominated_points_are_faded(tab: Any) -> None:
    faded = tab.run("document.getElementById('plot').data.filter((t) => t.marker)"
                    ".flatMap((t) => t.customdata.filter((n, i) => t.marker.color[i].endsWith('59')))")  # fmt: skip
    names = {row: tab.run(f"document.getElementById('row-{row}').textContent") for row in faded}
    assert names
    assert all("int8" in text for text in names.values())


def test_sorting_both_ways_with_missing_values_last(tab: Any) -> None:
    heads = tab.run("[...document.querySelectorAll('#variants thead th')].map((th) => th.textContent.trim())")
    column = heads.index("p50 ms")
    tab.run(f"document.querySelectorAll('#variants thead button')[{column}].focus()")
    tab.press("Enter")
    up = tab.run("[...document.querySelectorAll('#variants tbody tr')].filter((r) => !r.hidden)"
                 ".map((r) => r.querySelector('td[data-head=\"p50 ms\"]').textContent.trim())")  # fmt: skip
    numbers = [float(text) for text in up if text != "not measured"]
    assert numbers == sorted(numbers)
    assert up[-1] == "not measured"
    tab.press("Enter")
    sorts = tab.run(
        "[...document.querySelectorAll('#variants th[aria-sort]')].map((th) => th.getAttribute('aria-sort'))"
    )
    assert sorts == ["descending"]
    down = tab.run("[...document.querySelectorAll('#variants tbody tr')].filter((r) => !r.hidden)"
                   ".map((r) => r.querySelector('td[data-head=\"p50 ms\"]').textContent.trim())")  # fmt: skip
    assert [float(text) for text in down if text != "not measured"] == numbers[::-1]
    assert down[-1] == "not measured"


def test_filters_narrow_the_rows_and_the_csv(tab: Any, browser: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    everything = len(shown_rows(tab))
    set_value(tab, "only-precision", "int8", "change")
    assert 0 < len(shown_rows(tab)) < everything
    set_value(tab, "only-precision", "", "change")
    set_value(tab, "find", "BF16 nano")
    (number,) = shown_rows(tab)
    assert "1 of" in tab.run("document.getElementById('count').textContent")
    folder = next(path for path in tmp_path_factory.getbasetemp().glob("profile*"))
    tab.run("document.getElementById('csv').click()")
    deadline = time.monotonic() + 20
    while not (folder / "results.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    lines = list(csv.DictReader(io.StringIO((folder / "results.csv").read_text(encoding="utf-8"))))
    (folder / "results.csv").unlink()
    assert {line["number"] for line in lines} == {str(number)}
    assert {line["precision_hint"] for line in lines} == {"bf16"}


def test_swipe_moves_the_line_between_two_variants(tab: Any) -> None:
    assert tab.run("document.getElementById('swipe').hidden") is False
    set_value(tab, "swipe-a", "left", "change")
    assert "left image of image 0" in tab.run("document.getElementById('swipe-caption').textContent")

    tab.run("document.getElementById('swipe-at').scrollIntoView(); document.getElementById('swipe-at').focus()")
    tab.press("Home")
    tab.wait("document.getElementById('swipe-at').value === '0'")
    assert tab.run(AT) == "0%"
    tab.press("End")
    tab.wait("document.getElementById('swipe-at').value === '100'")
    assert tab.run(AT) == "100%"
    set_value(tab, "swipe-layer", "error", "change")
    assert "error on image 0" in tab.run("document.getElementById('swipe-caption').textContent")


def test_all_pictures_zoom_together_by_keyboard(tab: Any) -> None:
    tab.run("document.querySelector('.scene .frame').focus()")
    tab.press("+")
    tab.press("ArrowRight")
    transforms = set(tab.run("[...document.querySelectorAll('.scene[open] .frame img')].map((i) => "
                             "new DOMMatrix(getComputedStyle(i).transform).a)"))  # fmt: skip
    assert transforms == {1.25}
    tab.press("0")
    assert tab.run("document.getElementById('zoom').value") == "1"


def test_a_variant_shows_beside_its_fp32_references_and_truth(tab: Any) -> None:
    int8 = tab.run("[...document.querySelectorAll('#show-variant option')].find((o) => o.text.includes('int8'))?.value")
    set_value(tab, "show-variant", int8, "change")
    shown = tab.run("[...document.querySelector('.scene').querySelectorAll('figure.pair')].filter((f) => !f.hidden)"
                    ".map((f) => f.dataset.name ?? 'given')")  # fmt: skip
    assert shown[0] == "given"
    assert len([name for name in shown if "fp32 (openvino f32" in name]) == 1


def test_links_open_a_variant(tab: Any) -> None:
    tab.run("document.querySelector('#row-2 a.number').click()")
    tab.wait("document.getElementById('entry-2').open")


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_wider_than_the_window(tab: Any, width: int) -> None:
    tab.resize(width, 900)
    tab.wait("document.documentElement.scrollWidth <= innerWidth + 1", timeout_s=10)


def test_every_control_has_a_name_and_ids_are_unique(tab: Any) -> None:
    nameless = tab.run(
        "[...document.querySelectorAll('input, select, button')].filter((it) => !it.closest('.modebar') && "
        "!(it.labels?.length || it.getAttribute('aria-label') || it.textContent.trim())).map((it) => it.outerHTML)"
    )
    assert nameless == []
    assert tab.run("[...document.querySelectorAll('img[src]')].filter((i) => !i.alt).length") == 0
    ids = tab.run("[...document.querySelectorAll('main [id]')].filter((it) => !it.closest('#plot')).map((it) => it.id)")
    assert len(ids) == len(set(ids))


def test_rows_without_latency_or_without_truth_have_their_place(
    open_page: Callable[[str], Any], make_row: Callable[..., ResultRow]
) -> None:
    """One variant that was only timed; then one that was only evaluated, on one image."""
    shown = open_page(page("T", make_entries([make_row(p50=20.0)])))
    assert shown.run("document.getElementById('answer').textContent") == (
        "the fastest is 1 nano fp32 (openvino f32, 480x640) with 20.0 ms; accuracy was not measured on all images."
    )
    assert shown_rows(shown) == [1]
    shown = open_page(page("T", make_entries([make_row(epe=[1.5])])))
    assert shown.run("document.getElementById('answer').textContent") == "latency was not measured here."
    assert "latency not measured" in shown.run("document.getElementById('left-out').textContent")
    assert shown_rows(shown) == [1]
    assert (shown.console, shown.requests) == ([], [])
