"""The steps of a flash as the board does them. One call does one step; a finished step is never done twice.

In: {"step": NAME, "directory": ..., "arguments": {...}, "again": false}. Out, the last line on standard output:
{"outcome": {...}, "continued": bool, "processor_s": s} or {"refusal": {what, where, fix}}.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from deploy.board.archive import sha256_of, unpack
from deploy.board.children import Connection, Lost, call
from deploy.board.install import install, require_runtime
from deploy.board.place import Place, write_whole
from deploy.board.power import in_mode, restore_mode, try_modes
from deploy.board.refusal import Refusal, disk_full, is_disk_full

REFUSED, LOST = 3, 4
# The first line on standard error: what comes before is of SSH and the login shell.
STARTED = "stereodistill: the board listens"
# Engines, results and what pip unpacks for a moment, roughly.
RESERVE_BYTES = 100_000_000


def first_line(path: str) -> str:
    """The first line of a system's file; empty when there is none."""
    try:
        return Path(path).read_text(errors="replace").replace("\0", "").strip().split("\n")[0]
    except OSError:
        return ""


def probe(directory: str) -> dict[str, Any]:
    """What the board is, without leaving a trace on it."""
    program = "import tensorrt; print(tensorrt.__version__)"
    found = subprocess.run([sys.executable, "-s", "-B", "-c", program], stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True)  # fmt: skip
    return {
        "python": platform.python_version(),
        "target": f"{platform.machine()}-cp{sys.version_info[0]}{sys.version_info[1]}",
        "model": first_line("/proc/device-tree/model"),
        "l4t": first_line("/etc/nv_tegra_release"),
        "tensorrt": found.stdout.strip() if found.returncode == 0 else "",
        "directory": str(Path(directory).expanduser().resolve()),
    }


def key_of(step: str, arguments: dict[str, Any]) -> str:
    """What the journal knows a step by: all that its outcome depends on."""
    content = json.dumps([step, arguments], sort_keys=True).encode()
    return f"{step}-{hashlib.sha256(content).hexdigest()[:16]}"


def finished_outcome(place: Place, key: str) -> dict[str, Any] | None:
    """The outcome of a step that was finished before, if all that it made is still there."""
    outcome = place.finished(key)
    there = outcome is not None and all((place.root / name).is_file() for name in outcome["files"])
    return outcome if there else None


def part_of(place: Place, sha256: str) -> Path:
    """Where a bundle arrives."""
    return place.folder("incoming") / f"{sha256}.tar.part"


def prepare(place: Place, connection: Connection, arguments: dict[str, Any]) -> dict[str, Any]:
    """Make room for a bundle, and tell how much of it is there.

    Args:
        arguments: sha256, size_bytes: of the archive; needs_bytes: what it takes beside the archive.

    Raises:
        Refusal: the disk is too full.
    """
    if finished_outcome(place, key_of("take", {"sha256": arguments["sha256"]})):
        return {"taken": True}
    part = part_of(place, arguments["sha256"])
    part.touch()
    have = part.stat().st_size
    if have > arguments["size_bytes"]:
        os.truncate(part, 0)
        have = 0
    place.need(arguments["size_bytes"] - have + arguments["needs_bytes"] + RESERVE_BYTES, "this bundle")
    return {"taken": False, "path": str(part), "have_bytes": have}


def take(place: Place, connection: Connection, arguments: dict[str, Any]) -> dict[str, Any]:
    """Check the archive that arrived, and unpack it.

    Args:
        arguments: sha256: of the archive.

    Raises:
        Refusal: it is another than was sent, or not as its manifest says.
    """
    part = part_of(place, arguments["sha256"])
    if not part.exists() or sha256_of(str(part)) != arguments["sha256"]:
        part.unlink(missing_ok=True)
        raise Refusal("what arrived on the board is not what was sent: the checksums differ", where=part,
                      fix="start the same flash again: it copies anew")  # fmt: skip
    name = f"bundles/{arguments['sha256'][:16]}"
    unpack(str(part), place.root / name)
    part.unlink()
    return {"bundle": name, "files": [name + "/manifest.json"]}


def stereodistill(arguments: dict[str, Any], *words: str) -> list[str]:
    """The command line of a verb in the environment."""
    return [arguments["python"], "-s", "-m", "stereo.cli", *words]


def verb(place: Place, connection: Connection, arguments: dict[str, Any]) -> dict[str, Any]:
    """Run a verb in the environment.

    Args:
        arguments: words: the verb and its options, paths relative to our folder; makes: the files it writes, relative
            too; capture: the file that gets its standard output, or ""; power_mode: to be in meanwhile, or "".

    Raises:
        Refusal: it failed.
    """
    for name in arguments["makes"]:
        (place.root / name).parent.mkdir(parents=True, exist_ok=True)
    capture = place.root / arguments["capture"] if arguments["capture"] else None
    with in_mode(arguments["power_mode"], place) as mode:
        call(stereodistill(arguments, *arguments["words"]), place=place, connection=connection,
             what=f"stereodistill {arguments['words'][0]}", capture=capture)  # fmt: skip
    return {"power_mode": mode, "files": arguments["makes"]}


PREDICT = """#!/bin/sh
# predict LEFT RIGHT --out DIR [more options of `stereodistill predict`]
# {about}
export PYTHONNOUSERSITE=1 ORT_DISABLE_TELEMETRY=1
export PYTHONPYCACHEPREFIX={cache} CUDA_CACHE_PATH={cache} XDG_CACHE_HOME={cache}
exec {python} -s -m stereo.cli predict --model {model} --runtime {runtime} "$@"
"""


def ready(place: Place, connection: Connection, arguments: dict[str, Any]) -> dict[str, Any]:
    """Leave the program DIRECTORY/predict, after it has run on a pair of the bundle.

    Args:
        arguments: model, left, right: relative to our folder; runtime; about: one line for whoever reads the program.

    Raises:
        Refusal: it failed.
    """
    text = PREDICT.format(
        about=arguments["about"], python=shlex.quote(arguments["python"]), runtime=arguments["runtime"],
        model=shlex.quote(str(place.root / arguments["model"])), cache=shlex.quote(str(place.folder("cache"))),
    )  # fmt: skip
    trial = place.folder("temporary") / "predict"
    write_whole(trial, text.encode(), mode=0o755)
    out = place.folder("temporary") / "prediction"
    images = [str(place.root / arguments[side]) for side in ("left", "right")]
    call([str(trial), *images, "--out", str(out)], place=place, connection=connection, what="predict")
    if not (out / "disparity.pfm").is_file():
        raise Refusal("predict wrote no disparity on the board", where=out)
    write_whole(place.root / "predict", text.encode(), mode=0o755)
    return {"program": str(place.root / "predict"), "files": ["predict"]}


# No alias for this type: Python 3.8, which the PC refuses by its probe, could not even make it.
STEPS: dict[str, Callable[[Place, Connection, dict[str, Any]], dict[str, Any]]] = {
    "take": take, "install": install, "verb": verb, "ready": ready,
}  # fmt: skip
# What has to be asked each time, because the answer may have changed.
QUESTIONS: dict[str, Callable[[Place, Connection, dict[str, Any]], dict[str, Any]]] = {
    "prepare": prepare, "runtime": require_runtime, "modes": try_modes,
}  # fmt: skip


def journaled(place: Place, connection: Connection, request: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The outcome of a step, and whether it was finished before with all that it made still there."""
    step, arguments = request["step"], request["arguments"]
    key = key_of(step, arguments)
    outcome = None if request.get("again") else finished_outcome(place, key)
    if outcome is not None:
        return outcome, True
    place.forget(key)
    outcome = STEPS[step](place, connection, arguments)
    place.finish(key, outcome)
    return outcome, False


@contextlib.contextmanager
def told_of_full_disk(place: Place) -> Iterator[None]:
    """Say it in one line.

    Raises:
        Refusal: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise disk_full(str(place.root)) from None


def run(request: dict[str, Any], connection: Connection) -> dict[str, Any]:
    """Do one step."""
    if request["step"] == "probe":
        return {"outcome": probe(request["directory"]), "continued": False}
    place = Place(request["directory"])
    with place.locked(), told_of_full_disk(place):
        restored = restore_mode(place)
        if restored:
            print(f"power mode: returned to {restored}, which an interrupted flash had left", file=sys.stderr)
        if request["step"] in QUESTIONS:
            answer = QUESTIONS[request["step"]](place, connection, request["arguments"])
            return {"outcome": answer, "continued": False}
        outcome, continued = journaled(place, connection, request)
    return {"outcome": outcome, "continued": continued, "processor_s": round(sum(os.times()[:4]), 1)}


def main(request: dict[str, Any]) -> int:
    """Do one step and answer on standard output. Returns the exit code."""
    print(STARTED, file=sys.stderr, flush=True)
    connection = Connection()
    for number in (signal.SIGTERM, signal.SIGHUP):
        # In a thread of its own: the main one may hold what cut() waits for.
        signal.signal(number, lambda *_: threading.Thread(target=connection.cut).start())
    code = 0
    try:
        answer = run(request, connection)
    except Refusal as refusal:
        answer, code = {"refusal": refusal.fields()}, REFUSED
    except Lost:
        return LOST
    print(json.dumps(answer), flush=True)
    return code
