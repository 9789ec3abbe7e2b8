"""deploy.evaluate: numbers that can be worked out by hand, from each variant as it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deploy.config import EvaluateConfig
from deploy.evaluate import evaluate, evaluate_runner
from deploy.result_pictures import PictureFolder, file_name
from deploy.results import ModelFacts, read_results
from deploy.runners.protocol import NativeMethod
from deploy.runners.registry import open_runner
from deploy.summary import mean_of
from stereo.cli import main
from stereo.errors import UserError
from stereo.pair import StereoPair

REFERENCE = ModelFacts("constant", role="reference")


def native(predict: Callable[[StereoPair], np.ndarray]) -> NativeMethod:
    return NativeMethod(predict, "numpy", "2", "f32", 1)


def off_by(error: float) -> NativeMethod:
    def predict(pair: StereoPair) -> np.ndarray:
        assert pair.disparity is not None
        return pair.disparity + np.float32(error)

    return native(predict)


def test_errors_of_a_known_prediction(make_pair: Callable[..., StereoPair]) -> None:
    row = evaluate_runner(off_by(1.5), [make_pair(5), make_pair(8)], model=REFERENCE, dataset="toy")
    assert [entry.epe_px for entry in row.accuracy] == [1.5, 1.5]
    first = row.accuracy[0]
    assert (first.bad1_pct, first.bad2_pct, first.d1_pct) == (100.0, 0.0, 0.0)
    assert (first.mask, first.dataset, first.scale, first.nonfinite_pixels) == ("noc", "toy", 1.0, None)
    assert row.model.role == "reference"
    assert row.latency is None


def test_mask_is_all_without_noc_and_carries_the_limit(make_pair: Callable[..., StereoPair]) -> None:
    pair = make_pair(5)
    pair.noc = None
    row = evaluate_runner(off_by(0), [pair], model=REFERENCE, dataset="toy", max_disp=64)
    assert row.accuracy[0].mask == "all, disparity < 64"


def test_open_pixels_of_a_native_method_lower_coverage_only(make_pair: Callable[..., StereoPair]) -> None:
    def half(pair: StereoPair) -> np.ndarray:
        assert pair.disparity is not None
        disparity = pair.disparity.copy()
        disparity[: pair.height // 2] = np.inf
        return disparity

    row = evaluate_runner(native(half), [make_pair(5)], model=REFERENCE, dataset="toy")
    assert row.accuracy[0].coverage_pct == 50.0
    assert row.accuracy[0].epe_px == 0.0
    assert row.accuracy[0].bad2_pct == 50.0
    assert row.problems == ()


def test_network_that_puts_out_nan_is_reported(
    tmp_path: Path, make_network: Callable[..., Path], make_pair: Callable[..., StereoPair],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    pytest.importorskip("onnxruntime")
    pair = make_pair(5)
    limit = 128.0
    holes = int((pair.left[:, :, 0] > limit).sum())
    assert 0 < holes < pair.left[:, :, 0].size
    runner = open_runner(make_network(tmp_path / "nan.onnx", nan_above=limit))
    row = evaluate_runner(runner, [pair], model=ModelFacts("broken"), dataset="toy")
    assert row.accuracy[0].nonfinite_pixels == holes
    assert row.accuracy[0].coverage_pct < 100
    assert row.problems == (
        f"{holes} of 6144 pixels of shifted came out as NaN or infinite; they count as bad, and EPE leaves them out",
    )
    assert "broken: " in caplog.text


def test_image_with_nothing_but_nan_leaves_no_average(
    tmp_path: Path, make_network: Callable[..., Path], make_pair: Callable[..., StereoPair]
) -> None:
    pytest.importorskip("onnxruntime")
    runner = open_runner(make_network(tmp_path / "nan.onnx", nan_above=-1.0))
    row = evaluate_runner(runner, [make_pair(5)], model=ModelFacts("broken"), dataset="toy")
    assert row.accuracy[0].epe_px is None
    assert row.accuracy[0].bad2_pct == 100.0
    assert mean_of(row.accuracy, "epe_px") is None


def test_larger_images_are_scaled_and_disparity_comes_back_at_their_size(
    network: Path, pairs_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("onnxruntime")
    caplog.set_level("INFO")
    out = tmp_path / "results.json"
    evaluate(EvaluateConfig([str(network)], data=str(pairs_folder), out=str(out), pictures=False))
    (row,) = read_results(out)
    near, wide = row.accuracy
    assert (near.image, near.scale, near.mask) == ("near", 1.0, "noc")
    assert (wide.image, wide.scale, wide.mask) == ("wide", 0.5, "all")
    assert (wide.height, wide.width) == (128, 192)
    assert near.epe_px is not None
    assert near.epe_px < 0.01
    # 8 px at full size are 4 px in the network; averaging 2×2 pixels keeps the shift exact.
    assert wide.p99_error_px is not None
    assert wide.bad1_pct < 12
    assert caplog.text.count("1 of 2 images scaled down to fit") == 1


def test_command_line_makes_a_row_for_each_runtime_with_pictures(
    network: Path, pairs_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("onnxruntime", "openvino"):
        pytest.importorskip(name)
    out = tmp_path / "results.json"
    words = ["evaluate", str(network), "--data", str(pairs_folder), "--runtime", "openvino,onnxruntime"]
    assert main([*words, "--dataset", "toy pairs", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    rows = read_results(out)
    assert [row.place.runtime for row in rows] == ["openvino", "onnxruntime"]
    assert {entry.dataset for row in rows for entry in row.accuracy} == {"toy pairs"}
    files = {getattr(item, name) for row in rows for item in row.pictures for name in ("left", "truth", "disparity",
                                                                                    "error")}  # fmt: skip
    assert len(files) == 2 * (2 + 2 * 2)
    assert all((tmp_path / file).is_file() for file in files)


def test_evaluating_again_replaces_the_row(network: Path, pairs_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    config = EvaluateConfig([str(network)], data=str(pairs_folder), out=str(tmp_path / "r.json"), pictures=False)
    evaluate(config)
    evaluate(config)
    assert len(read_results(tmp_path / "r.json")) == 1


def test_no_pairs_no_truth_and_empty_folder(
    network: Path, tmp_path: Path, make_pair: Callable[..., StereoPair]
) -> None:
    with pytest.raises(UserError, match="no pairs to evaluate on"):
        evaluate_runner(off_by(0), [], model=REFERENCE, dataset="toy")
    pair = make_pair(5)
    pair.disparity = None
    with pytest.raises(UserError, match="has no true disparity"):
        evaluate_runner(native(lambda p: np.zeros(p.left.shape[:2], np.float32)), [pair], model=REFERENCE, dataset="t")
    with pytest.raises(UserError, match="no pairs with"):
        evaluate(EvaluateConfig([str(network)], data=str(tmp_path), out=str(tmp_path / "r.json")))


def test_wrong_output_shape_is_refused(make_pair: Callable[..., StereoPair]) -> None:
    class TwoMaps:
        runtime, runtime_version, precision_hint, threads = "fake", "1", "f32", 1
        input_size = (64, 96)
        metadata: dict[str, str] = {}  # noqa: RUF012

        def run(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
            return np.zeros((1, 2, 64, 96), np.float32)

        def close(self) -> None:
            pass

    with pytest.raises(UserError, match=r"put out \(1, 2, 64, 96\)"):
        evaluate_runner(TwoMaps(), [make_pair(5)], model=REFERENCE, dataset="toy")


def test_pictures_of_variants_that_differ_only_in_odd_characters_do_not_collide(
    tmp_path: Path, make_pair: Callable[..., StereoPair]
) -> None:
    assert file_name("a/b") != file_name("a:b")
    assert file_name("../../etc/passwd").count("/") == 0
    assert file_name("plain-name_1.0") == "plain-name_1.0"
    pair = make_pair(5, name="../escape <b>")
    folder = PictureFolder(tmp_path / "results.json", "toy")
    assert pair.disparity is not None
    saved = [
        folder.save(pair, pair.disparity, model=ModelFacts(name), runtime="r", precision_hint="f32")
        for name in ("x?", "x*")
    ]
    assert saved[0].disparity != saved[1].disparity
    assert saved[0].left == saved[1].left
    inside = (tmp_path / "results_pictures").resolve()
    assert all((tmp_path / item.error).resolve().is_relative_to(inside) for item in saved)


@pytest.mark.slow
def test_real_pairs_with_the_students_graph_form(network: Path, shared_data: Path, tmp_path: Path) -> None:
    """All development pairs are read, fitted and scored; the toy's range of 16 px makes it bad, not broken."""
    pytest.importorskip("onnxruntime")
    out = tmp_path / "results.json"
    evaluate(EvaluateConfig([str(network)], data=str(shared_data / "pairs"), out=str(out), pictures=False))
    (row,) = read_results(out)
    assert len(row.accuracy) == 7
    assert {entry.mask for entry in row.accuracy} == {"noc", "all"}
    assert all(entry.coverage_pct == 100 for entry in row.accuracy)
