"""The base install is numpy, OpenCV, jsonargparse, rich and onnx: what a Jetson has must import there."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "pytorch_lightning", "onnxruntime", "openvino", "modelopt", "skimage", "safetensors", "tensorrt")
IMPORT_ALL = """
import importlib, pkgutil, sys
for name in {heavy}:
    sys.modules[name] = None  # importing it raises ImportError
for package in {packages}:
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        importlib.import_module(module.name)
"""


def run(script):
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


def test_every_module_of_stereo_imports_without_heavy_packages():
    found = run(IMPORT_ALL.format(heavy=HEAVY, packages=["stereo"]))
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("module", ["teacher.labelling", "teacher.semi_global", "teacher.onnx_teacher"])
def test_labelling_imports_without_torch(module):
    found = run(f"import sys; sys.modules['torch'] = sys.modules['onnxruntime'] = None; import {module}")
    assert found.returncode == 0, found.stderr


def test_a_missing_onnxruntime_is_told():
    found = run(
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from stereo.errors import UserError\n"
        "from teacher.config import TeacherOptions\n"
        "from teacher.registry import open_teacher\n"
        "try: open_teacher(TeacherOptions(name='onnx', model='net.onnx'))\n"
        "except UserError as error: print(error)"
    )
    assert "cannot import onnxruntime" in found.stdout
    assert "pip install onnxruntime" in found.stdout
