"""Flashing a board that is a real OpenSSH server on this machine, with onnxruntime standing in for the engine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy import board_session
from deploy.board.archive import check
from deploy.board_session import Session
from deploy.results import read_results
from deploy.ssh import Board, Dropped
from stereo.artifacts import sha256_file
from stereo.cli import main
from stereo.errors import UserError


@pytest.fixture(scope="session")
def bundle_file(
    tmp_path_factory: pytest.TempPathFactory, make_network: Callable[..., Path], pairs_folder: Path
) -> Path:
    """Two variants of the toy network with pairs, for a board that has all packages."""
    folder = tmp_path_factory.mktemp("flash")
    for precision in ("fp32", "int8"):
        make_network(folder / "toy" / f"{precision}.onnx", metadata={"precision": precision})
    (folder / "toy" / "calibration.json").write_text("{}")
    out = folder / "bundle.tar"
    command = ["bundle", str(folder / "toy"), "--pairs", str(pairs_folder), "--wheelhouse", "false", "--out", str(out)]
    assert main(command) == 0
    return out


@pytest.fixture
def session(loopback_board: Any, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A session that tries everything once."""
    monkeypatch.setattr(board_session, "PAUSES_S", ())
    folder = loopback_board.folder
    board = Board(loopback_board.target, loopback_board.port, folder / "user_key", folder / "known_hosts")
    session = Session(board, str(loopback_board.directory))
    session.probe()
    return session


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.slow
def test_from_bundle_to_results(
    loopback_board: Any, session: Session, bundle_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Everything that a flash does, twice: the second time the board has nothing left to do."""
    before = files_below(loopback_board.home)
    command = ["flash", str(bundle_file), loopback_board.target, *loopback_board.options, "--runtime", "onnxruntime",
               "--seconds", "0.5", "--out", str(tmp_path / "out")]  # fmt: skip
    assert main(command) == 0
    said = capfd.readouterr()
    assert said.out.strip() == str(tmp_path / "out" / "results.json")
    rows = read_results(tmp_path / "out" / "results.json")
    timed = {row.model.variant: row.latency.p50_ms for row in rows if row.latency}
    assert set(timed) == {"toy fp32", "toy int8"}
    errors = {row.model.variant: entry.epe_px for row in rows for entry in row.accuracy if entry.image == "near"}
    assert set(errors) == {"toy fp32", "toy int8"}
    assert max(value for value in errors.values() if value is not None) < 1
    assert json.loads((tmp_path / "out" / "doctor.json").read_text())["machine"]["stereodistill"]
    assert any((tmp_path / "out" / "results_pictures").rglob("*.png"))
    assert files_below(loopback_board.home) == before
    assert not any(loopback_board.directory.rglob("*.part"))

    sample = next(loopback_board.directory.glob("bundles/*/sample"))
    prediction = loopback_board.directory / "prediction"
    words = [loopback_board.directory / "predict", sample / "left.png", sample / "right.png", "--out", prediction]
    done = subprocess.run(session.board.command(" ".join(map(str, words))), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (prediction / "disparity.pfm").is_file()
    assert files_below(loopback_board.home) == before

    assert main(command) == 0
    record = json.loads((tmp_path / "out" / "flash.json").read_text())
    assert all(step["continued"] for step in record["steps"])


@pytest.mark.slow
def test_a_dropped_copy_goes_on(
    loopback_board: Any, session: Session, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection breaks in the middle of the copy; the next attempt sends only the rest."""
    archive = tmp_path / "large.bin"
    archive.write_bytes(os.urandom(1 << 20) * 96)
    digest = sha256_file(archive)
    part = loopback_board.directory / "incoming" / f"{digest}.tar.part"

    def cut() -> None:
        while not part.exists() or part.stat().st_size < 8 << 20:
            time.sleep(0.001)
        loopback_board.cut_power()

    thread = threading.Thread(target=cut)
    thread.start()
    with pytest.raises(Dropped, match="copying stopped"):
        session.send(archive, digest, needs_bytes=0)
    thread.join()
    there = part.stat().st_size
    assert 0 < there < archive.stat().st_size
    with archive.open("rb+") as file:  # would spoil the copy if it were sent once more
        file.write(bytes(1 << 20))
    with caplog.at_level("INFO"):
        session.send(archive, digest, needs_bytes=0)
    assert f"{there // 10**6} of {archive.stat().st_size // 10**6} MB are there already" in caplog.text
    assert sha256_file(part) == digest
    # What arrived whole is no bundle all the same: it is refused there too.
    with pytest.raises(UserError, match=r"no whole archive|no bundle"):
        session.step("unpack", "take", {"sha256": digest})
    part.unlink()


@pytest.mark.slow
def test_a_half_or_altered_copy_is_never_taken(loopback_board: Any, session: Session, bundle_file: Path) -> None:
    digest = sha256_file(bundle_file)
    part = loopback_board.directory / "incoming" / f"{digest}.tar.part"
    for name in ("journal", "bundles"):
        subprocess.run(["rm", "-rf", str(loopback_board.directory / name)], check=True)
    for data in (bundle_file.read_bytes()[:-5000], b"x" + bundle_file.read_bytes()[1:]):
        session.call("prepare", {"sha256": digest, "size_bytes": len(data), "needs_bytes": 0})
        part.write_bytes(data)
        with pytest.raises(UserError, match="the checksums differ"):
            session.step("unpack", "take", {"sha256": digest})
        assert not part.exists()
        assert not list((loopback_board.directory / "bundles").glob("*"))


@pytest.mark.slow
def test_a_power_cut_in_a_step(loopback_board: Any, session: Session, bundle_file: Path) -> None:
    """Everything on the board dies while the environment is made; the next flash makes it anew, whole."""
    digest = sha256_file(bundle_file)
    session.send(bundle_file, digest, needs_bytes=0)
    folder = session.step("unpack", "take", {"sha256": digest})["bundle"]
    arguments = {"bundle": folder, "name": "cut", "target": "", "runtime": "onnxruntime"}
    environment = loopback_board.directory / "environments" / "cut"

    def cut() -> None:
        while not (environment / "bin" / "python").exists():
            time.sleep(0.001)
        loopback_board.cut_power()

    thread = threading.Thread(target=cut)
    thread.start()
    with pytest.raises(Dropped, match="connection was lost"):
        session.step("install", "install", arguments)
    thread.join()
    assert environment.exists()
    (environment / "left over").touch()
    python = session.step("install", "install", arguments)["python"]
    assert not (environment / "left over").exists()
    done = subprocess.run([python, "-s", "-m", "stereo.cli", "--version"], capture_output=True, text=True,
                          env={"PYTHONPATH": str(loopback_board.folder / "packages")})  # fmt: skip
    assert done.stdout.strip(), done.stderr


@pytest.mark.slow
def test_a_step_ends_with_its_connection(loopback_board: Any, session: Session) -> None:
    """Killing our ssh ends what the step had started on the board, so that the next flash finds the folder free."""
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(613)'])"
    loopback_board.program("sleeper", f'#!/bin/sh\nexec python3 -c "{program}"\n')
    arguments = {"python": str(loopback_board.folder / "bin" / "sleeper"), "words": ["doctor"], "makes": [],
                 "capture": "", "power_mode": ""}  # fmt: skip

    def cut() -> None:
        while not running():
            time.sleep(0.05)
        for task in Path(f"/proc/{os.getpid()}/task").iterdir():
            with contextlib.suppress(FileNotFoundError):
                for pid in map(int, (task / "children").read_text().split()):
                    if Path(f"/proc/{pid}/comm").read_text().strip() == "ssh":
                        os.kill(pid, signal.SIGKILL)

    def running() -> bool:
        return subprocess.run(["pgrep", "-f", "time.sleep.613"], capture_output=True).returncode == 0

    thread = threading.Thread(target=cut)
    thread.start()
    with pytest.raises(Dropped):
        session.step("doctor", "verb", arguments)
    thread.join()
    end = time.monotonic() + 20
    while running() and time.monotonic() < end:
        time.sleep(0.1)
    assert not running()
    session.call("prepare", {"sha256": "0" * 64, "size_bytes": 1, "needs_bytes": 0})


@pytest.mark.slow
@pytest.mark.parametrize(("line", "told"), [("", "host key is unknown"), ("changed", "another than before")])
def test_unknown_and_changed_host_keys(loopback_board: Any, tmp_path: Path, line: str, told: str) -> None:
    known = tmp_path / "known_hosts"
    known.write_text("")
    if line:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
        kind, key = (tmp_path / "other.pub").read_text().split()[:2]
        known.write_text(f"[127.0.0.1]:{loopback_board.port} {kind} {key}\n")
    before = known.read_bytes()
    board = Board(loopback_board.target, loopback_board.port, loopback_board.folder / "user_key", known)
    with pytest.raises(UserError, match=told):
        Session(board, str(loopback_board.directory)).probe()
    assert known.read_bytes() == before


@pytest.mark.slow
def test_a_key_that_the_board_does_not_know(loopback_board: Any, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    board = Board(loopback_board.target, loopback_board.port, tmp_path / "other", loopback_board.folder / "known_hosts")
    with pytest.raises(UserError, match="ssh-copy-id"):
        Session(board, str(loopback_board.directory)).probe()


def test_nothing_listens(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing listens there"):
        Session(Board("nobody@127.0.0.1", 1), "~/x").probe()


@pytest.mark.parametrize("target", ["-oProxyCommand=true", "-v", "user@-v", "a b", "host;ls", ""])
def test_a_target_is_no_option(target: str) -> None:
    with pytest.raises(UserError, match="is no board"):
        Board(target)


def test_the_bundle_is_whole(bundle_file: Path) -> None:
    manifest = check(str(bundle_file))
    assert [variant["name"] for variant in manifest["variants"]] == ["toy fp32", "toy int8"]


TENSORRT = """
import importlib.util, json, sys, types
from pathlib import Path

here = Path(__file__).parent / "stand_ins"

def load(name):
    spec = importlib.util.spec_from_file_location("stand_in_" + name, here / (name + ".py"))
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

def table(name):
    return json.loads((here / (name + ".json")).read_text())

cuda, tensorrt = load("cuda_runtime"), load("tensorrt_module")
machine = cuda.Machine(integrated=False, name="a GPU that is not there", capability=(8, 6))
sys.modules["tensorrt"] = tensorrt.make_tensorrt(table("tensorrt-10.3"), "10.3", machine, tensorrt.Workshop())
sys.modules["cuda"] = types.ModuleType("cuda")
sys.modules["cuda"].__path__ = []
sys.modules["cuda.cudart"] = cuda.make_cuda(table("cuda-python-12.6"), machine)
"""


@pytest.fixture
def tensorrt_there(loopback_board: Any) -> Iterator[Path]:
    """Stand-ins for TensorRT and CUDA among the board's packages."""
    packages, tests = loopback_board.folder / "packages", Path(__file__).resolve().parents[1]
    stand_ins = packages / "stand_ins"
    stand_ins.mkdir()
    for source in (*(tests / "deploy" / "stand_ins").glob("*.py"), tests / "golden/tensorrt_api/tensorrt-10.3.json",
                   tests / "golden/cuda_api/cuda-python-12.6.json"):  # fmt: skip
        shutil.copy(source, stand_ins)
    (packages / "tensorrt.py").write_text(TENSORRT)
    (packages / "cuda").mkdir()
    (packages / "cuda" / "__init__.py").write_text("import tensorrt\n")
    yield packages
    shutil.rmtree(stand_ins)
    shutil.rmtree(packages / "cuda")
    (packages / "tensorrt.py").unlink()


@pytest.mark.slow
def test_an_engine_is_built_and_measured_there(
    loopback_board: Any, session: Session, tensorrt_there: Path, bundle_file: Path, tmp_path: Path
) -> None:
    """`--runtime tensorrt` with a stand-in for TensorRT: the engine is built, measured and left for predict."""
    command = ["flash", str(bundle_file), loopback_board.target, *loopback_board.options, "--variants", "fp32",
               "--seconds", "0.2", "--layers", "--minutes", "0.01", "--out", str(tmp_path / "out")]  # fmt: skip
    assert main(command) == 0
    rows = read_results(tmp_path / "out" / "results.json")
    record = json.loads((tmp_path / "out" / "flash.json").read_text())
    version = record["board"]["tensorrt"]
    assert version.startswith("10.3")
    assert {(row.model.variant, row.place.runtime, row.place.runtime_version) for row in rows} == {
        ("toy fp32", "tensorrt", version)
    }
    (timed,) = (row for row in rows if row.latency)
    assert timed.soak is not None
    assert timed.soak.minutes == 0.01
    assert [step["step"] for step in record["steps"]] == [
        "copy", "unpack", "install", "build toy fp32", "doctor", "profile", "evaluate", "predict",
    ]  # fmt: skip
    program = (loopback_board.directory / "predict").read_text()
    assert "--runtime tensorrt" in program
    assert "toy/fp32.engine" in program


@pytest.mark.slow
def test_ctrl_c_puts_the_power_mode_back(
    loopback_board: Any, session: Session, bundle_file: Path, tmp_path: Path
) -> None:
    """Interrupted while it measures in another power mode: the mode is put back at once, and nothing runs on."""
    mode = loopback_board.folder / "flash" / "temporary" / "mode"
    loopback_board.program("sudo", '#!/bin/sh\n[ "$1" = -n ] || exit 1\nshift\nexec "$@"\n')
    loopback_board.program(
        "nvpmodel",
        f"#!/bin/sh\n[ $1 = -m ] && echo $2 > {mode} && exit\necho NV Power Mode: mode$(cat {mode}); cat {mode}\n",
    )
    subprocess.run(session.board.command(f"mkdir -p {mode.parent}; echo 1 > {mode}"), check=True)
    command = [sys.executable, "-m", "stereo.cli", "flash", str(bundle_file), loopback_board.target,
               *loopback_board.options, "--runtime", "onnxruntime", "--power-modes", "2", "--seconds", "60",
               "--out", str(tmp_path / "out")]  # fmt: skip
    flash = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert flash.stderr is not None
    said = ""
    for line in flash.stderr:
        said += line
        if "profile in power mode" in line:
            break
    while mode.read_text() != "2\n":
        assert flash.poll() is None, said + flash.stderr.read()
        time.sleep(0.05)
    os.killpg(flash.pid, signal.SIGINT)
    said += flash.communicate()[1]
    assert flash.returncode == 130, said
    end = time.monotonic() + 15
    while mode.read_text() != "1\n" and time.monotonic() < end:
        time.sleep(0.05)
    assert mode.read_text() == "1\n"
    assert "power modes mode2 can be set" in said
    session.call("prepare", {"sha256": "0" * 64, "size_bytes": 1, "needs_bytes": 0})
    assert not list(loopback_board.directory.glob("power_mode_before.json"))


@pytest.fixture
def small_disk(loopback_board: Any, bundle_file: Path) -> Iterator[Path]:
    """A file system on the board that the bundle fits into, and not its content beside it."""
    size = bundle_file.stat().st_size * 3 // 2
    folder = loopback_board.folder / "small"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=1777", "tmpfs", str(folder)], capture_output=True
    )
    if done.returncode:
        folder.rmdir()
        pytest.skip("no permission to mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
    folder.rmdir()


@pytest.mark.slow
def test_a_full_disk_on_the_board(
    loopback_board: Any, small_disk: Path, bundle_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line when it is known before, and one line when it fills up under the copy."""
    monkeypatch.setattr(board_session, "PAUSES_S", (0.0,))
    folder = loopback_board.folder
    board = Board(loopback_board.target, loopback_board.port, folder / "user_key", folder / "known_hosts")
    session = Session(board, str(small_disk / "flash"))
    session.probe()
    archive = tmp_path / "large.bin"
    archive.write_bytes(os.urandom(1 << 20) * (3 * bundle_file.stat().st_size >> 20))
    with pytest.raises(
        UserError, match=r"disk is too full: this bundle takes 1\d\d MB, \d+ MB are free \(free some space"
    ):
        session.send(archive, sha256_file(archive), needs_bytes=0)
    # As if something else took the space after the question.
    monkeypatch.setattr(session, "call", lenient(session, 200 << 20))
    with pytest.raises(UserError, match="disk is too full"):
        session.send(archive, sha256_file(archive), needs_bytes=0)
    # A bundle that fits, and whose content does not fit beside it.
    shutil.rmtree(small_disk / "flash")
    monkeypatch.setattr(session, "call", lenient(session, 200 << 20))
    session.send(bundle_file, sha256_file(bundle_file), needs_bytes=0)
    with pytest.raises(UserError, match=r"the board's disk is full: \d+ MB are free \(free some space"):
        session.step("unpack", "take", {"sha256": sha256_file(bundle_file)})
    assert [path.name for path in small_disk.glob("flash/bundles/*")] == []
    assert [path.name for path in small_disk.glob("flash/incoming/*")] == [f"{sha256_file(bundle_file)}.tar.part"]


def lenient(session: Session, size: int) -> Callable[..., Any]:
    """`session.call` that asks for less space than is needed, the first time."""
    call, asked = session.call, []

    def first_time_less(step: str, arguments: dict[str, Any], **options: Any) -> Any:
        asked.append(step)
        if step == "prepare" and len(asked) == 1:
            arguments = {**arguments, "needs_bytes": -size}
        return call(step, arguments, **options)

    return first_time_less
