"""deploy.profile as on a Jetson, made of files and shell scripts: power, heat, clocks, soak runs, what Ctrl-C keeps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy import profile_alone
from deploy.measure import Timing
from deploy.opening import Opened, Request, place_of
from deploy.profile import profile_runner
from deploy.profile_alone import Alone
from deploy.results import Latency, ModelFacts, ResultRow, read_results
from deploy.textured_pair import textured_pair
from stereo.cli import main

pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True)
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile_alone, "POWER_S", 0.8)
    monkeypatch.setattr(profile_alone, "IDLE_S", 0.3)


@pytest.fixture
def run(network: Path, tmp_path: Path) -> Callable[..., tuple[int, list[ResultRow]]]:
    def profile_toy(*words: str) -> tuple[int, list[ResultRow]]:
        out = tmp_path / "results.json"
        line = ["profile", str(network), "--runs", "3", "--warmup", "1", "--memory", "false", *words, "--out", str(out)]
        return main(line), read_results(out)

    return profile_toy


def test_power_heat_and_energy(board: Any, run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, (row,) = run()
    assert code == 0
    assert row.power is not None
    assert (row.power.source, row.power.rails) == ("tegrastats", ("VDD_IN",))
    assert (row.power.idle_w, row.power.mean_w, row.power.peak_w) == (5.0, 12.0, 12.0)
    assert row.power.energy_per_pair_j == pytest.approx(12.0 * row.power.seconds / row.power.pairs, rel=2e-3)
    assert 0.8 <= row.power.seconds < 4
    assert (row.power.throttled, row.power.throttling) == (False, ())
    assert row.power.max_temperature_c is not None
    assert row.power.max_temperature_c >= 54.5
    assert (row.power.mean_gpu_load_pct, row.power.mean_emc_load_pct) == (99.0, 40.0)
    temperatures = [sample.temperature_c for sample in row.power.samples]
    assert temperatures == sorted(temperatures)
    assert all(0 <= sample.t_s <= row.power.seconds for sample in row.power.samples)
    assert row.power.samples[0].ram_mb == pytest.approx(4000 * 1.048576, abs=1e-3)
    assert (row.soak, row.layers, row.cross_check, row.problems) == (None, None, None, ())
    assert row.place.device == "Jetson Orin Nano 8GB (developer kit) Super"
    assert row.place.power_mode == "25W, clocks locked"
    assert row.place.notes["board.jetpack"] == "6.2.1"
    assert len(board.processes()) == 2
    for process in board.processes():
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
    told = capsys.readouterr().err
    assert "J/pair" in told
    assert "not locked" not in told


def test_rows_of_two_modules_on_one_carrier_stay_apart(board: Any, run: Any) -> None:
    board.write("proc/device-tree/model", "Seller's carrier\0")
    for module in ("p3767-0000", "p3767-0001"):
        board.write("proc/device-tree/compatible", f"nvidia,p3768-0000+{module}\0nvidia,tegra234\0")
        code, rows = run("--power", "off")
        assert code == 0
    assert [row.place.device for row in rows] == ["Jetson Orin NX 16GB", "Jetson Orin NX 8GB"]
    assert len({row.identity for row in rows}) == 2


def test_a_runtimes_name_of_the_gpu_is_no_name_of_a_board(board: Any) -> None:
    runner = types.SimpleNamespace(runtime="torch_tensorrt", runtime_version="2", precision_hint="f32", threads=1,
                                   metadata={"runtime.device": "Orin"})  # fmt: skip
    place = place_of(runner, None)  # pyright: ignore[reportArgumentType]
    assert (place.device, place.notes["runtime.device"]) == ("Jetson Orin Nano 8GB (developer kit) Super", "Orin")


def test_the_report_takes_what_a_board_measured(board: Any, run: Any, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    pytest.importorskip("jinja2")
    run("--minutes", "0.02", "--layers")
    page = tmp_path / "report.html"
    assert main(["report", str(tmp_path / "results.json"), "--out", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "25W, clocks locked" in text
    assert "Jetson Orin Nano" in text


def test_clocks_that_are_not_locked_are_told_and_recorded(
    board: Any, run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    board.clocks(locked=False)
    _, (row,) = run("--power", "off")
    assert row.place.power_mode == "25W, clocks not locked"
    assert caplog.text.count("clocks of this board are not locked (GPU 306–1020 MHz") == 1
    assert row.problems == ("clocks were not locked: GPU 306–1020 MHz, CPU 729–1728 MHz, EMC 204–3199 MHz",)
    assert row.power is None


def test_throttling_is_a_problem_of_the_row(board: Any, run: Any, caplog: pytest.LogCaptureFixture) -> None:
    board.tegrastats(gpu_mhz=612)
    _, (row,) = run()
    assert row.power is not None
    assert row.power.throttled
    assert row.problems == ("the board held itself back: GPU at 612 MHz, locked at 1020",)
    assert "held itself back" in caplog.text


def test_without_tegrastats_numbers_are_null(board: Any, run: Any, caplog: pytest.LogCaptureFixture) -> None:
    (board.programs / "tegrastats").unlink()
    code, (row,) = run()
    assert (code, row.power) == (0, None)
    assert caplog.text.count("tegrastats is missing") == 1
    assert row.latency is not None


def test_power_shown_to_root_only(board: Any, run: Any, caplog: pytest.LogCaptureFixture) -> None:
    board.program("tegrastats", "while :; do echo 'RAM 1/2MB GR3D_FREQ 9% tj@50C'; sleep 0.02; done")
    _, (row,) = run()
    assert row.power is not None
    assert (row.power.mean_w, row.power.idle_w, row.power.energy_per_pair_j) == (None, None, None)
    assert row.power.max_temperature_c == 50.0
    assert caplog.text.count("tells no power of the module here") == 1
    caplog.clear()
    board.program(
        "tegrastats", "while :; do echo 'RAM 1/2MB VDD_GPU 900mW/900mW VDD_CPU 800mW/800mW'; sleep 0.02; done"
    )
    _, (row,) = run()
    assert row.power is not None
    assert (row.power.mean_w, row.power.rails) == (None, ())
    assert caplog.text.count("tells of the rails VDD_CPU, VDD_GPU, whose sum is not known to be the module's") == 1


def test_soak_with_power_beside_it(board: Any, run: Any) -> None:
    _, (row,) = run("--minutes", "0.02")
    assert row.soak is not None
    assert row.power is not None
    assert row.soak.minutes == 0.02
    assert row.soak.seconds >= 1.2
    assert sum(item.n for item in row.soak.intervals) == row.power.pairs
    assert row.power.seconds == pytest.approx(row.soak.seconds, abs=0.1)


def test_interrupted_soak_is_kept(
    board: Any, run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from deploy.runners.onnxruntime_runner import OnnxRuntimeRunner

    plain, calls = OnnxRuntimeRunner.run, []

    def run_then_interrupt(self: Any, left: Any, right: Any) -> Any:
        calls.append(1)
        if len(calls) == 60:
            raise KeyboardInterrupt
        return plain(self, left, right)

    monkeypatch.setattr(OnnxRuntimeRunner, "run", run_then_interrupt)
    code, (row,) = run("--minutes", "30")
    assert code == 130
    assert row.soak is not None
    assert row.soak.minutes == 30.0
    assert sum(item.n for item in row.soak.intervals) == 59 - 5  # the output's check, one warm-up, three timed runs
    assert row.power is not None
    assert row.power.pairs == 54
    assert "without a pause" in capsys.readouterr().err
    for process in board.processes():
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


@pytest.mark.slow
def test_ctrl_c_at_a_real_process(network: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    words = ["profile", str(network), "--runs", "3", "--minutes", "30", "--out", str(out)]
    process = subprocess.Popen([sys.executable, "-m", "stereo.cli", *words], stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not out.exists() and time.monotonic() < end:  # it is written when the timing is done and the soak run begins
        time.sleep(0.05)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "interrupted; what was finished is kept" in told
    (row,) = read_results(out)
    assert row.soak is not None
    assert 0.5 < row.soak.seconds < 30
    assert sum(item.n for item in row.soak.intervals) > 0


def test_layers_on_any_machine(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    _, (row,) = run("--layers")
    assert row.layers is not None
    assert row.layers.count > 20
    assert "AveragePool" in capsys.readouterr().err
    assert row.power is None


def test_wrong_minutes(network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", str(network), "--minutes", "-1", "--out", str(tmp_path / "r.json")]) == 2
    assert "--minutes" in capsys.readouterr().err


TRTEXEC = """
echo 'Throughput: 950.0 qps'
echo 'Latency: min = 1 ms, max = 2 ms, mean = 1.2 ms, median = 1.1 ms'
echo 'GPU Compute Time: min = 1 ms, max = 2 ms, mean = 1.1 ms, median = 1.0 ms'
"""


def test_an_engine_of_tensorrt_from_build_to_row(
    board: Any, make_gpu: Callable[..., Any], network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = make_gpu("10.3", "12.6")
    board.program("trtexec", TRTEXEC)
    engine, out = tmp_path / "toy.engine", tmp_path / "results.json"
    assert main(["build", str(network), "--runtime", "tensorrt", "--out", str(engine)]) == 0
    words = ["--runs", "4", "--warmup", "1", "--memory", "false", "--layers", "--minutes", "0.01", "--out", str(out)]
    assert main(["profile", str(engine), *words]) == 0
    (row,) = read_results(out)
    assert (row.place.runtime, row.place.power_mode) == ("tensorrt", "25W, clocks locked")
    assert row.latency is not None
    assert row.latency_without_copies is not None
    assert row.latency_without_copies.n == row.latency.n == 4
    assert row.power is not None
    assert row.power.mean_w == 12.0
    assert row.soak is not None
    assert row.layers is not None
    assert row.layers.count > 0
    assert row.cross_check is not None
    assert (row.cross_check.gpu_p50_ms, row.cross_check.pairs_per_s) == (1.0, 950.0)
    expected = 100 * (row.latency_without_copies.p50_ms - 1)
    assert row.cross_check.difference_pct == pytest.approx(expected, abs=0.01)
    assert gpu.machine.leaks() == {}
    assert "copies" in capsys.readouterr().err


class EngineRunner:
    """A runner with memory of its own: copying takes longer than computing."""

    runtime, runtime_version, precision_hint, threads, input_size = "tensorrt", "10.3", "f32", 1, (64, 96)

    def __init__(self) -> None:
        self.metadata: dict[str, str] = {}
        self.bare_runs = 0

    def run(self, left: Any, right: Any) -> Any:
        np.sort(np.random.default_rng(0).random(200_000))
        return np.zeros((1, 1, 64, 96), np.float32)

    def run_without_copies(self) -> None:
        self.bare_runs += 1

    def close(self) -> None: ...


def test_compute_is_timed_without_copies_too() -> None:
    runner = EngineRunner()
    row = profile_runner(runner, textured_pair(64, 96), model=ModelFacts("engine"), timing=Timing(5, 60, 2))
    assert runner.bare_runs == 7
    assert row.latency is not None
    assert row.latency_without_copies is not None
    assert row.latency_without_copies.n == 5
    assert row.latency_without_copies.p50_ms < row.latency.p50_ms


def test_trtexec_checks_engines_of_tensorrt(board: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    board.program("trtexec", "echo 'Latency: min = 1 ms, median = 2.0 ms'; echo 'GPU Compute Time: median = 1.0 ms'")
    row = profile_runner(EngineRunner(), textured_pair(64, 96), model=ModelFacts("engine"), timing=Timing(3, 60, 0))
    engine = Request(tmp_path / "a.engine", "engine", "tensorrt", "f32", 1, None)
    fixed = Latency(3.0, 3.0, 3.0, 3.0, 3, 0)
    row = row.__class__(**{**row.__dict__, "latency": fixed, "latency_without_copies": fixed})
    item = Opened(engine, EngineRunner(), row.model)
    row, stopped = Alone(0, True, "off").measure(row, item, textured_pair(64, 96))
    assert not stopped
    assert row.layers is None
    assert "engine: tensorrt does not tell times of layers" in caplog.text
    assert row.cross_check is not None
    assert row.cross_check.difference_pct == 200.0
    assert row.problems == ("trtexec times the same engine differently: ours is +200 %",)
