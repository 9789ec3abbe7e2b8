"""deploy.report.sections, failures, svg, studies: what a variant's own part of the page holds."""

from __future__ import annotations

import dataclasses
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.profile_records import Interval, Layers, LayerTime, Power, Sample, Soak
from deploy.report.entries import make_entries
from deploy.report.failures import failures, pooled
from deploy.report.report import Extras, page
from deploy.report.sections import cost_lines, details, overview_tables, region_table
from deploy.report.studies import lists_for, read_study, tell_strangers
from deploy.report.svg import difference_histogram
from deploy.results import Difference, ResultRow
from stereo.error_regions import RegionErrors
from stereo.errors import UserError

MakeRow = Callable[..., ResultRow]
DIFFERENCE = Difference("nano <fp32>", "cd" * 32, 2, 100, 0.01, 0.02, (-0.5, 0.0, 0.5), (1, 49, 48, 2))
POWER = Power("tegrastats", ("VDD_IN",), 11.5, 14.0, 5.0, 0.25, 61.0, 80.0, 40.0, True, ("soft throttling",), 10.0, 460,
              100, tuple(Sample(float(t), 10.0 + t, 50.0 + t) for t in range(5)))  # fmt: skip
SOAK = Soak(1.0, 60.0, 46.0, 0.04, tuple(Interval(10.0 * t, 20.0 + t, 25.0 + t, 400) for t in range(6)))
LAYERS = Layers(10.0, 30, 5, tuple(LayerTime(f"layer {n} </td>", "Conv", 3.0 / (n + 1)) for n in range(25)))


def region(by: str, name: str, pixels: int, epe: float | None, bad2: float) -> RegionErrors:
    return RegionErrors(by, name, pixels, 0 if epe is None else pixels, epe, bad2)


def with_regions(row: ResultRow, *per_image: tuple[RegionErrors, ...]) -> ResultRow:
    accuracy = tuple(
        dataclasses.replace(item, regions=regions) for item, regions in zip(row.accuracy, per_image, strict=True)
    )
    return dataclasses.replace(row, accuracy=accuracy)


def test_classes_add_up_by_their_pixels(make_row: MakeRow) -> None:
    first = (region("texture", "textured", 100, 1.0, 10.0), region("true disparity", "16-32 px", 10, 1.0, 0.0))
    second = (region("texture", "textured", 300, 2.0, 30.0), region("true disparity", "8-16 px", 10, None, 100.0))
    row = with_regions(make_row(epe=[1.0, 2.0]), first, second)
    found = pooled(row.accuracy)
    assert [(item.by, item.name) for item in found] == [
        ("true disparity", "8-16 px"), ("true disparity", "16-32 px"), ("texture", "textured"),
    ]  # fmt: skip
    assert (found[2].pixels, found[2].epe_px, found[2].bad2_pct) == (400, 1.75, 25.0)
    assert (found[0].epe_px, found[0].bad2_pct) == (None, 100.0)


def test_failures_leave_out_what_is_rare(make_row: MakeRow) -> None:
    row = with_regions(make_row(epe=[1.0]), (
        region("true disparity", "0-8 px", 9000, 1.0, 5.0), region("true disparity", "8-16 px", 950, 3.0, 40.0),
        region("true disparity", "from 256 px", 50, 90.0, 100.0), region("texture", "textured", 10000, 1.0, 9.0),
    ))  # fmt: skip
    (failure,) = failures(row.accuracy)
    assert failure.region.name == "8-16 px"
    assert failure.rest_bad2_pct == pytest.approx((9000 * 5 + 50 * 100) / 9050)


def test_region_tables_have_a_column_for_each_entry_that_has_classes(make_row: MakeRow) -> None:
    regions = (
        region("visibility", "occluded", 10, 5.0, 50.0),
        region("visibility", "seen by both cameras", 90, 1.0, 5.0),
    )
    rows = [with_regions(make_row(epe=[1.0]), regions), make_row("old file", epe=[1.0]), make_row(p50=5.0)]
    entries = make_entries(rows)
    table = region_table(entries, "pairs", 0)
    assert table is not None
    assert [entry.model.variant for entry in table.entries] == ["nano fp32"]
    (lines,) = table.groups.values()
    name, share, bars = lines[0]
    assert (name, share) == ("occluded", "10.0 %")
    assert bars[0] is not None
    assert (bars[0].text, bars[0].width_pct) == ("50.0 %, 5.00 px", 100.0)
    assert [table.dataset for table in overview_tables(entries, {"pairs": None})] == ["pairs"]
    assert region_table(make_entries([make_row(epe=[1.0])]), "pairs", 0) is None


def test_everything_that_profile_records_is_drawn(make_row: MakeRow, parse_page: Callable[[str], Any]) -> None:
    row = dataclasses.replace(make_row(p50=20.0), power=POWER, soak=SOAK, layers=LAYERS)
    entries = make_entries([row, dataclasses.replace(make_row(epe=[1.0]), difference=DIFFERENCE)])
    (entry,) = entries
    found = details(entry, entries, {"pairs": None})
    assert [drawing.title for drawing in found.drawings] == [
        "Disparity minus that of nano <fp32>", "Power over time", "Temperature over time", "Latency over time",
    ]  # fmt: skip
    for drawing in found.drawings:
        root = ElementTree.fromstring(drawing.svg)
        assert root.get("role") == "img"
        assert root.get("aria-label") == drawing.words
    assert "power: 12.0 W on average, 14.0 W at most" in found.drawings[1].words
    (layers,) = found.lists
    assert layers.lines[0][0] == "layer 0 </td>"
    assert layers.lines[0][1].text == "3.00 ms, 30.0 %"
    assert layers.lines[-1][0] == "10 more layers"
    text = parse_page(page("T", entries)).text
    assert "J / pair" in text
    assert "0.250" in text
    assert "J / pair" not in parse_page(page("T", make_entries([make_row(p50=1.0)]))).text


def test_records_of_an_older_row_stay_beside_a_newer_latency(make_row: MakeRow) -> None:
    old = dataclasses.replace(make_row(p50=20.0), soak=SOAK)
    (entry,) = make_entries([make_row(p50=10.0, made_at="2026-02-02T00:00:00+00:00"), old])
    assert entry.latency is not None
    assert entry.latency.p50_ms == 10.0
    assert entry.soak == SOAK
    assert old in entry.rows


def test_histogram_in_words() -> None:
    _, words = difference_histogram(DIFFERENCE)
    assert words == (
        "Variant minus nano <fp32>, over 2 images: 0.0100 px on average, 0.0200 px in absolute terms; 3.00 % of the "
        "pixels moved by more than 0.5 px."
    )


def test_cost_of_precision_by_hand(rows: list[ResultRow]) -> None:
    entries = make_entries(rows)
    lines = {(entry.model.precision, entry.place.precision_hint): [cell.texts[""] for cell in cells]
             for entry, _, cells in cost_lines(entries, "pairs")}  # fmt: skip
    assert set(lines) == {("int8", "f32"), ("fp32", "bf16")}
    assert lines["int8", "f32"] == ["+0.15", "0.00", "0.47", "1.00", "not measured"]
    assert lines["fp32", "bf16"][2:4] == ["0.30", "the same file"]


def sensitivity_file(path: Path, student: str) -> Path:
    score = {"epe_px": 1.0, "bad2_pct": 5.0, "moved_px": 0.0, "max_error_px": 9.0, "moved_far_pct": 0.0}
    part = {"convolutions": ["a", "b"], "multiply_adds": 10, "kept_by_table": 0, "without": score}
    content = {
        "kind": "sensitivity", "made_from": {"student": student}, "by": "block", "fp32": score, "everything": score,
        "parts": [
            {**part, "name": "refinement <b>", "alone": {**score, "moved_px": 0.2, "epe_px": 1.1}},
            {**part, "name": "backbone", "alone": {**score, "moved_px": 0.4, "epe_px": 1.3}},
        ],
        "search": [{"taken_out": None, **score}, {"taken_out": "backbone", **score}],
    }  # fmt: skip
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_studies_stand_with_the_quantised_variants_of_their_student(tmp_path: Path, make_row: MakeRow) -> None:
    study = read_study(sensitivity_file(tmp_path / "sensitivity.json", "5e" * 32))
    entries = make_entries([make_row(p50=1.0), make_row(precision="int8", p50=2.0),
                            make_row("other", precision="int8", p50=3.0, source_sha256="77" * 32)])  # fmt: skip
    assert [bool(lists_for(entry, [study])) for entry in entries] == [False, True, False]
    parts, search = lists_for(entries[1], [study])
    assert [name for name, _ in parts.lines] == ["backbone", "refinement <b>"]
    assert parts.lines[0][1].text == "0.400 px, EPE +0.300 px"
    assert [name for name, _ in search.lines] == ["everything quantised", "without backbone"]
    text = page("T", entries, Extras(studies=[study]))
    assert "refinement &lt;b&gt;" in text
    assert text.count("Sensitivity: how far") == 1


@pytest.mark.parametrize("content", ["[]", "{}", '{"kind": "sensitivity", "parts": [{}], "everything": {}}'])
def test_files_that_are_no_studies(tmp_path: Path, content: str) -> None:
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(UserError, match="is no study"):
        read_study(tmp_path / "s.json")


def calibration_file(folder: Path, **changes: Any) -> Path:
    content = {"kind": "calibration frames", "label_set": {"frames": 60}, "selection": "coverage", "seed": 0,
               "asked_for": 16, "covering_radius": 0.25, "size": [480, 640], "frames": [{}] * 16}  # fmt: skip
    (folder / "calibration.json").write_text(json.dumps({**content, **changes}))
    return folder / "calibration.json"


def test_calibration_frames_in_numbers(tmp_path: Path) -> None:
    (found,) = read_study(calibration_file(tmp_path, made_from={"student": "5e" * 32})).lists
    assert found.lines[0][1].text == "16 of 60"
    assert ("covering radius", "0.25") in [(name, bar.text) for name, bar in found.lines]


def test_calibration_stands_with_the_int8_variants_of_its_student_alone(
    tmp_path: Path, make_row: MakeRow, caplog: pytest.LogCaptureFixture
) -> None:
    """An older file tells its student by the manifest beside it, or not at all."""
    entries = make_entries([make_row(p50=1.0), make_row(precision="int8", p50=2.0), make_row(precision="fp16", p50=3.0),
                            make_row("other", precision="int8", p50=4.0, source_sha256="77" * 32)])  # fmt: skip
    study = read_study(calibration_file(tmp_path, made_from={"student": "5e" * 32}))
    assert [bool(lists_for(entry, [study])) for entry in entries] == [False, True, False, False]

    old = calibration_file(tmp_path)
    with pytest.raises(UserError, match="does not tell which student was calibrated"):
        read_study(old)
    manifest = {"kind": "quantised student", "made_from": {"student": "77" * 32}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert [bool(lists_for(entry, [read_study(old)])) for entry in entries] == [False, False, False, True]

    tell_strangers(entries[:3], [study])
    assert caplog.text == ""
    tell_strangers(entries[:3], [read_study(old)])
    assert "calibration.json is of a student of whom these results have no INT8 variant" in caplog.text
