"""deploy.memory: peak memory comes from a process of its own and grows with the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploy import memory
from deploy.memory import STATUS, measure_memory
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


def test_failure_of_the_process_is_told_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(UserError, match=r"measuring memory failed: .*no such model file") as caught:
        measure_memory(tmp_path / "gone.onnx", "onnxruntime", threads=1, precision_hint="f32", size=(64, 96))
    assert "\n" not in str(caught.value)


def test_none_where_the_system_does_not_tell(tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "STATUS", tmp_path / "no_such_file")
    assert measure_memory(network, "onnxruntime", threads=1, precision_hint="f32", size=(64, 96)) is None
