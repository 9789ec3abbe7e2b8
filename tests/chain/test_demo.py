"""The whole chain: footage in, report out, on the smallest student."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.device import precision_hints
from deploy.results import read_results
from stereo.cli import main
from stereo.label_set import LabelSet

SMALL = [
    "demo", "--preset", "tiny", "--steps", "12", "--size", "96x160", "--frames", "7", "--calibration-frames", "4",
]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo")
    assert main([*SMALL, "--out", str(out)]) == 0
    return out


def test_every_link_leaves_its_artifact(finished: Path) -> None:
    assert len(LabelSet.open(finished / "labels")) == 7
    LabelSet.open(finished / "labels").verify()
    for name in ("student/student.safetensors", "tiny/fp32.onnx", "tiny/fp16.onnx", "tiny/int8.onnx"):
        assert (finished / name).stat().st_size > 10_000
    page = (finished / "report.html").read_text()
    assert "int8" in page
    assert "SGBM" in page
    assert (finished / "report.md").exists()
    assert (finished / "results.csv").exists()


def test_results_say_what_ran_where(finished: Path) -> None:
    rows = read_results(finished / "results.json")
    variants = {(row.model.precision, row.place.runtime, row.place.precision_hint) for row in rows}
    for runtime in ("openvino", "onnxruntime"):
        for precision in ("fp32", "fp16", "int8"):
            assert (precision, runtime, "f32") in variants
    assert (("fp32", "openvino", "bf16") in variants) == ("bf16" in precision_hints())
    p50_ms = [row.latency.p50_ms for row in rows if row.model.precision == "int8" and row.latency is not None]
    assert len(p50_ms) == 1 + len(precision_hints())  # onnxruntime, OpenVINO with every hint
    assert min(p50_ms) > 0
    assert {entry.dataset for row in rows for entry in row.accuracy} == {"middlebury", "clip"}


def test_running_again_changes_nothing_that_is_finished(finished: Path) -> None:
    kept = ("labels/journal.jsonl", "student/student.safetensors", "tiny/int8.onnx")
    before = {name: (finished / name).stat().st_mtime_ns for name in kept}
    assert main([*SMALL, "--out", str(finished)]) == 0
    assert {name: (finished / name).stat().st_mtime_ns for name in kept} == before


def test_other_settings_are_refused(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--out", str(finished), "--seed", "5"]) == 2
    assert "seed was 0, now 5" in capsys.readouterr().err


@pytest.mark.slow
def test_own_footage_with_an_onnx_teacher(shared_data: Path, tmp_path: Path) -> None:
    """Real video, a real pretrained teacher, real truth."""
    footage = tmp_path / "footage"
    for side in ("left", "right"):
        (footage / side).mkdir(parents=True)
        for number in range(3):
            source = shared_data / "video" / "kitti_odom_seq_1" / side / f"{number:06d}.png"
            (footage / side / source.name).symlink_to(source)
    truth = tmp_path / "truth"
    truth.mkdir()
    (truth / "middlebury2001_tsukuba").symlink_to(shared_data / "pairs" / "middlebury2001_tsukuba")
    network = shared_data / "peers" / "hitnet_eth3d" / "eth3d_dyn.onnx"
    command = [*SMALL, "--out", str(tmp_path / "out"), "--video", str(footage), "--truth", str(truth)]
    assert main([*command, "--teacher", "onnx", "--teacher.model", str(network)]) == 0
    rows = read_results(tmp_path / "out" / "results.json")
    names = {row.model.variant for row in rows if row.model.role == "reference"}
    assert "SGBM" in names
    assert any("hitnet" in name.lower() for name in names)
    hitnet = next(row for row in rows if "hitnet" in row.model.variant.lower() and row.accuracy)
    # the published errors of this network on this pair: EPE .37 px on the pixels it keeps
    epe = hitnet.accuracy[0].epe_px
    assert epe is not None
    assert epe < 0.6
    manifest = json.loads((tmp_path / "out" / "labels" / "manifest.json").read_text())
    assert manifest["frames"] == 3
