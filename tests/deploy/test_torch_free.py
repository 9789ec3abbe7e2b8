"""stereo and deploy import, and tell their options, on a machine that has only the base packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCKED = (
    "torch", "pytorch_lightning", "onnxruntime", "openvino", "plotly", "jinja2", "tensorrt", "tensorrt_rtx_bindings",
    "safetensors", "modelopt", "psutil", "skimage",
)  # fmt: skip
BLOCK = f"""
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {BLOCKED!r}:
            raise ModuleNotFoundError(f"No module named '{{name}}'", name=name)

sys.meta_path.insert(0, Block())
"""


def run_blocked(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", BLOCK + program], capture_output=True, text=True, cwd=ROOT)


def modules() -> list[str]:
    files = [path for room in ("stereo", "deploy") for path in sorted((ROOT / room).rglob("*.py"))]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files]
    return [name.removesuffix(".__init__") for name in names]


def test_every_module_imports() -> None:
    names = modules()
    assert len(names) > 30
    done = run_blocked(f"import importlib\nfor name in {names!r}:\n    importlib.import_module(name)\nprint('all')")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "all"


def test_the_block_works() -> None:
    done = run_blocked("import torch")
    assert "No module named 'torch'" in done.stderr


@pytest.mark.parametrize("verb", ["doctor", "build", "profile", "evaluate", "predict", "bundle", "flash", "report"])
def test_help_works(verb: str) -> None:
    done = run_blocked(f"from stereo.cli import main\nsys.exit(main([{verb!r}, '--help']))")
    assert done.returncode == 0, done.stderr
    assert f"stereodistill {verb}" in done.stdout


def test_report_says_what_to_install(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    program = f"""
from deploy.results import ModelFacts, Place, make_row, write_results
from stereo.cli import main
place = Place("openvino", "2026", "f32", "board", 1, None, 64, 96)
write_results({str(results)!r}, [make_row(ModelFacts("nano"), place)])
sys.exit(main(["report", {str(results)!r}, "--out", {str(tmp_path / "report.html")!r}]))
"""
    done = run_blocked(program)
    assert done.returncode == 2, done.stderr
    assert "stereodistill[report]" in done.stderr
