"""deploy.report: one offline page, the same for the same rows, with nothing a name could inject."""

from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from deploy.config import EvaluateConfig, ProfileConfig, ReportConfig
from deploy.evaluate import evaluate
from deploy.profile import profile
from deploy.profile_records import CrossCheck
from deploy.report.entries import datasets, make_entries
from deploy.report.markdown import escape, markdown
from deploy.report.page_data import page_data
from deploy.report.pictures import BUDGET_BYTES, encode_all
from deploy.report.report import page, report
from deploy.report.spreadsheet import safe, spreadsheet
from deploy.report.tables import main_line
from deploy.report.text import number
from deploy.result_pictures import IMAGES_PER_DATASET, spread
from deploy.results import Latency, Memory, Pictures, ResultRow, write_results
from stereo.cli import main
from stereo.error_regions import RegionErrors
from stereo.errors import UserError
from stereo.pictures import write_png


def test_page_holds_the_numbers_and_says_what_is_missing(rendered: str, parse_page: Callable[[str], Any]) -> None:
    text = parse_page(rendered).text
    for expected in ("The title", "200", "95.0", "0.47", "2.15", "not measured", "1.00 on 80.0 % of the pixels",
                     "reference", "1.50 (2 of 3 images)", "not a student", "no file"):  # fmt: skip
        assert expected in text
    assert "measured" in text
    assert "nan" not in text.lower().replace("nano", "")


def test_page_loads_nothing_from_anywhere(rendered: str, parse_page: Callable[[str], Any]) -> None:
    for tag, attributes in parse_page(rendered).tags:
        for name in ("src", "href", "action", "data", "poster"):
            value = attributes.get(name) or ""
            assert not value or value.startswith(("data:", "#")), (tag, value[:80])
    style = parse_page(rendered).raw[0]
    assert "url(" not in style
    assert "@import" not in style
    assert len(rendered) < 8_000_000


def test_policy_allows_these_scripts_and_nothing_else(rendered: str, parse_page: Callable[[str], Any]) -> None:
    parsed = parse_page(rendered)
    policy = next(a["content"] for t, a in parsed.tags if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data: blob:")
    assert "'unsafe-eval'" not in policy
    scripts = [a for t, a in parsed.tags if t == "script"]
    assert [a.get("type") for a in scripts] == ["application/json", None, None, None]
    for code in parsed.raw[-3:]:
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_same_rows_same_bytes(rows: list[ResultRow], rendered: str) -> None:
    assert page("The title", make_entries(rows)) == rendered


def test_markdown_has_verdict_tables_and_provenance(rows: list[ResultRow]) -> None:
    text = markdown("T", make_entries(rows))
    assert "no variant reaches 30.0 fps (33.3 ms per pair); the fastest is 1 nano fp32 (openvino bf16, 480x640)" in text
    assert "## another board" in text
    assert "| 1.50 (2 of 3 images) |" in text
    assert "- commit" not in text
    assert "commit c0ffee" in text
    assert escape("a_b*c\nd") == r"a\_b\*c d"


def test_spreadsheet_has_a_line_per_entry_and_dataset_and_empty_cells(rows: list[ResultRow]) -> None:
    lines = list(csv.DictReader(io.StringIO(spreadsheet(make_entries(rows)))))
    assert len(lines) == 7
    other = next(line for line in lines if line["device"] == "another board")
    assert (other["epe_px"], other["p50_ms"]) == ("", "30.0")
    teacher = next(line for line in lines if line["variant"] == "teacher fp32")
    assert (teacher["p50_ms"], teacher["images"], teacher["masks"]) == ("", "3", "noc pixels on 3 images")


def test_memory_of_a_jetson_counts_the_gpu_s_part(make_row: Callable[..., ResultRow]) -> None:
    """In the table, in what the points are sized by, and in the CSV."""
    row = dataclasses.replace(make_row(p50=20.0, epe=[1.0]), memory=Memory(300.0, 123.0, 777.0))
    entries = make_entries([row])
    cell = next(cell for cell in main_line(entries[0], datasets(entries)).cells if cell.head == "memory MB")
    assert (cell.texts, cell.value) == ({"": "777"}, 777.0)
    assert "its process grew by 123 MB" in cell.title
    assert page_data(entries, datasets(entries))["entries"][0]["memory"] == 777.0
    (line,) = csv.DictReader(io.StringIO(spreadsheet(entries)))
    assert (line["memory_mb"], line["peak_over_baseline_mb"], line["board_mb"]) == ("777.0", "123.0", "777.0")


def test_times_without_copies_and_by_trtexec(
    make_row: Callable[..., ResultRow], parse_page: Callable[[str], Any]
) -> None:
    """In the variant's section, in report.md and in the CSV; where they were not measured nothing is said."""
    row = dataclasses.replace(
        make_row(p50=20.0), latency_without_copies=Latency(18.0, 18.5, 19.0, 18.1, 50, 5),
        cross_check=CrossCheck("trtexec", "trtexec --loadEngine=x", 17.5, 19.5, 57.0, 2.86),
    )  # fmt: skip
    entries = make_entries([row])
    told = "p50 18.0 ms, p90 18.5 ms, p99 19.0 ms; inputs already on the device, the output left there; n = 50"
    checked = "compute p50 17.5 ms, with copies p50 19.5 ms, throughput 57.0 pairs/s; ours differs by +2.9 %"
    text = parse_page(page("T", entries)).text
    assert f"Other clocks without copies {told} by trtexec {checked}; trtexec --loadEngine=x" in text
    assert f"- by trtexec: {checked}" in markdown("T", entries)
    (line,) = csv.DictReader(io.StringIO(spreadsheet(entries)))
    assert (line["without_copies_p50_ms"], line["cross_check_gpu_p50_ms"]) == ("18.0", "17.5")
    plain = make_entries([make_row(p50=20.0)])
    assert "Other clocks" not in page("T", plain)
    (line,) = csv.DictReader(io.StringIO(spreadsheet(plain)))
    assert (line["without_copies_p50_ms"], line["cross_check"]) == ("", "")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx"])
def test_spreadsheet_cells_are_no_formulas(text: str) -> None:
    assert safe(text) == f"'{text}"
    assert safe(-1.5) == -1.5
    assert safe("plain") == "plain"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "not measured"), (0.0, "0"), (0.1234, "0.123"), (9.996, "10.0"), (98.76, "98.8"), (212.4, "212"),
     (12345.6, "12346"), (-1.5, "-1.50")],
)  # fmt: skip
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


def test_pictures_keep_to_the_budget() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 600, 900, 3), dtype=np.uint8)
    encoded = encode_all({str(index): picture for index, picture in enumerate(noise)})
    assert sum(map(len, encoded.values())) <= BUDGET_BYTES


def test_twelve_variants_on_seven_images_make_a_page_below_8_mb(
    make_row: Callable[..., ResultRow], tmp_path: Path
) -> None:
    """None beats another, so that all are shown. Pictures are like scenes: smooth, with grain."""
    coarse, grain = np.random.default_rng(0).integers(0, 256, (12, 16, 3)), np.random.default_rng(1)
    picture = cv2.resize(coarse.astype(np.float32), (320, 240), interpolation=cv2.INTER_CUBIC)
    picture = np.clip(picture + grain.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)
    write_png(tmp_path / "one.png", picture)
    regions = tuple(RegionErrors("true disparity", f"{8 * n}-{8 * n + 8} px", 900, 800, 0.5, 1.5) for n in range(12))
    rows = []
    for n in range(12):
        row = make_row(f"student {n}", p50=10.0 * (n + 1), epe=[9.0 - n / 2] * 7)
        kinds = ("left", "truth", f"d{n}", f"e{n}")
        files = [[tmp_path / f"{kind} {image}.png" for kind in kinds] for image in range(7)]
        for file in (file for named in files for file in named if not file.exists()):
            file.hardlink_to(tmp_path / "one.png")
        accuracy = tuple(dataclasses.replace(item, regions=regions) for item in row.accuracy)
        pictures = tuple(Pictures(f"image {image}", *map(str, files[image])) for image in range(7))
        rows.append(dataclasses.replace(row, accuracy=accuracy, pictures=pictures))
    text = page("T", make_entries(rows))
    assert len(text.encode()) < 8_000_000
    assert text.count('<img src="data:image/jpeg') == 7 * (2 + 2 * 12)


def test_long_clips_show_a_few_frames_from_first_to_last() -> None:
    frames = [("clip", f"{index:03d}") for index in range(60)]
    chosen = spread(frames)
    assert len(chosen) == len(set(chosen)) == IMAGES_PER_DATASET
    assert (chosen[0], chosen[-1]) == (frames[0], frames[-1])
    assert spread(frames[:3]) == frames[:3]


def test_pictures_that_are_gone_are_told_once_and_left_out(
    rows: list[ResultRow], tmp_path: Path, parse_page: Callable[[str], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """One of two images lacks a picture: the other is shown. Without any, the tables still are."""
    folder = tmp_path / "results_pictures" / "pairs"
    folder.mkdir(parents=True)
    for name in ("0", "1"):
        write_png(folder / f"{name}.png", np.full((8, 8, 3), 90, np.uint8))
    files = [[str(folder / f"{name}.png")] * 4 for name in ("0", "1")]
    row = dataclasses.replace(rows[1], pictures=tuple(Pictures(f"image {n}", *files[n]) for n in range(2)))
    (folder / "1.png").unlink()
    parsed = parse_page(page("T", make_entries([row])))
    assert len([a for tag, a in parsed.tags if tag == "img" and "src" in a]) == 4
    assert "gone or damaged, and left out: results_pictures. Keep the folder beside" in parsed.text
    (warning,) = caplog.messages
    assert warning.startswith(f"{tmp_path / 'results_pictures'}: 1 of the pictures that a results file names are gone")

    (folder / "0.png").write_bytes(b"no picture")
    parsed = parse_page(page("T", make_entries([row])))
    assert not [a for tag, a in parsed.tags if tag == "img" and "src" in a]
    assert "2.00" in parsed.text
    assert "results_pictures. Keep the folder" in parsed.text


def test_out_must_be_a_page(tmp_path: Path, rows: list[ResultRow]) -> None:
    write_results(tmp_path / "r.json", rows)
    with pytest.raises(UserError, match="is an HTML page"):
        report(ReportConfig([str(tmp_path / "r.json")], out=str(tmp_path / "r.json")))


@pytest.mark.parametrize("content", ["{}", '{"schema": "stereodistill results", "schema_version": 9, "rows": []}'])
def test_files_that_are_no_results(tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.json").write_text(content)
    assert main(["report", str(tmp_path / "r.json"), "--out", str(tmp_path / "report.html")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "report.html").exists()


def test_empty_results_file(tmp_path: Path) -> None:
    write_results(tmp_path / "r.json", [])
    with pytest.raises(UserError, match="hold no rows"):
        report(ReportConfig([str(tmp_path / "r.json")], out=str(tmp_path / "report.html")))


def test_from_profile_and_evaluate_to_the_three_files(
    tmp_path: Path,
    network: Path,
    pairs_folder: Path,
    capsys: pytest.CaptureFixture[str],
    parse_page: Callable[[str], Any],
) -> None:
    pytest.importorskip("onnxruntime")
    results, out = str(tmp_path / "results.json"), tmp_path / "report.html"
    profile(ProfileConfig([str(network)], out=results, runs=3, memory=False))
    evaluate(EvaluateConfig([str(network)], data=str(pairs_folder), out=results))
    capsys.readouterr()
    assert main(["report", results, "--out", str(out), "--title", "Toy"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    parsed = parse_page(out.read_text(encoding="utf-8"))
    pictures = [attributes for tag, attributes in parsed.tags if tag == "img"]
    assert len([attributes for attributes in pictures if "src" in attributes]) == 2 * 4
    assert all(attributes["alt"] for attributes in pictures if "src" in attributes)
    assert r"over 2 images of toy\_pairs" in (tmp_path / "report.md").read_text(encoding="utf-8")
    (line,) = csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text(encoding="utf-8")))
    assert float(line["p50_ms"]) > 0
    assert float(line["epe_px"]) > 0


def test_of_thousands_of_images_the_worst_are_listed(
    make_row: Callable[..., ResultRow], parse_page: Callable[[str], Any]
) -> None:
    """The page stays small; the average is still one of all."""
    first: list[float | None] = [1.0] * 4000
    second = first.copy()
    first[1234], second[77], second[78] = 9.0, 8.0, None
    rows = [make_row(epe=first), make_row(precision="int8", epe=second)]
    rendered = page("many", make_entries(rows))
    text = parse_page(rendered).text
    assert "the 100 worst of 4000 images, by EPE" in text
    listed = re.findall(r'<td class="name">(image \d+)<', rendered)
    assert len(listed) == 100
    assert listed[:3] == ["image 78", "image 1234", "image 77"]
    assert "averaged over 4000 images" in text
    assert len(page("few", make_entries(rows[:1]))) < len(page("few", make_entries([make_row(epe=first[:5])]))) + 2e5
