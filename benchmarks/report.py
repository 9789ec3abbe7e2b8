"""What a report costs: time, memory and size to make it, and how soon a browser has it.

    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/report.py [--loads 5]
    python benchmarks/report.py --scenes DIR     # instead: the seven pairs that the pictures in docs/ are made from

Made-up variants (their numbers are random, their pictures procedural scenes, a file for each variant as `evaluate`
writes them) in three sizes: 12 variants × 7 images, 60 × 12, 60 × 12 with `--pictures all`. Time and memory are of the
whole command `stereodistill report`. The browser is headless Chromium on the same machine: "interactive" is when
slider, table and pictures answer, "drawn" when the chart stands, from the start of the navigation, medians of the loads
after a first one, which fills Chromium's caches; "busy" is the processor time of the page's main thread until then,
which other work on the machine does not change.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from headless_browser import Page, browse, find_browser

from deploy.results import (
    Difference,
    ImageAccuracy,
    Latency,
    Memory,
    ModelFacts,
    Pictures,
    Place,
    ResultRow,
    write_results,
)
from distill.scene_clip import as_pair
from distill.scenes import render_scenes
from distill.scenes_config import SceneOptions
from stereo.error_regions import errors_by_region
from stereo.pair import StereoPair
from stereo.pictures import disparity_picture, encode_png, error_picture, write_png

SIZE = (480, 640)
CASES = ((12, 7, "few"), (60, 12, "few"), (60, 12, "all"))
PRECISIONS = ("fp32", "fp16", "int8")


def scenes(count: int) -> list[StereoPair]:
    """Procedural pairs."""
    batch = render_scenes(count, SIZE, generator=torch.Generator().manual_seed(0), options=SceneOptions(max_disp=96))
    return [as_pair(batch, index, f"scene {index + 1}") for index in range(count)]


def write_scenes(folder: Path) -> None:
    """Seven procedural scenes of 384×512 px in the layout of pairs with truth."""
    options = SceneOptions(max_disp=96, supersample=2)
    batch = render_scenes(7, (384, 512), generator=torch.Generator().manual_seed(2026), options=options)
    for index in range(7):
        pair = as_pair(batch, index, f"scene {index + 1}")
        assert pair.disparity is not None
        assert pair.noc is not None
        write_png(folder / pair.name / "left.png", pair.left)
        write_png(folder / pair.name / "right.png", pair.right)
        write_png(folder / pair.name / "noc.png", (255 * pair.noc).astype(np.uint8))
        steps = np.rint(256 * np.nan_to_num(pair.disparity)).astype(np.uint16)
        cv2.imwrite(str(folder / pair.name / "disp_left_x256.png"), steps)


def accuracy_of(pair: StereoPair, off_px: float, rng: np.random.Generator) -> tuple[ImageAccuracy, np.ndarray]:
    """Errors of a map that is off by noise of about `off_px`, and the map."""
    assert pair.disparity is not None
    coarse = rng.normal(0, 2 * off_px, (SIZE[0] // 20, SIZE[1] // 20)).repeat(20, 0).repeat(20, 1)
    prediction = (pair.disparity + coarse).astype(np.float32)
    error = np.abs(coarse[pair.noc])
    shares = [100 * float(np.mean(error > limit)) for limit in (1, 2, 3)]
    regions = errors_by_region(prediction, pair, mask=pair.noc)
    accuracy = ImageAccuracy(
        "scenes", pair.name, "noc", *SIZE, 1.0, float(error.mean()), *shares, shares[2], float(error.max()),
        float(np.percentile(error, 99)), int(error.size), 100.0, 0, regions=regions,
    )  # fmt: skip
    return accuracy, prediction


def write_case(folder: Path, variants: int, pairs: list[StereoPair]) -> Path:
    """A results file with its pictures."""
    rng = np.random.default_rng(variants)
    rows: list[ResultRow] = []
    place = Place("tensorrt", "10.3", "f32", "a made-up board", 1, "25W", *SIZE)
    for index in range(variants):
        student, precision = f"student {index // 3}", PRECISIONS[index % 3]
        digest = f"{index:064x}"
        model = ModelFacts(f"{student} {precision}", None, digest, 2_000_000, "nano", precision, 192, 2,
                           source_sha256=f"{index // 3:064x}")  # fmt: skip
        p50_ms = 5.0 + 2.0 * (index // 3) + 3.0 * (2 - index % 3)
        found, pictures = [], []
        for pair in pairs:
            accuracy, prediction = accuracy_of(pair, 0.2 + 3.0 / p50_ms + 0.3 * rng.random(), rng)
            found.append(accuracy)
            pictures.append(save(folder, pair, prediction, digest[-4:]))
        counts = tuple(int(count) for count in rng.integers(0, 9999, 42))
        difference = Difference(f"{student} fp32", None, 7, sum(counts), 0.0, 0.1,
                                tuple(round(0.05 * step, 2) for step in range(-20, 21)), counts)  # fmt: skip
        base = ResultRow(
            model, place, commit="0", command="made up", made_at=f"2026-01-01T00:00:{index % 60:02d}+00:00"
        )
        rows.append(dataclasses.replace(base, latency=Latency(p50_ms, 1.1 * p50_ms, 1.2 * p50_ms, p50_ms, 100, 5),
                                        memory=Memory(900.0, 300.0)))  # fmt: skip
        rows.append(dataclasses.replace(base, accuracy=tuple(found), pictures=tuple(pictures),
                                        difference=difference if index % 3 else None))  # fmt: skip
    write_results(folder / "results.json", rows)
    return folder / "results.json"


def save(folder: Path, pair: StereoPair, prediction: np.ndarray, variant: str) -> Pictures:
    """The four pictures of one image; left and truth once for all variants."""
    assert pair.disparity is not None
    where = Path("pictures", pair.name)
    (folder / where).mkdir(parents=True, exist_ok=True)
    top = float(np.nanpercentile(pair.disparity, 99))
    content = {
        "left": lambda: pair.left,
        "truth": lambda: disparity_picture(pair.disparity, top),
        f"{variant}_disparity": lambda: disparity_picture(prediction, top),
        f"{variant}_error": lambda: error_picture(prediction, pair.disparity),
    }
    names = []
    for name, make in content.items():
        path = folder / where / f"{name}.png"
        if not path.exists():
            path.write_bytes(encode_png(make(), compression=1))
        names.append(str(where / f"{name}.png"))
    return Pictures(pair.name, *names)


# What a process that was forked from a large one inherits is not its own: only /proc tells the program's memory alone.
PROGRAM = """
import os, sys
from stereo.cli import main
code = main(sys.argv[1:])
times = os.times()
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(times.user + times.system, peak)
sys.exit(code)
"""


def make(results: Path, out: Path, pictures: str) -> tuple[float, float, float]:
    """Run the command. Returns wall seconds, seconds of the processor, and MB of its largest memory."""
    words = ["report", str(results), "--pictures", pictures, "--out", str(out)]
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], check=True, capture_output=True, text=True)
    wall_s = time.perf_counter() - began
    cpu_s, peak_kib = done.stdout.splitlines()[-1].split()
    return wall_s, float(cpu_s), int(peak_kib) * 1024 / 1e6


def load(tab: Page, path: Path) -> tuple[float, float, float]:
    """Seconds from the navigation until the page is interactive, until its chart is drawn, and of its main thread."""
    tab.call("Page.navigate", url="about:blank")
    tab.call("Performance.enable", timeDomain="threadTicks")
    before = busy_s(tab)
    tab.open(path)
    marks = tab.run(
        "Object.fromEntries(performance.getEntriesByType('mark').map((mark) => [mark.name, mark.startTime]))"
    )
    return marks["interactive"] / 1e3, marks["drawn"] / 1e3, busy_s(tab) - before


def busy_s(tab: Page) -> float:
    """Processor time of the page's main thread so far."""
    metrics = {item["name"]: item["value"] for item in tab.call("Performance.getMetrics")["metrics"]}
    return metrics["TaskDuration"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loads", type=int, default=5, help="in the browser, after the first")
    parser.add_argument("--scenes", type=Path, help="write the pairs of the documents' pictures here, and stop")
    options = parser.parse_args()
    if options.scenes is not None:
        write_scenes(options.scenes)
        return
    print("| variants × images, pictures | wall s | CPU s | memory MB | page MB "
          "| first load: interactive, drawn, busy s | later: interactive, drawn, busy s |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder, pairs = Path(name), scenes(max(images for _, images, _ in CASES))
        for variants, images, pictures in CASES:
            case = folder / f"{variants}_{images}"
            results = case / "results.json"
            if not results.exists():
                results = write_case(case, variants, pairs[:images])
            page = case / f"{pictures}.html"
            wall_s, cpu_s, memory_mb = make(results, page, pictures)
            loads = "not loaded | not loaded"
            if find_browser() and pictures == "few":
                with browse(case / f"profile_{pictures}") as tab:
                    first = load(tab, page)
                    later = [load(tab, page) for _ in range(options.loads)]
                medians = [statistics.median(times) for times in zip(*later, strict=True)]
                loads = " | ".join(", ".join(f"{value:.2f}" for value in times) for times in (first, medians))
            size_mb = page.stat().st_size / 1e6
            print(f"| {variants} × {images}, {pictures} | {wall_s:.1f} | {cpu_s:.1f} | {memory_mb:.0f} | {size_mb:.2f} "
                  f"| {loads} |", flush=True)  # fmt: skip
    print(f"\nload average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
