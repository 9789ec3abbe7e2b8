"""benchmarks/distillation.py at tiny size: the table holds what the files say, and each variant is what it says."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

import distill.train
from distill.build import check_teacher
from distill.validation import validation_scenes

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "distillation.py"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("distillation_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)

    def few(*_: object, max_disp: int) -> object:
        return validation_scenes(1, (64, 96), max_disp=max_disp)

    monkeypatch.setattr(module, "validation_scenes", few)
    monkeypatch.setattr(distill.train, "validation_scenes", few)
    return module


def test_the_table_tells_what_was_trained(
    tmp_path: Path, benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "distillation.py", "--out", str(tmp_path), "--preset", "tiny", "--max-disp", "64", "--crop", "64x96", "--steps",
        "1", "--teacher-steps", "1", "--batch-size", "1", "--workers", "0", "--seeds", "0,1", "--iterations", "1",
        "--variants", "no teacher,labels + features + volume",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", command)
    benchmark.main()
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "| variant | scenes: EPE px | scenes: bad-2 % | time |"
    names = ["no teacher", "labels + features + volume"]
    assert [line.split(" | ")[0][2:] for line in printed[2:]] == [*names, "the teacher itself"]
    results = json.loads((tmp_path / "results.json").read_text())
    for name, row in results["rows"].items():
        assert len(row["scenes"]) == 2
        epe_px = [seed["epe_px"] for seed in row["scenes"]]
        line = next(line for line in printed if line.startswith(f"| {name} |"))
        assert f"| {sum(epe_px) / 2:.2f} ± {abs(epe_px[0] - epe_px[1]) / 2**0.5:.2f} |" in line
    one, other = (
        load_file(path)["mask.0.weight"] for path in sorted((tmp_path / "seed_0").glob("*/student.safetensors"))
    )
    assert not torch.equal(one, other)


def test_variants_are_what_they_are_called(tmp_path: Path, benchmark: ModuleType) -> None:
    weights = {"features": 2.0, "volume": 3.0}
    setup = benchmark.Setup(
        tmp_path, "tiny", 64, 1, 1, "64x96", (), tmp_path / "teacher.safetensors", 1, weights, 2.0, None, 0
    )
    configs = {name: benchmark.training(setup, name, 5) for name in benchmark.VARIANTS}
    for name, config in configs.items():
        check_teacher(config)
        assert config.loss.features == (2.0 if "features" in name else 0)
        assert config.loss.volume == (3.0 if "volume" in name else 0)
        assert (config.teacher.checkpoint is None) == (name == "no teacher")
        assert (config.teacher.replaces == "everything") == (name.startswith("labels"))
    assert len({config.out for config in configs.values()}) == len(configs)
    assert all(config.data == configs["no teacher"].data and config.seed == 5 for config in configs.values())
