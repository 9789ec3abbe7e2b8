"""The verb `show`: what is drawn, what a page may do, and that it works in a real browser."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from stereo.cli import main
from stereo.label_set import LabelledFrame
from stereo.label_set_writer import LabelSetWriter
from teacher.show import chosen, verdict_of

EVIL = "</script><img src=x onerror=alert(1)>"


def make_set(path, frames=6):
    writer = LabelSetWriter(
        path, identity={"source": {"kind": "made up"}, "teacher": {"name": "<b>sgbm</b>"}}, max_disp=64
    )
    for number in range(frames):
        image = np.full((40, 60, 3), 20 * number, np.uint8)
        disparity = np.full((40, 60), 4.0 + number, np.float32)
        disparity[:, :6] = np.nan
        confidence = np.where(np.isnan(disparity), 0, 0.9).astype(np.float32)
        writer.add(number, LabelledFrame(f"{number:06d}", image, image, disparity, confidence))
    writer.skip(frames, f"{frames:06d}", reason="frame cannot be decoded", detail=f"clip.mp4: {EVIL}")
    return writer.finish()


@pytest.fixture
def page(tmp_path, capsys):
    labels = make_set(tmp_path / "set")
    assert main(["show", str(labels)]) == 0
    out = tmp_path / "set" / "show.html"
    assert capsys.readouterr().out.strip() == str(out)
    return out


def cards_of(text):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_the_page_shows_every_frame_and_why_one_is_missing(page):
    cards = cards_of(page.read_text())
    assert [card["name"] for card in cards] == [f"{number:06d}" for number in range(7)]
    assert {card["group"] for card in cards[:6]} == {"trusted"}
    assert all(len(card["pictures"]) == 3 for card in cards[:6])
    assert cards[2]["valid_pct"] == cards[2]["kept_pct"] == 90.0
    assert cards[2]["largest_px"] == 6.0
    assert (cards[6]["group"], cards[6]["reason"], cards[6]["pictures"]) == (
        "not labelled", "frame cannot be decoded", [],
    )  # fmt: skip


def test_the_head_counts_what_was_labelled_and_of_which_pixels(page):
    """54 of 60 columns have a disparity; their confidence is 0.9."""
    text = " ".join(page.read_text().split())
    assert "7 frames; 6 labelled by" in text
    assert "90.0 % of their pixels have a disparity, 90.0 % are kept" in text


def test_names_and_messages_stay_text(page):
    text = page.read_text()
    assert EVIL not in text
    assert "<b>sgbm</b>" not in text
    assert "default-src 'none'" in html.unescape(text)
    assert cards_of(text)[6]["detail"].endswith(EVIL)


def test_a_sample_covers_every_verdict():
    lines = [{"frame": number, "files": {}, "verdict": "few trusted pixels" if number % 10 == 0 else None}
             for number in range(1000)]  # fmt: skip
    lines.append({"frame": 1000, "dropped": "blurred"})
    drawn = chosen(lines, 20)
    groups = [verdict_of(line) for line in drawn]
    assert {group: groups.count(group) for group in groups} == {
        ("trusted", ""): 20, ("not trusted", "few trusted pixels"): 20, ("not labelled", "blurred"): 1,
    }  # fmt: skip
    numbers = [line["frame"] for line in drawn]
    assert numbers == sorted(numbers)
    assert max(np.diff(numbers)) < 120, "spread evenly"


def test_a_limit_below_one_and_a_folder_without_labels(tmp_path, capsys):
    assert main(["show", str(tmp_path), "--limit", "0"]) == 2
    assert "0 is below 1" in capsys.readouterr().err
    assert main(["show", str(tmp_path)]) == 2
    assert "manifest" in capsys.readouterr().err


@pytest.fixture
def browser():
    """A headless browser, or a skip."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no chromium or google-chrome on this machine")
    return found


def browse(browser, path, profile):
    switches = "headless no-sandbox disable-gpu disable-background-networking no-first-run disable-dev-shm-usage"
    flags = [f"--{switch}" for switch in switches.split()]
    flags += ["--enable-logging=stderr", "--virtual-time-budget=3000", f"--user-data-dir={profile}"]
    done = subprocess.run([browser, *flags, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=600)
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


def with_script(page, script):
    """The page with a visitor's hand: its policy taken out, and a script that presses keys."""
    text = re.sub(r"<meta http-equiv[^>]*>", "", page.read_text())
    acting = page.with_name("acting.html")
    acting.write_text(text.replace("</body>", f"<script>{script}</script></body>"))
    return acting


def pressing(*keys):
    return "".join(
        f'document.dispatchEvent(new KeyboardEvent("keydown", {{key: "{key}", bubbles: true}}));' for key in keys
    )


@pytest.mark.slow
def test_a_browser_draws_every_card_and_complains_of_nothing(page, browser, tmp_path):
    dom, console = browse(browser, page, tmp_path / "profile")
    assert console == []
    assert len(re.findall(r"<article[ >]", dom)) == 7
    assert len(re.findall(r"<img ", dom)) == 18
    assert not re.search(r"<img [^>]*onerror", dom)


@pytest.mark.slow
def test_keys_go_from_frame_to_frame(page, browser, tmp_path):
    acting = with_script(page, pressing("ArrowRight", "ArrowRight", "j", "k", "Enter"))
    dom, console = browse(browser, acting, tmp_path / "profile")
    assert console == []
    assert re.search(r'<article[^>]*class="current"[^>]*><h2>000001', dom)
    assert re.search(r"<dialog[^>]*open[^>]*><h2>000001", dom)


@pytest.mark.slow
def test_a_filter_leaves_one_kind_of_frame(page, browser, tmp_path):
    click = "document.querySelector('[data-reason=\"frame cannot be decoded\"]').click();"
    dom, _ = browse(browser, with_script(page, click + pressing("ArrowRight")), tmp_path / "profile")
    shown = re.findall(r"<article(?![^>]*hidden)[^>]*><h2>(\d+)", dom)
    assert shown == ["000006"]
    assert re.search(r'<button[^>]*data-reason="frame cannot be decoded"[^>]*aria-pressed="true"', dom)
    assert re.search(r'<article[^>]*class="current"[^>]*><h2>000006', dom)
