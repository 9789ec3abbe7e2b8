"""What benchmarks/foundation_stereo.py runs: weights, images, operations counted, and what a device can do at most."""

from __future__ import annotations

import argparse
import csv
import functools
import importlib.util
import statistics
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import torch
from foundation_stereo_stages import now
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from teacher.checkpoints import load_foundation_stereo
from teacher.foundation_stereo import FoundationStereo, FoundationStereoConfig
from teacher.key_translation import translate

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"
RECIPES = ("vits", "vitl")
# Edge of the square matrices whose product stands for what a device can do.
MATMUL_EDGE = {"cpu": 2048, "cuda": 8192}
MATMUL_ROUNDS = 10
TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

Network = TypeVar("Network", bound=FoundationStereo)


def recipe() -> ModuleType:
    """The recipe of the golden vectors' weights and images."""
    spec = importlib.util.spec_from_file_location("weights_recipe", GOLDEN / "weights_recipe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def recipe_weights(vit: str) -> dict[str, torch.Tensor]:
    """The golden vectors' weights, under our names."""
    make = recipe().tensor_for
    with (GOLDEN / f"foundation_stereo_{vit}_keys.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    shapes = {
        row["key"]: () if row["shape"] == "scalar" else tuple(int(size) for size in row["shape"].split("x"))
        for row in rows
    }
    return translate({key: torch.as_tensor(make(key, shape)) for key, shape in shapes.items()})[0]


def load_network(options: argparse.Namespace, kind: type[Network]) -> Network:
    """A network of the kind, in evaluation mode; the weights are the same whichever kind is asked for."""
    if options.checkpoint is not None:
        loaded = load_foundation_stereo(options.checkpoint, max_disp=options.max_disp)
        config, weights = loaded.config, loaded.state_dict()
    else:
        config = FoundationStereoConfig(vit=options.vit, max_disp=options.max_disp)
        torch.manual_seed(0)
        weights = recipe_weights(options.vit) if options.vit in RECIPES else FoundationStereo(config).state_dict()
    with torch.device("meta"):
        network = kind(config)
    network.load_state_dict(weights, assign=True)
    return network.eval()


def make_pair(options: argparse.Namespace, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The same procedural pair in every place of a batch, (B, 3, H, W), RGB 0–255."""
    views = recipe().stereo_pair(*options.size, 0)
    left, right = (torch.from_numpy(view).float().expand(batch, -1, -1, -1).contiguous() for view in views)
    return left, right


def count_flops(options: argparse.Namespace) -> int:
    """Operations of one pair, a multiplication and an addition counted as two; nothing is computed."""
    # Attention as plain matrix products: the fused kernels of CPUs are not counted.
    with FakeTensorMode(), sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        network = FoundationStereo(FoundationStereoConfig(vit=options.vit, max_disp=options.max_disp)).eval()
        views = torch.zeros(2, 1, 3, *options.size)

        def flops(iterations: int) -> int:
            with FlopCounterMode(display=False) as counter:
                network(views[0], views[1], iterations=iterations)
            return counter.get_total_flops()

        once = flops(1)
        return once + (options.iterations - 1) * (flops(2) - once)


@functools.cache
def achievable_flops(device: torch.device, precision: str) -> float:
    """Operations per second of a large matrix product in that precision."""
    edge = MATMUL_EDGE["cuda" if device.type == "cuda" else "cpu"]
    dtype = TYPES.get(precision, torch.float32)
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    left, right = torch.randn(2, edge, edge, device=device).to(dtype)
    seconds = []
    for _ in range(MATMUL_ROUNDS):
        start = now(device)
        torch.mm(left, right)
        seconds.append(now(device) - start)
    return 2 * edge**3 / statistics.median(seconds)
