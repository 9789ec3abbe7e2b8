"""How fast procedural scenes are made, and what each step costs.

    OMP_NUM_THREADS=1 python benchmarks/scenes.py [--size 256x512] [--batch 4] [--batches 8] [--device cpu]
        [--supersample 1] [--textures DIR]
    python benchmarks/scenes.py --disparities 200 [--max-disp 192] [--size 256x512]     # their distribution instead

Steps nest: `see` holds the projection and `cast`; `paint` holds `draw_shadows` and `shade`. Times are of the process
(CPU) or the wall (GPU), after a warm-up that draws the texture bank, which is timed apart.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch

from distill import scenes
from distill.scene_textures import bank_for
from distill.scenes_config import SceneOptions
from stereo.options import parse_size

STEPS = ("compose", "see", "cast", "paint", "draw_shadows", "shade", "soft_edges", "hidden", "photometry")
EDGES_PX = (0.0, 1.0, 4.0, 16.0, 48.0, 96.0, 128.0, 160.0, 1024.0)


def timed(function: Callable[..., Any], spent: dict[str, float], device: torch.device) -> Callable[..., Any]:
    """The function, adding its time to `spent` under its name."""
    name = function.__name__

    def call(*args: Any, **kwargs: Any) -> Any:
        start = clock(device)
        result = function(*args, **kwargs)
        spent[name] += clock(device) - start
        return result

    return call


def clock(device: torch.device) -> float:
    """Seconds: of the process on a CPU, of the wall once a GPU has caught up."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def print_disparities(count: int, size: tuple[int, int], batch: int, config: SceneOptions) -> None:
    """Share of the left pixels of `count` scenes in ranges of disparity."""
    generator = torch.Generator().manual_seed(100)
    found = torch.zeros(len(EDGES_PX) - 1, dtype=torch.float64)
    for first in range(0, count, batch):
        scene = scenes.render_scenes(min(batch, count - first), size, generator=generator, options=config)
        found += torch.histogram(scene.disparity.double(), torch.tensor(EDGES_PX, dtype=torch.float64)).hist
    for low, high, share in zip(EDGES_PX, EDGES_PX[1:], (found / found.sum()).tolist(), strict=False):
        print(f"  {low:>4.0f} to {high:<4.0f} px {100 * share:6.1f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="256x512")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--supersample", type=int, default=1)
    parser.add_argument("--textures", default=None)
    parser.add_argument("--max-disp", type=float, default=192.0)
    parser.add_argument("--disparities", type=int, default=0)
    options = parser.parse_args()
    size, device = parse_size(options.size), torch.device(options.device)
    textures = (options.textures,) if options.textures else ()
    config = SceneOptions(supersample=options.supersample, textures=textures, max_disp=options.max_disp)
    if options.disparities:
        print_disparities(options.disparities, size, options.batch, config)
        return
    start = time.perf_counter()
    bank_for(config, device)
    print(f"texture bank: {time.perf_counter() - start:.1f} s, once per process")
    generator = torch.Generator().manual_seed(0)
    spent: dict[str, float] = defaultdict(float)
    for step in STEPS:
        setattr(scenes, step, timed(getattr(scenes, step), spent, device))
    scenes.render_scenes(options.batch, size, generator=generator, device=device, options=config)
    spent.clear()
    wall, start = time.perf_counter(), clock(device)
    for _ in range(options.batches):
        scenes.render_scenes(options.batch, size, generator=generator, device=device, options=config)
    total, wall = clock(device) - start, time.perf_counter() - wall
    pairs = options.batch * options.batches
    print(
        f"{pairs} pairs {size[0]}x{size[1]} on {device}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"
    )
    print(f"{pairs / total:.1f} pairs per second ({pairs / wall:.1f} by the wall, load {os.getloadavg()[0]:.1f})")
    for step in STEPS:
        print(f"  {step:<12}{1000 * spent[step] / pairs:8.2f} ms per pair {100 * spent[step] / total:6.1f} %")


if __name__ == "__main__":
    main()
