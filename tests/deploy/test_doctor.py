"""deploy.doctor: tells what is there, what is missing, what is broken, and stays alive itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy import device, doctor
from deploy.device import cpu_features, device_name, memory_mb
from deploy.doctor import Part, find_all
from stereo.cli import main


@pytest.fixture
def broken_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Part:
    """A package whose import fails with something else than ImportError, as mismatched GPU builds do."""
    (tmp_path / "broken_runtime.py").write_text("raise RuntimeError('operator nms does not exist')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return Part("broken_runtime", "broken-runtime", "train", "nothing")


def test_present_missing_and_broken_are_told_apart(broken_package: Part) -> None:
    parts = (
        Part("numpy", "numpy", "train", "arrays"),
        Part("package_that_is_not_there", "not-there", "rtx", "nothing"),
        broken_package,
    )
    present, missing, broken = find_all(parts)
    assert (present.version, present.problem) == (np.__version__, None)
    assert (missing.version, missing.problem) == (None, "not installed: pip install 'stereodistill[rtx]'")
    assert broken.version is None
    assert broken.problem is not None
    assert broken.problem.startswith("broken: RuntimeError: operator nms does not exist")


def test_json_and_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "PARTS", (Part("numpy", "numpy", "train", "arrays"),))
    monkeypatch.setattr(doctor, "PROBES", ("torch_tensorrt",))
    assert main(["doctor", "--json", "true"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["parts"][0]["name"] == "numpy"
    assert told["machine"]["python"].count(".") == 2
    assert told["board"] is None
    assert [(item["name"], item["works"]) for item in told["runtimes"]] == [("torch_tensorrt", False)]
    assert main(["doctor"]) == 0
    table = capsys.readouterr().out
    assert "numpy" in table
    assert "works" in table


def test_a_jetson_tells_what_it_is_and_what_to_do(
    board: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "PARTS", ())
    monkeypatch.setattr(doctor, "PROBES", ())
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["machine"]["power mode"] == "25W, clocks locked"
    assert told["board"] == {
        "board": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        "module": "Jetson Orin Nano 8GB (developer kit)",
        "module id": "p3767-0005",
        "super": True,
        "JetPack": "6.2.1",
        "Jetson Linux": "36.4.4",
        "CUDA": "12.6.11",
        "TensorRT": "10.3.0.30",
        "power mode": "25W",
        "clocks locked": True,
        "clocks": ["GPU 1020 MHz", "CPU 1728 MHz", "EMC 3199 MHz"],
        "tools": ["tegrastats", "nvpmodel", "jetson_clocks"],
        "advice": ["trtexec is missing: no second clock for engines (sudo apt install libnvinfer-bin)"],
    }
    board.clocks(locked=False)
    board.program("dpkg-query", "exit 1")
    board.program("trtexec", "")
    (board.root / "usr/local/cuda/version.json").write_text("{")
    (board.programs / "tegrastats").unlink()
    assert main(["doctor"]) == 0
    table = " ".join(capsys.readouterr().out.split())
    assert "sudo apt install nvidia-jetpack" in table
    assert "sudo jetson_clocks locks them" in table.replace("│ │ │ ", "")
    told = doctor.board_facts()
    assert told is not None
    assert (told["JetPack"], told["CUDA"], told["TensorRT"], told["clocks locked"]) == (None, None, None, False)
    assert "tegrastats is missing: profile cannot measure power and temperature" in told["advice"]  # type: ignore[operator]


@pytest.mark.parametrize(("version", "fits"), [("6.2.1", True), ("7.2", True), ("7.2.2", True), ("5.1.2", False)])
def test_jetpacks_that_this_was_written_for(board: Any, version: str, fits: bool) -> None:
    board.program("dpkg-query", f"echo 'ii  {version}-b12'")
    told = doctor.board_facts()
    assert told is not None
    assert told["JetPack"] == version
    assert any("was written for" in str(line) for line in told["advice"]) is not fits  # type: ignore[attr-defined]


def test_every_part_names_an_extra_that_exists() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    extras = text.split("[project.optional-dependencies]")[1].split("[project.scripts]")[0]
    assert all(f"\n{part.extra} = [" in extras for part in doctor.PARTS)


def test_processor_and_board_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = tmp_path / "cpuinfo"
    cpu.write_text("processor\t: 0\nmodel name\t: Fast CPU 9000\nflags\t\t: fpu avx512_bf16 amx_int8 sse2\n")
    monkeypatch.setattr(device, "CPU_INFO", cpu)
    monkeypatch.setattr(device, "BOARD", tmp_path / "none")
    assert device_name().startswith("Fast CPU 9000, ")
    assert cpu_features() == ["avx512_bf16", "amx_int8"]
    assert device.precision_hints() == ["f32", "bf16"]
    assert device.has_byte_dot_products()
    cpu.write_text("flags\t\t: fpu avx2 sse2\n")
    assert device.precision_hints() == ["f32"]
    assert not device.has_byte_dot_products()
    board = tmp_path / "model"
    board.write_bytes(b"NVIDIA Jetson AGX Orin Developer Kit\0")
    monkeypatch.setattr(device, "BOARD", board)
    assert device_name() == "NVIDIA Jetson AGX Orin Developer Kit"


def test_memory_is_total_and_available() -> None:
    found = memory_mb()
    if found is None:
        pytest.skip("this system has no /proc/meminfo")
    total, available = found
    assert 0 < available <= total
