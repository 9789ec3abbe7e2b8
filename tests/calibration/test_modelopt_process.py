"""The child process is replaced by small scripts: what happens when it fails, and how that is told."""

import errno
import json
import os
import signal
import subprocess
import time

import pytest

from calibration import modelopt_process
from calibration.modelopt_process import run_modelopt
from calibration.modelopt_request import ModeloptRequest
from stereo.errors import UserError

REQUEST = ModeloptRequest("a", "b", "c", "set", [4, 9], (64, 96), "max", ["x/Exp"], ["y/Conv"])
RECORD = {"index": 4, "name": "000004", "fit": "as is", "sha256": "0"}


@pytest.fixture
def child(tmp_path, monkeypatch):
    """Make the child run a script; the working folder is on its import path."""

    def use(script):
        (tmp_path / "stand_in.py").write_text("import json, os, sys, time\n" + script)
        monkeypatch.setattr(modelopt_process, "WORKER", "stand_in")
        return tmp_path

    return use


def say(**answer):
    return f"print({json.dumps(answer)!r}, flush=True)\n"


def test_request_survives_the_trip(tmp_path):
    REQUEST.write(tmp_path / "request.json")
    assert ModeloptRequest.read(tmp_path / "request.json") == REQUEST


def test_frames_come_back_in_order(child, capfd):
    second = {**RECORD, "index": 9, "name": "000009"}
    folder = child(say(event="frame", record=RECORD) + say(event="frame", record=second) + say(event="done"))
    assert [record.index for record in run_modelopt(REQUEST, folder)] == [4, 9]
    assert "calibrating: 2/2" in capfd.readouterr().err


def test_child_runs_in_the_temporary_folder_and_offline(child, tmp_path):
    folder = child(
        "assert os.getcwd() == os.environ['TMPDIR'] == os.path.dirname(sys.argv[1])\n"
        "assert os.environ['HF_HUB_OFFLINE'] == '1'\n" + say(event="done")
    )
    run_modelopt(REQUEST, folder.resolve())


def test_what_the_child_says_to_the_user_is_one_line(child):
    folder = child(say(event="error", line="left/3.png: altered") + "sys.exit(2)\n")
    with pytest.raises(UserError, match=r"left/3\.png: altered"):
        run_modelopt(REQUEST, folder)


def test_full_disk_in_the_child(child):
    folder = child(say(event="os_error", errno=errno.ENOSPC, line="No space left on device") + "sys.exit(1)\n")
    with pytest.raises(UserError, match="no space left"):
        run_modelopt(REQUEST, folder)


def test_crash_shows_the_end_of_the_log(child, caplog):
    folder = child("print('how it went wrong', file=sys.stderr)\nsys.exit(3)\n")
    with pytest.raises(RuntimeError, match="exit code 3"):
        run_modelopt(REQUEST, folder)
    assert "how it went wrong" in caplog.text


def test_end_without_a_result_is_a_failure(child):
    folder = child(say(event="frame", record=RECORD))
    with pytest.raises(RuntimeError, match="exit code 0"):
        run_modelopt(REQUEST, folder)


def test_killed_child_names_memory(child):
    folder = child(f"os.kill(os.getpid(), {int(signal.SIGKILL)})\n")
    with pytest.raises(UserError, match="memory"):
        run_modelopt(REQUEST, folder)


def test_interrupt_ends_the_child(child, monkeypatch):
    started: list[subprocess.Popen] = []

    def interrupted(process, *, total):
        started.append(process)
        raise KeyboardInterrupt

    folder = child("time.sleep(60)\n")
    monkeypatch.setattr(modelopt_process, "follow", interrupted)
    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_modelopt(REQUEST, folder)
    assert started[0].returncode == -signal.SIGKILL
    assert time.monotonic() - before < 30
    with pytest.raises(ProcessLookupError):
        os.kill(started[0].pid, 0)


def test_missing_package_is_named_with_the_fix(monkeypatch):
    monkeypatch.setattr(modelopt_process.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"modelopt.*pip install 'stereodistill\[quantize\]'"):
        modelopt_process.check_installed("quantize")
