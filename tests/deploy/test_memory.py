"""deploy.memory: peak memory comes from a process of its own and grows with the model."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy import memory
from deploy.memory import STATUS, BoardMemory, measure_memory
from stereo.errors import UserError

MB = 1e6


def test_memory_grows_with_the_weights(tmp_path: Path, network: Path, make_network: Callable[..., Path]) -> None:
    pytest.importorskip("onnxruntime")
    if not STATUS.exists():
        pytest.skip("no /proc: peak memory is only measured on Linux")
    # 15 million float32 weights: 60 MB that the plain network does not have.
    heavy = make_network(tmp_path / "heavy.onnx", ballast=15_000_000)
    found = [
        measure_memory(path, "onnxruntime", threads=1, precision_hint="f32", size=(64, 96)) for path in (network, heavy)
    ]
    plain, loaded = found
    assert plain is not None
    assert loaded is not None
    assert loaded.peak_over_baseline_mb - plain.peak_over_baseline_mb > 55
    assert plain.peak_mb > plain.peak_over_baseline_mb > 0
    assert plain.board_mb is None


def test_failure_of_the_process_is_told_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(UserError, match=r"measuring memory failed: .*no such model file") as caught:
        measure_memory(tmp_path / "gone.onnx", "onnxruntime", threads=1, precision_hint="f32", size=(64, 96))
    assert "\n" not in str(caught.value)


def test_memory_of_a_board_counts_what_no_process_owns(board: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def free(kib: int) -> None:
        board.write("proc/meminfo.new", f"MemTotal:  7802924 kB\nMemAvailable:  {kib} kB\n")
        (board.root / "proc/meminfo.new").replace(board.root / "proc/meminfo")

    monkeypatch.setattr(memory, "LOOK_EVERY_S", 0.001)
    free(5_000_000)
    with BoardMemory() as watch:
        free(4_000_000)
        time.sleep(0.1)
        free(4_500_000)
    assert watch.fell_mb == pytest.approx(1024.0)
    (board.root / "proc/device-tree/compatible").unlink()
    (board.root / "etc/nv_tegra_release").unlink()
    with BoardMemory() as watch:
        pass
    assert watch.fell_mb is None


def test_none_where_the_system_does_not_tell(tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "STATUS", tmp_path / "no_such_file")
    assert measure_memory(network, "onnxruntime", threads=1, precision_hint="f32", size=(64, 96)) is None
