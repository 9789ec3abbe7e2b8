"""Label sets: of a rendered clip; packed behind an http server, and behind a stand-in for the AWS command line.
Trainings that are interrupted.

Helper modules cannot be imported from tests, so everything comes as a fixture.
"""

from __future__ import annotations

import functools
import http.server
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from distill.scene_clip import write_clip
from stereo.cli import main
from stereo.label_set import LabelledFrame, LabelSet
from stereo.label_set_writer import LabelSetWriter
from stereo.packing import PackConfig, pack

FRAMES = 21


@dataclass
class Server:
    """An http server of our own.

    Args:
        url: its address.
        asked: paths that were asked for, in order.
    """

    url: str
    asked: list[str] = field(default_factory=list)


@contextmanager
def serve(folder: Path) -> Iterator[Server]:

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            server.asked.append(self.path)

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    server = Server(f"http://127.0.0.1:{httpd.server_port}")
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield server
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def noise_frame(index: int, size: tuple[int, int] = (24, 32), confidence: float = 1.0) -> LabelledFrame:
    """A frame that differs from all others."""
    noise = np.random.default_rng(index)
    disparity = np.round(noise.uniform(1, 60, size) * 256).astype(np.float32) / 256
    left, right = noise.integers(0, 255, (2, *size, 3), np.uint8)
    return LabelledFrame(f"clip.{index:03d}", left, right, disparity, np.full(size, confidence, np.float32))


def write_noise(folder: Path, frames: int = FRAMES, *, first: int = 0, confidence: float = 1.0) -> Path:
    """A label set of such frames."""
    writer = LabelSetWriter(folder, identity={}, max_disp=64)
    for index in range(frames):
        writer.add(index, noise_frame(first + index, confidence=confidence))
    return writer.finish()


@pytest.fixture(scope="session")
def serving() -> Callable[[Path], AbstractContextManager[Server]]:
    """Serves a folder over http."""
    return serve


@pytest.fixture(scope="session")
def write_labels() -> Callable[..., Path]:
    """Writes a label set of frames of noise."""
    return write_noise


@pytest.fixture(scope="session")
def labels(tmp_path_factory: pytest.TempPathFactory) -> LabelSet:
    """Such a set."""
    return LabelSet.open(write_noise(tmp_path_factory.mktemp("set") / "set"))


@pytest.fixture
def packed(labels: LabelSet, tmp_path: Path) -> Path:
    """The set in shards of two frames."""
    return pack(PackConfig(str(labels.path), out=str(tmp_path / "packed"), shard_mb=0.03))


@pytest.fixture
def server(packed: Path) -> Iterator[Server]:
    with serve(packed) as found:
        yield found


@pytest.fixture
def address(server: Server) -> str:
    return server.url


@pytest.fixture
def bucket(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The packed set as s3://bucket/a;set, behind a stand-in for the AWS command line that copies from the folder."""
    program = tmp_path / "bin/aws"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\n"
        "import shutil, sys\n"
        "words = sys.argv[1:]\n"
        "assert words[:3] == ['s3', 'cp', '--only-show-errors'] and words[4] == '-', words\n"
        "assert words[3].startswith('s3://bucket/a;set/'), words\n"
        f"with open({str(packed)!r} + '/' + words[3].rpartition('/')[2], 'rb') as file:\n"
        "    shutil.copyfileobj(file, sys.stdout.buffer)\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return "s3://bucket/a;set"


@pytest.fixture(scope="module")
def clip_labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rendered frames of 96×160 labelled by SGBM, with files of their own."""
    folder = tmp_path_factory.mktemp("labels")
    clip = write_clip(folder / "clip", 2, (96, 160), seed=0)
    assert main(["label", str(clip), "--out", str(folder / "set"), "--links", "false"]) == 0
    return folder / "set"


def interrupt_after_checkpoint(process: subprocess.Popen[str], out: Path) -> str:
    """Ctrl-C for a training as soon as it has a checkpoint. Returns what it told."""
    deadline = time.monotonic() + 600
    while not (out / "last.ckpt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 130, errors
    return errors


@pytest.fixture(scope="session")
def interrupted() -> Callable[[subprocess.Popen[str], Path], str]:
    """Interrupts a training after its first checkpoint."""
    return interrupt_after_checkpoint
