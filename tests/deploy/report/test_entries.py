"""deploy.report.entries: what belongs together is joined, what does not is kept apart, nothing is averaged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from deploy.report.entries import datasets, make_entries, mask_note
from deploy.results import ResultRow
from stereo.errors import UserError

LATER = "2026-02-02T00:00:00+00:00"


def test_latency_and_accuracy_of_the_same_place_join(rows: list[ResultRow]) -> None:
    entries = make_entries(rows)
    found = {(e.model.variant, e.place.runtime, e.place.precision_hint, e.place.device): e for e in entries}
    assert len(found) == len(entries) == 7
    int8 = found["nano int8", "openvino", "f32", "a board"]
    assert int8.latency is not None
    assert int8.latency.p50_ms == 95.0
    assert int8.mean("pairs", "epe_px") == pytest.approx((1.1 + 2.1 + 3.25) / 3)


def test_accuracy_does_not_leak_to_other_devices_runtimes_or_hints(rows: list[ResultRow]) -> None:
    entries = make_entries(rows)
    other_device = next(e for e in entries if e.place.device == "another board")
    assert other_device.accuracy("pairs") == []
    assert other_device.mean("pairs", "epe_px") is None
    onnxruntime = next(e for e in entries if e.place.runtime == "onnxruntime" and e.model.role == "variant")
    assert len(onnxruntime.accuracy("pairs")) == 2


def test_the_newest_measurement_counts_and_the_replaced_are_told(make_row: Callable[..., ResultRow]) -> None:
    old, new = make_row(p50=100.0), make_row(p50=80.0, made_at=LATER)
    (entry,) = make_entries([new, old])
    assert entry.latency is not None
    assert entry.latency.p50_ms == 80.0
    assert entry.replaced == 1


def test_other_threads_or_sizes_are_entries_of_their_own(make_row: Callable[..., ResultRow]) -> None:
    changed = [make_row(p50=1.0), make_row(p50=2.0, threads=4), make_row(p50=3.0, height=240, width=320)]
    entries = make_entries([*changed, make_row(epe=[1.0])])
    assert [(e.place.threads, e.place.height, bool(e.accuracy("pairs"))) for e in entries] == [
        (1, 480, True), (4, 480, True), (1, 240, False),
    ]  # fmt: skip


def test_accuracy_at_another_size_is_no_accuracy_of_the_timed_size(make_row: Callable[..., ResultRow]) -> None:
    own_size = make_row(epe=[1.0], height=None, width=None)
    entries = make_entries([make_row(p50=10.0), own_size])
    assert [(bool(entry.latency), bool(entry.accuracy("pairs"))) for entry in entries] == [(True, False), (False, True)]
    reference = {"role": "reference", "runtime": "opencv"}
    (entry,) = make_entries(
        [make_row(p50=10.0, **reference), make_row(epe=[1.0], height=None, width=None, **reference)]
    )
    assert entry.latency is not None
    assert entry.mean("pairs", "epe_px") == 1.0


def test_estimates_never_join_measurements(make_row: Callable[..., ResultRow]) -> None:
    entries = make_entries([make_row(p50=10.0), make_row(p50=7.0, kind="estimated")])
    assert sorted(entry.kind for entry in entries) == ["estimated", "measured"]


def test_variants_are_compared_with_fp32_in_the_same_power_mode(make_row: Callable[..., ResultRow]) -> None:
    rows = [make_row(p50=10.0, power_mode="25W"), make_row(p50=4.0, power_mode="MAXN"),
            make_row(precision="int8", p50=2.0, power_mode="MAXN")]  # fmt: skip
    ratios = {(entry.model.precision, entry.place.power_mode): entry.ratio for entry in make_entries(rows)}
    ratio = ratios["int8", "MAXN"]
    assert ratio is not None
    assert ratio.value == 0.5


def test_an_image_evaluated_again_counts_once_with_its_newest_errors(make_row: Callable[..., ResultRow]) -> None:
    first, second = make_row(epe=[4.0, 2.0]), make_row(epe=[1.0], made_at=LATER)
    (entry,) = make_entries([second, first])
    assert entry.mean("pairs", "epe_px") == pytest.approx((1.0 + 2.0) / 2)


def test_ratio_is_the_interleaved_one_where_there_is_one(rows: list[ResultRow]) -> None:
    entries = make_entries(rows)
    ratios = {(e.model.precision, e.place.runtime, e.place.precision_hint): e.ratio for e in entries
              if e.place.device == "a board" and e.model.role == "variant"}  # fmt: skip
    int8 = ratios["int8", "openvino", "f32"]
    assert int8 is not None
    assert (int8.value, int8.interleaved) == (0.47, True)
    bf16 = ratios["fp32", "openvino", "bf16"]
    assert bf16 is not None
    assert bf16.value == 0.3


def test_ratio_of_separate_runs_is_marked(make_row: Callable[..., ResultRow]) -> None:
    entries = make_entries([make_row(p50=100.0), make_row(precision="int8", p50=40.0)])
    int8 = next(entry for entry in entries if entry.model.precision == "int8")
    assert int8.ratio is not None
    assert (int8.ratio.value, int8.ratio.interleaved) == (pytest.approx(0.4), False)


def test_no_ratio_across_students_runtimes_or_threads(make_row: Callable[..., ResultRow]) -> None:
    base = make_row(p50=100.0)
    others = [
        make_row("other", precision="int8", p50=40.0, source_sha256="77" * 32),
        make_row("unknown", precision="int8", p50=40.0, source_sha256=None),
        make_row(precision="int8", p50=40.0, runtime="onnxruntime"),
        make_row(precision="int8", p50=40.0, threads=2),
    ]
    entries = make_entries([base, *others])
    assert [entry.ratio for entry in entries if entry.model.precision == "int8"] == [None] * 4


def test_an_image_without_value_leaves_no_average(make_row: Callable[..., ResultRow]) -> None:
    (entry,) = make_entries([make_row(epe=[1.0, None])])
    assert entry.mean("pairs", "epe_px") is None
    assert entry.mean("pairs", "bad2_pct") == 5.0


def test_coverage_is_noted_only_where_pixels_are_open(rows: list[ResultRow]) -> None:
    entries = {entry.place.runtime: entry for entry in make_entries(rows)}
    assert entries["opencv"].coverage_note("pairs") == " on 80.0 % of the pixels"
    assert entries["openvino"].coverage_note("pairs") == ""


def test_datasets_and_masks(make_row: Callable[..., ResultRow]) -> None:
    row = make_row(epe=[1.0, 2.0, 3.0])
    masks = ("noc", "all", "noc")
    row = dataclasses.replace(
        row, accuracy=tuple(dataclasses.replace(a, mask=m) for a, m in zip(row.accuracy, masks, strict=True))
    )
    found = datasets(make_entries([make_row(epe=[1.0], dataset="clip"), row]))
    assert {name: len(images) for name, images in found.items()} == {"pairs": 3, "clip": 1}
    assert list(found) == ["pairs", "clip"]
    assert mask_note(found["pairs"]) == "noc pixels on 2 images, all pixels on 1 image"


def test_no_rows() -> None:
    with pytest.raises(UserError, match="hold no rows"):
        make_entries([])
