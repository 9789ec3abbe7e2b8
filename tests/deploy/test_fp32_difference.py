"""deploy.fp32_difference: maps are compared with those of the same student's FP32 variant, and with no others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deploy.config import EvaluateConfig
from deploy.evaluate import evaluate
from deploy.fp32_difference import EDGES_PX, Fp32Maps, Histogram, Recorder
from deploy.results import ModelFacts, read_results

FP32 = ModelFacts("nano fp32", sha256="aa", precision="fp32", source_sha256="5e")


class Place:
    """What of a runner counts here."""

    def __init__(self, runtime: str = "openvino", hint: str = "f32") -> None:
        self.runtime, self.precision_hint, self.input_size = runtime, hint, (4, 5)


def watch(maps: Fp32Maps, model: ModelFacts, place: Place) -> Recorder | Histogram | None:
    return maps.watch(model, place)  # type: ignore[arg-type]


def test_the_histogram_counts_every_pixel_once() -> None:
    maps = Fp32Maps(["a", "b"])
    recorder = watch(maps, FP32, Place())
    assert recorder is not None
    base = np.zeros((2, 4), np.float32)
    base[1, 3] = np.nan
    recorder.see("a", base)
    recorder.see("not wanted", base)
    seen = watch(maps, dataclasses.replace(FP32, variant="nano int8", precision="int8", sha256="bb"), Place())
    assert seen is not None
    seen.see("a", np.array([[0, 0.01, -0.01, 7], [-7, 0.99, 1.0, 3]], np.float32))
    seen.see("not wanted", base + 9)
    found = seen.difference()
    assert found is not None
    assert (found.images, found.pixels, found.to_variant, found.to_sha256) == (1, 7, "nano fp32", "aa")
    assert found.mean_px == pytest.approx(1.99 / 7)
    assert found.mean_abs_px == pytest.approx((0.02 + 14 + 1.99) / 7)
    assert len(found.counts) == len(found.edges_px) + 1
    assert sum(found.counts) == 7
    zero = found.edges_px.index(0.0)
    assert found.counts[zero : zero + 2] == (1, 2)  # -0.01 | 0 and 0.01
    assert (found.counts[0], found.counts[-2], found.counts[-1]) == (1, 1, 2)  # -7 | 0.99 | 1.0 and 7


def test_only_the_same_student_under_the_same_runtime_is_compared() -> None:
    maps = Fp32Maps(["a"])
    int8 = dataclasses.replace(FP32, precision="int8")
    assert watch(maps, int8, Place()) is None
    assert isinstance(watch(maps, FP32, Place()), Recorder)
    assert isinstance(watch(maps, int8, Place()), Histogram)
    assert isinstance(watch(maps, FP32, Place(hint="bf16")), Histogram)
    assert watch(maps, int8, Place("onnxruntime")) is None
    assert watch(maps, dataclasses.replace(int8, source_sha256=None), Place()) is None
    other = dataclasses.replace(FP32, source_sha256="77")
    assert isinstance(watch(maps, other, Place()), Recorder)
    assert watch(maps, int8, Place()) is None, "maps of a student that is done are dropped"
    assert EDGES_PX[0] == -EDGES_PX[-1]


def test_evaluate_writes_regions_and_difference(
    tmp_path: Path, make_network: Callable[..., Path], pairs_folder: Path
) -> None:
    pytest.importorskip("onnxruntime")
    graphs = [str(make_network(tmp_path / "toy" / f"{name}.onnx", metadata={"precision": name}, ballast=ballast))
              for name, ballast in (("fp32", 0), ("int8", 10))]  # fmt: skip
    out = tmp_path / "results.json"
    evaluate(EvaluateConfig(graphs, data=str(pairs_folder), out=str(out)))
    fp32, int8 = read_results(out)
    assert fp32.difference is None
    assert int8.difference is not None
    assert (int8.difference.images, int8.difference.to_sha256) == (2, fp32.model.sha256)
    assert int8.difference.mean_abs_px == 0.0
    near, wide = fp32.accuracy
    assert {region.by for region in near.regions} == {
        "true disparity", "distance to depth edges", "texture", "visibility",
    }  # fmt: skip
    assert "visibility" not in {region.by for region in wide.regions}
    of_disparity = [region for region in near.regions if region.by == "true disparity"]
    assert sum(region.pixels for region in of_disparity) == near.valid_pixels
    pooled = sum((region.epe_px or 0) * region.predicted for region in of_disparity)
    assert pooled / near.valid_pixels == pytest.approx(near.epe_px)
