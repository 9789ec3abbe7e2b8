"""deploy.trtexec: its summary is read, compared with ours, and its absence or failure is no failure of profile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy.results import Latency
from deploy.trtexec import compared, cross_check, parse_summary, problem_of

SUMMARY = """\
[09/02/2024-17:14:34] [I] === Performance summary ===
[09/02/2024-17:14:34] [I] Throughput: 99.65 qps
[09/02/2024-17:14:34] [I] Latency: min = 10 ms, max = 15 ms, mean = 10.7 ms, median = 10.5 ms, percentile(99%) = 11 ms
[09/02/2024-17:14:34] [I] Enqueue Time: min = 0.6 ms, max = 5.1 ms, mean = 0.8 ms, median = 0.88 ms
[09/02/2024-17:14:34] [I] H2D Latency: min = 0.2 ms, max = 0.24 ms, mean = 0.21 ms, median = 0.22 ms
[09/02/2024-17:14:34] [I] GPU Compute Time: min = 9.8 ms, max = 14.9 ms, mean = 10.1 ms, median = 10 ms
[09/02/2024-17:14:34] [I] D2H Latency: min = 0.1 ms, max = 0.16 ms, mean = 0.13 ms, median = 0.14 ms
[09/02/2024-17:14:34] [I] Total GPU Compute Time: 2.7 s
&&&& PASSED TensorRT.trtexec [TensorRT v100300]
"""


def ours(p50_ms: float) -> Latency:
    return Latency(p50_ms, p50_ms, p50_ms, p50_ms, 50, 5)


def test_summary_is_read_with_and_without_the_logs_bracket() -> None:
    for text in (SUMMARY, SUMMARY.replace("[09/02/2024-17:14:34] [I] ", "")):
        check = parse_summary(text)
        assert check is not None
        assert (check.gpu_p50_ms, check.p50_ms, check.pairs_per_s) == (10.0, 10.5, 99.65)
    assert parse_summary("&&&& FAILED") is None


def test_like_is_compared_with_like() -> None:
    check = parse_summary(SUMMARY)
    assert check is not None
    assert compared(check, latency=ours(12.6), without_copies=ours(10.2)).difference_pct == 2.0
    apart = compared(check, latency=ours(12.6), without_copies=None)
    assert apart.difference_pct == 20.0
    assert problem_of(apart) == "trtexec times the same engine differently: ours is +20 %"
    assert problem_of(compared(check, latency=ours(10.6), without_copies=None)) is None


def test_program_is_run_on_the_engine(board: Any, tmp_path: Path) -> None:
    (tmp_path / "summary").write_text(SUMMARY)
    board.program("trtexec", f'echo "$@" > {tmp_path}/words; cat {tmp_path}/summary')
    engine = tmp_path / "small int8.engine"
    check = cross_check(engine, latency=ours(10.5), without_copies=None)
    assert check is not None
    assert check.difference_pct == 0.0
    words = (tmp_path / "words").read_text()
    assert f"--loadEngine={engine}" in words
    assert "--useCudaGraph --warmUp=200 --duration=3 --iterations=10" in words
    assert check.command.startswith(f"trtexec '--loadEngine={engine}'")


def test_found_where_jetpack_installs_it(board: Any, tmp_path: Path) -> None:
    (tmp_path / "summary").write_text(SUMMARY)
    folder = board.root / "usr/src/tensorrt/bin"
    folder.mkdir(parents=True)
    board.program("trtexec", f"cat {tmp_path}/summary")
    (board.programs / "trtexec").rename(folder / "trtexec")
    assert cross_check(tmp_path / "a.engine", latency=ours(10.5), without_copies=None) is not None


@pytest.mark.parametrize("script", ["echo '[E] Error[6]: engine of another device'; exit 1", "echo nothing of use"])
def test_failure_is_a_warning(board: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, script: str) -> None:
    board.program("trtexec", script)
    assert cross_check(tmp_path / "a.engine", latency=ours(10.5), without_copies=None) is None
    assert "trtexec did not time a.engine" in caplog.text
    assert ("engine of another device" in caplog.text) == ("[E]" in script)


def test_absence_is_silent(board: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert cross_check(tmp_path / "a.engine", latency=ours(10.5), without_copies=None) is None
    assert caplog.text == ""
