"""deploy.clocks: whether clocks are locked, by the kernel's files and by jetson_clocks; None where nothing tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy import device, system_files
from deploy.clocks import Clock, locked, power_mode_name, read_clocks, shown_clocks
from deploy.device import board_notes, device_name, power_mode

SHOWN_LOOSE = """SOC family:tegra234  Machine:NVIDIA Jetson AGX Orin Developer Kit
Online CPUs: 0-11, Offline CPUs: \
cpu0:  Governor=schedutil MinFreq=729600 MaxFreq=2201600 CurrentFreq=2201600 IdleStates: WFI=1 c7=1\x20
cpu1: Online=1 Governor=schedutil MinFreq=729600 MaxFreq=2201600 CurrentFreq=1190400 IdleStates: WFI=1 c7=1\x20
GPU MinFreq=306000000 MaxFreq=1300500000 CurrentFreq=306000000
Active GPU TPCs: 8
EMC MinFreq=204000000 MaxFreq=3199000000 CurrentFreq=2133000000 FreqOverride=0
DLA0_CORE:   Online=1 MinFreq=0 MaxFreq=1600000000 CurrentFreq=1600000000
FAN Dynamic Speed control=active hwmon1_pwm1=57
NV Power Mode: MAXN
"""


def test_what_jetson_clocks_shows() -> None:
    gpu, emc, cpu = shown_clocks(SHOWN_LOOSE)
    assert (gpu.name, gpu.min_mhz, gpu.max_mhz, gpu.current_mhz, gpu.locked) == ("GPU", 306.0, 1300.5, 306.0, False)
    assert (emc.name, emc.current_mhz, emc.locked) == ("EMC", 2133.0, False)
    assert (cpu.name, cpu.min_mhz, cpu.max_mhz, cpu.locked) == ("CPU", 729.6, 2201.6, False)
    held = SHOWN_LOOSE.replace("MinFreq=306000000", "MinFreq=1300500000").replace("MinFreq=729600", "MinFreq=2201600")
    assert [clock.locked for clock in shown_clocks(held)] == [True, False, True]
    assert [clock.locked for clock in shown_clocks(held.replace("Override=0", "Override=1"))] == [True, True, True]
    no_override = held.replace(" FreqOverride=0", "")
    assert [clock.locked for clock in shown_clocks(no_override)] == [True, False, True]
    fastest = no_override.replace("CurrentFreq=2133000000", "CurrentFreq=3199000000")
    assert [clock.locked for clock in shown_clocks(fastest)] == [True, True, True]


def test_nothing_shown() -> None:
    assert shown_clocks("Error: Run this script(/usr/bin/jetson_clocks) as a root user\n") == []


@pytest.mark.parametrize("held", [True, False])
def test_files_tell_what_jetson_clocks_tells_root_only(board: Any, held: bool) -> None:
    board.clocks(locked=held)
    assert [(clock.name, clock.locked) for clock in read_clocks()] == [("GPU", held), ("CPU", held), ("EMC", held)]
    board.program("jetson_clocks", "echo 'Error: Run this script as a root user'; exit 1")
    clocks = read_clocks()
    assert [(clock.name, clock.locked) for clock in clocks] == [("GPU", held), ("CPU", held)]
    assert locked(clocks) is held
    assert power_mode() == f"25W, clocks {'locked' if held else 'not locked'}"


def test_memory_clock_of_the_kernels_debug_files(board: Any) -> None:
    board.program("jetson_clocks", "exit 1")
    folder = "sys/kernel/debug/bpmp/debug/clk/emc"
    for name, value in {"min_rate": 204000000, "max_rate": 3199000000, "rate": 3199000000}.items():
        board.write(f"{folder}/{name}", f"{value}\n")
    assert [clock.locked for clock in read_clocks() if clock.name == "EMC"] == [None]
    board.write(f"{folder}/mrq_rate_locked", "1\n")
    assert [clock.locked for clock in read_clocks() if clock.name == "EMC"] == [True]


def test_power_modes(board: Any) -> None:
    assert power_mode_name() == "25W"
    board.program("nvpmodel", "echo 'NVPM WARN: something'; echo 'NV Power Mode: MODE_30W_ALL'; echo 2")
    assert power_mode_name() == "30W_ALL"
    board.program("nvpmodel", "exit 1")
    assert power_mode_name() is None


def test_notes_of_a_board(board: Any) -> None:
    assert board_notes() == {
        "board.model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        "board.module": "Jetson Orin Nano 8GB (developer kit)",
        "board.jetpack": "6.2.1",
        "board.jetson_linux": "36.4.4",
        "board.cuda": "12.6.11",
        "board.clocks": "GPU 1020 MHz, CPU 1728 MHz, EMC 3199 MHz",
    }


@pytest.mark.parametrize(
    ("compatible", "called"),
    [
        ("nvidia,p3768-0000+p3767-0000", "Jetson Orin NX 16GB"),
        ("nvidia,p3768-0000+p3767-0001", "Jetson Orin NX 8GB"),
        ("nvidia,p3768-0000+p3767-0001-super", "Jetson Orin NX 8GB Super"),
        ("nvidia,p3768-0000+p3767-0002", "Seller's carrier, p3767-0002"),
        ("nvidia,p3834-0008", "Seller's carrier"),
    ],
)
def test_modules_on_the_same_carrier_have_names_of_their_own(board: Any, compatible: str, called: str) -> None:
    board.write("proc/device-tree/model", "Seller's carrier\0")
    board.write("proc/device-tree/compatible", f"{compatible}\0nvidia,tegra234\0")
    assert device_name() == called


def test_other_machines_have_none_of_it(tmp_path: Path, board: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_files, "ROOT", tmp_path / "nothing")
    monkeypatch.setattr(device, "GOVERNOR", tmp_path / "nothing")
    assert read_clocks() == ()
    assert board_notes() == {}
    assert power_mode() is None
    assert locked(()) is None
    assert locked((Clock("EMC", 1, 2, 2, None),)) is None
