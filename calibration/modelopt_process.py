"""Runs nvidia-modelopt in a process of its own and turns what it does into progress, results and clear errors.

Why a child: see `calibration.modelopt_worker`.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from calibration.frames import FrameRecord
from calibration.modelopt_request import ModeloptRequest
from stereo.artifacts import disk_error
from stereo.errors import SILENT, UserError
from stereo.progress import Ticker, progress

WORKER = "calibration.modelopt_worker"
# Nothing here needs the network: no model hub, no telemetry.
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
# modelopt walks over sets of names: with a fixed hash the same request gives the same files, bit by bit.
REPEATABLE = {"PYTHONHASHSEED": "0"}
LOG_LINES_SHOWN = 30

log = logging.getLogger(__name__)


def check_installed(verb: str) -> None:
    """Fail before any work when modelopt or onnxruntime is missing.

    Args:
        verb: that needs them.

    Raises:
        UserError: with what to install.
    """
    for package in ("modelopt", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"{verb} needs the package {package}", fix="pip install 'stereodistill[quantize]'")


def run_modelopt(request: ModeloptRequest, folder: Path) -> list[FrameRecord]:
    """Make the FP16 and the INT8 graph.

    Args:
        request: what to make; its paths lie in `folder`.
        folder: existing temporary folder, the child's working folder.

    Returns: the calibration frames as they went in, in order.

    Raises:
        UserError: a frame is missing or altered, the disk is full, or the process was killed.
        RuntimeError: modelopt failed; the end of its log is shown.
    """
    request.write(folder / "request.json")
    log_path = folder / "modelopt.log"
    command = [sys.executable, "-m", WORKER, str(folder / "request.json")]
    environment = {**os.environ, **OFFLINE, **SILENT, **REPEATABLE, "TMPDIR": str(folder)}
    with log_path.open("wb") as log_file:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log_file, cwd=folder, env=environment,
            text=True, encoding="utf-8",
        )  # fmt: skip
        try:
            answers = follow(child, total=len(request.frames))
            code = child.wait()
        finally:
            child.kill()
            child.wait()
    if code or answers.get("last") != "done":
        raise failure(code, answers, log_path)
    return answers["frames"]


def follow(child: subprocess.Popen[str], *, total: int) -> dict[str, Any]:
    """Read the child's answers until it closes them.

    Returns: `frames`, the name of the `last` event, and its content as `content`.
    """
    frames: list[FrameRecord] = []
    content: dict[str, Any] = {}
    assert child.stdout is not None
    with ExitStack() as stack:
        ticker: Ticker | None = None
        for line in child.stdout:
            content = json.loads(line)
            if content["event"] != "frame":
                continue
            # Started by the first frame, so that loading modelopt does not count against the frames' rate.
            ticker = ticker or stack.enter_context(progress("calibrating", total))
            frames.append(FrameRecord(**content["record"]))
            ticker.advance(note=frames[-1].name)
    return {"frames": frames, "last": content.get("event"), "content": content}


def failure(code: int, answers: dict[str, Any], log_path: Path) -> Exception:
    """What a child that did not finish tells the user."""
    content = answers["content"]
    if answers["last"] == "error":
        return UserError(content["line"])
    if answers["last"] == "os_error":
        return disk_error(OSError(content["errno"], content["line"]), log_path.parent)
    if code == -signal.SIGKILL:
        return UserError(
            "the quantiser was killed by the system, most likely for want of memory",
            fix="close other programs, or quantise at a smaller --size",
        )
    lines = log_path.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines[-LOG_LINES_SHOWN:]:
        log.error("modelopt: %s", line)
    return RuntimeError(f"modelopt failed with exit code {code}; the end of its log stands above")
