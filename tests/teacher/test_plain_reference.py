"""The fast network against the same network written plainly, which the benchmark measures it by."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from teacher.cost_filtering import ScoreConv
from teacher.foundation_stereo import FoundationStereo, FoundationStereoConfig, Predictions
from teacher.fusing import prepare_for_inference
from teacher.refinement import halved

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def plain() -> Iterator[ModuleType]:
    """benchmarks/plain_foundation_stereo.py."""
    name = "plain_foundation_stereo"
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]


def plain_like(plain: ModuleType, network: FoundationStereo) -> FoundationStereo:
    """The plain network with the weights of a fast one."""
    with torch.device("meta"):
        reference = plain.PlainFoundationStereo(network.config)
    reference.load_state_dict(network.state_dict(), assign=True)
    return reference.eval()


@torch.inference_mode()
def both(plain: ModuleType, fast: FoundationStereo, size: tuple[int, int, int]) -> tuple[Predictions, Predictions]:
    """Predictions of the fast and of the plain network on noise, float64."""
    batch, height, width = size
    generator = torch.Generator().manual_seed(2)
    left, right = (torch.rand(batch, 3, height, width, generator=generator).double() * 255 for _ in range(2))
    fast = fast.double().eval()
    reference = plain_like(plain, fast)
    return fast.predict_sequence(left, right, iterations=3), reference.predict_sequence(left, right, iterations=3)


# The last is narrower than the disparity range: 16 columns, 24 planes.
@pytest.mark.parametrize(
    ("size", "max_disp", "axis"),
    [((1, 64, 96), 64, "disparity"), ((2, 32, 128), 64, "heads"), ((1, 64, 64), 96, "disparity")],
)
def test_the_fast_network_equals_the_plain_one(
    plain: ModuleType, tiny_config: FoundationStereoConfig, size: tuple[int, int, int], max_disp: int, axis: Any
) -> None:
    torch.manual_seed(3)
    config = FoundationStereoConfig(**{**vars(tiny_config), "max_disp": max_disp, "attention_axis": axis})
    fast, reference = both(plain, FoundationStereo(config), size)
    torch.testing.assert_close(fast.initial, reference.initial, rtol=0, atol=1e-9)
    for got, expected in zip(fast.sequence, reference.sequence, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-8)
    assert fast.initial.std() > 0


def test_a_prepared_network_equals_the_plain_one_on_published_shapes(
    plain: ModuleType,
    recipe_network: Callable[..., FoundationStereo],
    recipe_pair: Callable[..., tuple[torch.Tensor, torch.Tensor]],
    golden_manifest: dict[str, Any],
) -> None:
    reference = plain_like(plain, recipe_network())
    fast = prepare_for_inference(recipe_network())
    left, right = recipe_pair(128, 192)
    with torch.inference_mode():
        got = fast.predict_sequence(left, right, iterations=4, every=False)
        expected = reference.predict_sequence(left, right, iterations=4, every=False)
    # The golden tolerances are what float32 rounding, summed in another order, does to the published network.
    arrays = golden_manifest["cases"]["vits_128x192_disparity_axis"]["arrays"]
    torch.testing.assert_close(got.initial, expected.initial, rtol=0, atol=arrays["init_disp"]["atol"])
    tolerance = arrays["disp_full_it3"]
    error = (got.sequence[-1] - expected.sequence[-1]).abs()
    assert error.max() <= tolerance["atol"]
    assert error.mean() <= tolerance["mean_atol"]


def test_attention_of_the_plain_network_leaves_torch_as_it_was(plain: ModuleType) -> None:
    query, key, value = torch.randn(3, 2, 4, 5, 6, dtype=torch.float64)
    fused = F.scaled_dot_product_attention
    with plain.attention_materialised():
        assert F.scaled_dot_product_attention is not fused
        torch.testing.assert_close(F.scaled_dot_product_attention(query, key, value), fused(query, key, value))
    assert F.scaled_dot_product_attention is fused


@pytest.mark.parametrize("length", [2, 7, 8])
@pytest.mark.parametrize("axis", [2, 4])
def test_halving_equals_pooling(length: int, axis: int) -> None:
    shape = [2, 3, 5, 4, 6]
    shape[axis] = length
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    expected = F.avg_pool3d(rows, [2 if number == axis else 1 for number in (2, 3, 4)])
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        assert torch.equal(halved(rows.contiguous(memory_format=layout), axis=axis), expected)


@pytest.mark.slow
def test_the_benchmark_runs() -> None:
    tiny = ["--vit", "tiny", "--size", "64x96", "--max-disp", "64", "--iterations", "2", "--rounds", "1"]
    command = [sys.executable, str(BENCHMARKS / "foundation_stereo.py"), *tiny, "--both", "--batches", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    for expected in ("iterations: lookup", "time / fast", "plain", "GB at the peak", "both views", "best batch: 1"):
        assert expected in done.stdout


@pytest.mark.parametrize("planes", [1, 2, 9])
def test_scores_equal_a_plain_convolution(planes: int) -> None:
    torch.manual_seed(4)
    conv = ScoreConv(3, kernel=5).double()
    volume = torch.randn(2, 3, planes, 6, 8, dtype=torch.float64, requires_grad=True)
    expected = F.conv3d(volume, conv.weight, conv.bias, padding=2)
    torch.testing.assert_close(conv(volume), expected)
    inputs = (volume, conv.weight)
    gradients = torch.autograd.grad(conv(volume).square().sum(), inputs)
    for got, wanted in zip(gradients, torch.autograd.grad(expected.square().sum(), inputs), strict=True):
        torch.testing.assert_close(got, wanted)
