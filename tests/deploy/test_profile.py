"""deploy.profile: rows for every variant, runtime and hint, with ratios and memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from deploy.config import ProfileConfig
from deploy.device import cpu_features
from deploy.measure import Timing
from deploy.profile import profile, profile_runner
from deploy.results import ModelFacts, read_results
from deploy.runners.protocol import NativeMethod
from deploy.runners.registry import open_runner
from deploy.textured_pair import textured_pair
from stereo.cli import main
from stereo.errors import UserError
from stereo.pair import StereoPair


@pytest.fixture
def variants(tmp_path: Path, make_network: Callable[..., Path]) -> Path:
    """A folder as quantize writes it: two precisions of one student."""
    for precision in ("fp32", "int8"):
        make_network(tmp_path / "toy" / f"{precision}.onnx", metadata={"precision": precision})
    return tmp_path / "toy"


def test_command_line_writes_rows_and_prints_only_the_path(
    tmp_path: Path, variants: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    out = tmp_path / "results.json"
    words = ["profile", str(variants), "--size", "64x96", "--runtime", "onnxruntime", "--runs", "4", "--warmup", "1"]
    assert main([*words, "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{out}\n"
    assert "toy int8" in captured.err
    rows = read_results(out)
    assert [row.model.variant for row in rows] == ["toy fp32", "toy int8"]
    for row in rows:
        assert row.latency is not None
        assert (row.latency.n, row.latency.warmup) == (4, 1)
        assert 0 < row.latency.p50_ms <= row.latency.p90_ms <= row.latency.p99_ms
        assert row.latency.ratio_to_fp32 is not None
        assert row.memory is not None
        assert (row.place.height, row.place.width, row.place.threads) == (64, 96, 1)
        assert row.kind == "measured"
    assert rows[0].latency is not None
    assert rows[0].latency.ratio_to_fp32 == 1.0


def test_bf16_is_a_row_of_its_own_and_its_ratio_is_to_f32(tmp_path: Path, variants: Path) -> None:
    for name in ("openvino", "onnxruntime"):
        pytest.importorskip(name)
    if "avx512_bf16" not in cpu_features():
        pytest.skip("this processor has no BF16")
    out = tmp_path / "results.json"
    profile(ProfileConfig([str(variants / "fp32.onnx")], out=str(out), runtime="openvino,onnxruntime",
                          precision_hints="f32,bf16", runs=3, memory=False))  # fmt: skip
    rows = read_results(out)
    assert [(row.place.runtime, row.place.precision_hint) for row in rows] == [
        ("openvino", "f32"), ("openvino", "bf16"), ("onnxruntime", "f32"),
    ]  # fmt: skip
    ratios = [row.latency.ratio_to_fp32 for row in rows if row.latency]
    assert ratios[0] == ratios[2] == 1.0
    assert ratios[1] is not None
    assert ratios[1] != 1.0
    assert all(row.memory is None for row in rows)


def test_graph_of_another_size_is_refused_in_one_line(
    tmp_path: Path, variants: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["profile", str(variants), "--size", "480x640", "--out", str(tmp_path / "r.json")]
    assert main(words) == 2
    assert "was exported for 64x96 and cannot run at 480x640" in capsys.readouterr().err
    assert not (tmp_path / "r.json").exists()


def test_network_of_any_size_needs_a_size(tmp_path: Path, make_network: Callable[..., Path]) -> None:
    pytest.importorskip("onnxruntime")
    path = make_network(tmp_path / "open.onnx", size=None)
    settings = {"out": str(tmp_path / "r.json"), "runs": 3, "memory": False}
    with pytest.raises(UserError, match=r"takes any size.*--size 480x640"):
        profile(ProfileConfig([str(path)], **settings))
    profile(ProfileConfig([str(path)], size="32x64", **settings))
    (row,) = read_results(tmp_path / "r.json")
    assert (row.place.height, row.place.width) == (32, 64)


def test_foreign_out_file_is_refused_before_measuring(tmp_path: Path, variants: Path) -> None:
    out = tmp_path / "results.json"
    shutil.copy(Path(__file__), out)
    with pytest.raises(UserError, match="is not a results file"):
        profile(ProfileConfig([str(variants)], out=str(out)))


@pytest.mark.parametrize(("left", "right"), [("a.png", ""), ("", "b.png")])
def test_one_image_is_no_pair(tmp_path: Path, variants: Path, left: str, right: str) -> None:
    with pytest.raises(UserError, match="only one image given"):
        profile(ProfileConfig([str(variants)], out=str(tmp_path / "r.json"), left=left, right=right))


def test_runs_on_a_given_pair(tmp_path: Path, variants: Path, pairs_folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    images = {side: str(pairs_folder / "wide" / f"{side}.png") for side in ("left", "right")}
    out = tmp_path / "r.json"
    profile(ProfileConfig([str(variants / "fp32.onnx")], out=str(out), runs=3, memory=False, **images))
    assert read_results(out)[0].latency is not None


def test_native_method_is_timed_with_its_own_processing(make_pair: Callable[..., StereoPair]) -> None:
    calls = []

    def predict(pair: StereoPair):
        calls.append(pair.name)
        return pair.disparity

    method = NativeMethod(predict, "opencv", "5", "int16", 2)
    row = profile_runner(method, make_pair(), model=ModelFacts("SGBM", role="reference"), timing=Timing(6, 60, 2))
    assert row.latency is not None
    assert (row.latency.n, len(calls)) == (6, 8)
    assert (row.place.height, row.place.width) == (64, 96)
    assert "pre- and post-processing" in row.place.notes["runtime.timed"]


def test_profile_runner_takes_a_runner(network: Path, make_pair: Callable[..., StereoPair]) -> None:
    pytest.importorskip("onnxruntime")
    runner = open_runner(network)
    row = profile_runner(runner, make_pair(), model=ModelFacts("toy"), timing=Timing(3, 60, 0))
    assert row.latency is not None
    assert row.place.runtime == "onnxruntime"


def test_textured_pair_is_exact() -> None:
    pair = textured_pair(60, 80, seed=3)
    assert pair.disparity is not None
    rows, columns = np.mgrid[:60, :80]
    source = columns - pair.disparity
    inside = source > 0
    sampled = cv2.remap(pair.right, source.astype(np.float32), rows.astype(np.float32), cv2.INTER_LINEAR)
    np.testing.assert_array_equal(sampled[inside], pair.left[inside])
    assert pair.left.std() > 20
