"""`stereodistill flash`: a bundle onto a board over SSH, measured there, the results brought back.

probe → check the bundle here → copy → check and unpack it there → install → build engines → doctor → profile, in each
power mode → evaluate → fetch → leave `predict`. Every step is journaled on the board by all that its outcome depends
on (`deploy.board.steps`), so that the next flash continues after whatever ended this one.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.board.archive import check
from deploy.board.refusal import Refusal
from deploy.board_files import fetch
from deploy.board_session import Session
from deploy.config import FlashConfig
from deploy.results import ResultRow, read_results
from deploy.soak import check_minutes
from deploy.ssh import Board
from stereo.artifacts import make_manifest, sha256_file, write_json
from stereo.errors import UserError
from stereo.progress import clock, progress

MB = 1_000_000
RECORD_NAME = "flash.json"
OLDEST_PYTHON = (3, 10)
# Wheels unpack to about this many times their size.
UNPACKED = 4

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bundle:
    """An archive that was checked here.

    Args:
        sha256: of the archive.
        variants: those to flash, as its manifest describes them.
    """

    path: Path
    sha256: str
    manifest: Mapping[str, Any]
    variants: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Installed:
    """What the board has after the first steps; paths are relative to flash's folder there.

    Args:
        folder: of the unpacked bundle.
        python: of the environment, absolute.
        models: what runs, one for each variant.
        results: folder of the results.
    """

    folder: str
    python: str
    models: Sequence[str]
    results: str


def flash(config: FlashConfig) -> Path:
    """Flash a board and fetch its results.

    Raises:
        UserError: a damaged bundle, a board that cannot be reached or lacks something, a wrong setting, or a step that
            failed there.
    """
    start = time.monotonic()
    check_minutes(config.minutes)
    modes = [word.strip() for word in config.power_modes.split(",") if word.strip()] or [""]
    board = Board(
        config.board, config.port, *(Path(path) if path else None for path in (config.identity, config.known_hosts))
    )
    bundle = open_bundle(Path(config.bundle), config.variants)
    session = Session(board, config.directory)
    found = session.probe()
    log.info("%s: %s", config.board, describe(found))
    refuse_board(found, bundle, config.runtime)
    if any(modes):
        names = session.call("modes", {"words": modes}).outcome["names"]
        log.info("board: power modes %s can be set, and the one before was put back", ", ".join(names))
    installed = prepare(session, bundle, found, config.runtime)
    measure(session, bundle, installed, config, modes)
    out = Path(config.out)
    session.retried(lambda: fetch(board, f"{session.root}/{installed.results}", out))
    rows = read_results(out / "results.json")
    fastest = fastest_model(rows, installed.models)
    program = leave_predict(session, installed, fastest, config.runtime)
    record = {"board": found, "steps": session.done, "seconds": round(time.monotonic() - start, 1), "predict": program,
              "variants": [variant["name"] for variant in bundle.variants]}  # fmt: skip
    write_json(out / RECORD_NAME, make_manifest("flash", made_from={"bundle": bundle.sha256}, config=config,
                                                content=record))  # fmt: skip
    log.info("done in %s; on the board: %s LEFT RIGHT --out DIR", clock(time.monotonic() - start), program)
    return out / "results.json"


def open_bundle(path: Path, wanted: str) -> Bundle:
    """Check an archive and choose of its variants.

    Raises:
        UserError: it is damaged, leads out of its folder, or has no such variant.
    """
    size = path.stat().st_size if path.is_file() else 0
    try:
        with progress("checking the bundle", -(-size // MB), unit="MB") as ticker:
            read = 0

            def advance(size_bytes: int) -> None:
                nonlocal read
                read += size_bytes
                ticker.advance(read // MB - ticker.done)

            manifest = check(str(path), advance)
    except Refusal as refusal:
        raise UserError(refusal.what, where=refusal.where, fix=refusal.fix) from refusal
    return Bundle(path, sha256_file(path), manifest, choose(manifest["variants"], wanted))


def choose(variants: Sequence[Mapping[str, Any]], wanted: str) -> list[Mapping[str, Any]]:
    """The variants that a list of words names, all when it is empty.

    Raises:
        UserError: a word that names none.
    """
    words = [word.strip() for word in wanted.split(",") if word.strip()]
    chosen = []
    for word in words:
        spelled = word.replace("/", " ")
        named = [each for each in variants if spelled in (each["name"], Path(each["file"]).stem)]
        named = named or [each for each in variants if spelled == each["precision"]]
        if not named:
            raise UserError(f"the bundle has no variant '{word}'", where="--variants",
                            fix=f"it has {', '.join(each['name'] for each in variants)}")  # fmt: skip
        chosen += [each for each in named if each not in chosen]
    return chosen or list(variants)


def describe(found: Mapping[str, Any]) -> str:
    """The board in one line."""
    tensorrt = f"TensorRT {found['tensorrt']}" if found["tensorrt"] else "no TensorRT"
    parts = (found["model"] or found["target"], found["l4t"].partition(",")[0], f"Python {found['python']}", tensorrt)
    return ", ".join(part for part in parts if part)


def refuse_board(found: Mapping[str, Any], bundle: Bundle, runtime: str) -> None:
    """Refuse a board that cannot run the bundle, before anything is copied.

    Raises:
        UserError: its Python is too old, the bundle is for others, or TensorRT is missing.
    """
    if tuple(int(part) for part in found["python"].split(".")[:2]) < OLDEST_PYTHON:
        raise UserError(f"Python {found['python']} on the board is too old", fix="JetPack 6 or later has 3.10 or later")
    targets = bundle.manifest["targets"]
    if targets and found["target"] not in targets:
        raise UserError(f"the bundle is for {', '.join(targets)}, the board is {found['target']}", where=bundle.path,
                        fix=f"stereodistill bundle --targets {found['target']}")  # fmt: skip
    if runtime == "tensorrt" and not found["tensorrt"]:
        raise UserError("the board's python3 has no TensorRT", where="--runtime",
                        fix="sudo apt install nvidia-jetpack there, or --runtime onnxruntime")  # fmt: skip


def prepare(session: Session, bundle: Bundle, found: Mapping[str, Any], runtime: str) -> Installed:
    """Copy, unpack, install, build.

    Raises:
        UserError: a step failed.
    """
    session.send(bundle.path, bundle.sha256, needs_bytes=needs_bytes(bundle.manifest))
    folder = session.step("unpack", "take", {"sha256": bundle.sha256})["bundle"]
    members = bundle.manifest["members"]
    parts = [members[name]["sha256"] for name in sorted(members) if name.startswith(("wheels/", "locks/"))]
    environment = {
        "bundle": folder,
        "name": digest([*parts, found["target"], found["python"]]),
        "target": found["target"] if bundle.manifest["targets"] else "",
    }
    python = session.step("install", "install", environment)["python"]
    needs = {"python": python, "bundle": folder, "target": environment["target"], "runtime": runtime}
    session.call("runtime", needs, show=False)
    models = [f"{folder}/{variant['file']}" for variant in bundle.variants]
    if runtime == "tensorrt":
        models = [build(session, python, folder, variant, bundle, found) for variant in bundle.variants]
    return Installed(folder, python, models, f"results/{bundle.sha256[:16]}-{runtime}")


def needs_bytes(manifest: Mapping[str, Any]) -> int:
    """What the board's disk needs beside the archive: its content again, and the largest environment."""
    sizes = {name: each["size_bytes"] for name, each in manifest["members"].items()}
    wheels = sum(size for name, size in sizes.items() if name.startswith("wheelhouse/"))
    return sum(sizes.values()) + UNPACKED * wheels // max(1, len(manifest["targets"]))


def digest(parts: Sequence[str]) -> str:
    """A short name for some content."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def build(
    session: Session, python: str, folder: str, variant: Mapping[str, Any], bundle: Bundle, found: Mapping[str, Any]
) -> str:
    """Build one engine. Returns its path."""
    graph = bundle.manifest["members"][variant["file"]]["sha256"]
    file = Path(variant["file"])
    name = digest([graph, found["tensorrt"], found["model"], python])
    engine = f"engines/{name}/{file.parent.name}/{file.stem}.engine"
    words = ["build", f"{folder}/{variant['file']}", "--runtime", "tensorrt", "--out", engine,
             "--timing-cache", "engines/timing.cache"]  # fmt: skip
    session.verb(f"build {variant['name']}", python, words, makes=[engine])
    return engine


def measure(session: Session, bundle: Bundle, there: Installed, config: FlashConfig, modes: Sequence[str]) -> None:
    """doctor, profile in each power mode, evaluate.

    Raises:
        UserError: a step failed.
    """
    doctor, results = f"{there.results}/doctor.json", f"{there.results}/results.json"
    session.verb("doctor", there.python, ["doctor", "--json"], makes=[doctor], capture=doctor, again=config.again)
    common = ["--runtime", config.runtime, "--threads", str(config.threads), "--out", results]
    # Only what was asked for: the words are what a finished step is known by.
    alone = [*(["--layers"] if config.layers else []),
             *(["--minutes", str(config.minutes)] if config.minutes else [])]  # fmt: skip
    if config.minutes:
        log.info("board: soak runs: %d × %g minutes", len(there.models) * len(modes), config.minutes)
    for mode in modes:
        words = ["profile", *there.models, *common, "--seconds", str(config.seconds), *alone]
        title = f"profile in power mode {mode}" if mode else "profile"
        session.verb(title, there.python, words, makes=[results], power_mode=mode, again=config.again)
    pairs = bundle.manifest["pairs"]
    if not pairs:
        log.info("no pairs in this bundle, so no accuracy is measured on the board (bundle --pairs)")
        return
    words = ["evaluate", *there.models, *common, "--data", f"{there.folder}/{pairs}"]
    session.verb("evaluate", there.python, words, makes=[results], again=config.again)


def fastest_model(rows: Sequence[ResultRow], models: Sequence[str]) -> str:
    """The model with the least median latency of those that were flashed."""
    timed = [row for row in rows if row.latency is not None and row.model.path in models]
    fastest = min(timed, key=lambda row: row.latency.p50_ms if row.latency else 0, default=None)
    return (fastest.model.path if fastest else None) or models[0]


def leave_predict(session: Session, there: Installed, model: str, runtime: str) -> str:
    """Leave the program `predict` on the board, which has run there. Returns its path."""
    arguments = {
        "python": there.python, "model": model, "runtime": runtime, "left": f"{there.folder}/sample/left.png",
        "right": f"{there.folder}/sample/right.png",
        "about": f"the fastest of the variants that were flashed: {'/'.join(Path(model).parts[-2:])}",
    }  # fmt: skip
    return session.step("predict", "ready", arguments)["program"]
