"""Engines built and run on a real GPU, and what holds on a Jetson only: `pytest -m "gpu or jetson" tests/deploy`.

Nothing here has run yet where this was written: there was no GPU. The stand-ins of the other tests hold the same paths.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deploy.config import BuildConfig
from deploy.cuda import load_cuda
from deploy.engine import build
from deploy.engines.flavours import import_flavour
from deploy.engines.layers import layers_path, read_layers
from deploy.jetson import is_jetson
from deploy.layers import measure_layers
from deploy.run_pair import run_pair
from deploy.runners.protocol import RunsWithoutCopies
from deploy.runners.registry import open_runner
from stereo.errors import UserError
from stereo.pair import StereoPair

# What a runtime keeps for itself after the first engine, such as its modules and streams.
KEPT_BYTES = 64_000_000


def gpu_or_skip() -> None:
    try:
        import_flavour("tensorrt")
        load_cuda().gpu()
    except UserError as error:
        pytest.skip(f"no TensorRT on a GPU here: {error}")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, network: Path) -> Path:
    """The toy network, built here with a timing cache."""
    gpu_or_skip()
    folder = tmp_path_factory.mktemp("built")
    out = folder / "toy.engine"
    build(BuildConfig(str(network), runtime="tensorrt", out=str(out), timing_cache=str(folder / "timing.cache")))
    return out


@pytest.mark.gpu
def test_the_same_disparity_as_on_the_processor(
    engine: Path, network: Path, make_pair: Callable[..., StereoPair]
) -> None:
    pytest.importorskip("onnxruntime")
    runner, reference = open_runner(engine), open_runner(network, "onnxruntime")
    for size in ((64, 96), (50, 70), (128, 192)):
        pair = make_pair(6, *size)
        # float32 without TF32 on both sides; the softmax's sharpness makes rounding of the costs visible.
        np.testing.assert_allclose(
            run_pair(runner, pair).disparity, run_pair(reference, pair).disparity, atol=0.02 * size[0] / 64
        )
    runner.close()


@pytest.mark.gpu
def test_a_cuda_graph_is_used_and_answers_do_not_change(engine: Path, make_pair: Callable[..., StereoPair]) -> None:
    runner = open_runner(engine)
    assert runner.metadata["runtime.cuda_graph"].startswith("yes"), runner.metadata["runtime.cuda_graph"]
    first = run_pair(runner, make_pair(3)).disparity
    other = run_pair(runner, make_pair(9)).disparity
    for _ in range(100):
        np.testing.assert_array_equal(run_pair(runner, make_pair(3)).disparity, first)
    assert isinstance(runner, RunsWithoutCopies)
    runner.run_without_copies()
    np.testing.assert_array_equal(run_pair(runner, make_pair(9)).disparity, other)
    runner.close()


@pytest.mark.gpu
def test_closing_gives_the_memory_back(engine: Path) -> None:
    cuda = load_cuda()
    open_runner(engine).close()
    free, _ = cuda.call("cudaMemGetInfo")
    for _ in range(20):
        open_runner(engine).close()
    assert cuda.call("cudaMemGetInfo")[0] > free - KEPT_BYTES


@pytest.mark.gpu
def test_layers_are_told_and_timed(engine: Path) -> None:
    layers = read_layers(layers_path(engine))
    assert sorted(layers.io_tensors) == ["disparity", "left", "right"]
    assert layers.layers
    assert layers.precisions(), "the inspector told no types: was the engine built with detail?"
    runner = open_runner(engine)
    times = measure_layers(runner, engine, (np.zeros(1, np.float32), np.zeros(1, np.float32)))
    assert times is not None
    assert times.total_ms > 0
    runner.close()


@pytest.mark.gpu
def test_a_second_build_measures_nothing_new(engine: Path, network: Path, tmp_path: Path) -> None:
    cache = engine.with_name("timing.cache")
    before = cache.stat().st_size
    assert before > 0
    build(BuildConfig(str(network), runtime="tensorrt", out=str(tmp_path / "e.engine"), timing_cache=str(cache)))
    assert cache.stat().st_size == before


@pytest.mark.jetson
def test_a_board_shares_its_memory_and_limits_the_builder(engine: Path) -> None:
    if not is_jetson():
        pytest.skip("this is no Jetson")
    runner = open_runner(engine)
    assert runner.metadata["runtime.memory"] == "shared with the GPU, not copied"
    runner.close()
    manifest = engine.with_suffix(".manifest.json")
    content = json.loads(manifest.read_text())
    assert content["compute_capability"] == "8.7"
    assert content["device"].startswith("Jetson ")
    assert content["memory_limit_mb"] > 500


@pytest.mark.gpu
def test_torch_tensorrt_agrees_with_torch(student_file: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch_tensorrt", reason="torch-tensorrt is not installed (extra torch-tensorrt)")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    left, right = np.random.default_rng(0).uniform(0, 255, (2, 1, 3, 64, 96)).astype(np.float32)
    compiled = open_runner(student_file, "torch_tensorrt", size=(64, 96))
    expected = open_runner(student_file, "torch").run(left, right)
    assert np.abs(compiled.run(left, right) - expected).mean() < 0.05
    compiled.close()
