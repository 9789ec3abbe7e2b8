"""The packages that a board needs beside JetPack's own, as wheels, each pinned by checksum in a lock for its Python.

What is in it and why: docs/decisions/bundle.md.
"""

from __future__ import annotations

import email
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from deploy.own_wheel import DISTRIBUTION
from stereo.artifacts import sha256_file
from stereo.errors import UserError, require
from stereo.progress import progress

# JetPack's OpenCV and TensorRT are built for numpy 1: with numpy 2 beside them, `import cv2` fails.
NUMPY = "numpy>=1.24,<2"
# Without windows it needs no libGL; it is installed only where the board has no OpenCV.
OPENCV = "opencv-python-headless>=4.8"
ONNXRUNTIME, PSUTIL = "onnxruntime>=1.20", "psutil>=5.9"
# The CUDA that JetPack brings for this Python: 12.6 with JetPack 6, 13.2 with JetPack 7.
CUDA = {"aarch64-cp310": "cuda-python~=12.6.0", "aarch64-cp312": "cuda-python~=13.2.0"}
# The C library that systems with this Python have at least: Ubuntu 22.04, Debian 12, Ubuntu 24.04.
GLIBC_MINOR = {"cp310": 35, "cp311": 36, "cp312": 39}
PIP = "-pip"
# pip waits for the network most of the time.
PARALLEL = 4
ARCHITECTURES = ("aarch64", "x86_64")


@dataclass(frozen=True)
class Target:
    """A kind of board.

    Args:
        architecture: such as "aarch64".
        tag: of its Python, such as "cp310".
    """

    architecture: str
    tag: str

    @property
    def name(self) -> str:
        """As it is written: aarch64-cp310."""
        return f"{self.architecture}-{self.tag}"

    @property
    def python(self) -> str:
        """Such as "3.10"."""
        return f"{self.tag[2]}.{self.tag[3:]}"

    @property
    def platforms(self) -> list[str]:
        """Every platform tag whose wheels run there; pip does not find out by itself for another machine."""
        names = [f"manylinux_2_{minor}_{self.architecture}" for minor in range(GLIBC_MINOR[self.tag], 4, -1)]
        return [*names, f"manylinux2014_{self.architecture}"]

    @property
    def environment(self) -> dict[str, str]:
        """What markers such as `python_version < "3.11"` are decided by."""
        return {
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "platform_machine": self.architecture,
            "sys_platform": "linux",
            "platform_system": "Linux",
            "os_name": "posix",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "extra": "",
        }


def parse_targets(text: str) -> list[Target]:
    """Read a list such as "aarch64-cp310,aarch64-cp312".

    Raises:
        UserError: an unknown one, or none.
    """
    targets = []
    for word in dict.fromkeys(part.strip() for part in text.split(",") if part.strip()):
        architecture, _, tag = word.rpartition("-")
        if architecture not in ARCHITECTURES or tag not in GLIBC_MINOR:
            known = ", ".join(f"{a}-{t}" for a in ARCHITECTURES for t in GLIBC_MINOR)
            raise UserError(f"unknown target '{word}'", where="--targets", fix=f"known: {known}")
        targets.append(Target(architecture, tag))
    if not targets:
        raise UserError("no target named", where="--targets", fix="give aarch64-cp310,aarch64-cp312 or one of them")
    return targets


def base_requirements() -> list[str]:
    """What this project needs without any extra, numpy and OpenCV left out."""
    named = [line for line in metadata.requires(DISTRIBUTION) or [] if "extra ==" not in line]
    return [line for line in named if not re.match(r"(numpy|opencv-python)\b", line)]


def fill_wheelhouse(folder: Path, targets: Sequence[Target]) -> dict[str, str]:
    """Download the wheels for each target.

    Args:
        folder: gets the wheels of all targets.

    Returns:
        file name → text of each lock: TARGET.txt, TARGET-opencv.txt for boards without OpenCV, and
        TARGET-onnxruntime.txt for those that shall run graphs on the CPU.

    Raises:
        UserError: pip finds no wheel, or reaches no index.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [(target, name, lines) for target in targets for name, lines in lists_for(target).items()]
    locks = {}
    with progress("wheels", len(wanted), unit="lists") as ticker, ThreadPoolExecutor(PARALLEL) as pool:
        made = {pool.submit(download, target, lines, folder): name for target, name, lines in wanted}
        for done in as_completed(made):
            wheels = done.result()
            if not made[done].endswith(PIP):  # pip runs from its wheel and is not installed
                locks[f"{made[done]}.txt"] = lock_text(wheels)
            ticker.advance(note=made[done])
    return locks


def lists_for(target: Target) -> dict[str, list[str]]:
    """Name of each lock, or of the list with pip → what is in it with all that these need."""
    everything = [*base_requirements(), NUMPY, PSUTIL]
    everything += [CUDA[target.name]] if target.name in CUDA else []
    return {
        target.name: everything,
        f"{target.name}-opencv": [NUMPY, OPENCV],
        # With the others, so that it agrees with them.
        f"{target.name}-onnxruntime": [*everything, ONNXRUNTIME],
        f"{target.name}{PIP}": ["pip"],
    }


def download(target: Target, wanted: Sequence[str], folder: Path) -> list[Path]:
    """The wheels of some requirements and of all that these need on the target, moved to a folder.

    Raises:
        UserError: pip finds none, or reaches no index.
    """
    with tempfile.TemporaryDirectory() as scratch:
        asked, left_out, wheels = [], list(wanted), []
        while left_out:
            asked += left_out
            run_pip(target, asked, Path(scratch))
            wheels = sorted(Path(scratch).glob("*.whl"))
            # pip decides markers by the machine it runs on, so what only the target needs has to be asked for by name.
            left_out = sorted(set(needed_by(wheels, target)) - set(asked))
        for wheel in wheels:
            shutil.move(str(wheel), folder / wheel.name)
        return [folder / wheel.name for wheel in wheels]


def run_pip(target: Target, wanted: Sequence[str], folder: Path) -> None:
    """Let pip download wheels for a machine that is not this one.

    Raises:
        UserError: it cannot.
    """
    if PathFinder.find_spec("pip") is None:  # not importing it: see find_pip of deploy.board.install
        raise UserError("cannot import pip", fix="python -m ensurepip")
    platforms = [word for name in target.platforms for word in ("--platform", name)]
    command = [
        sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-input", "--dest",
        str(folder), "--only-binary=:all:", "--implementation", "cp", "--python-version", target.python, *platforms,
        *wanted,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise UserError(f"pip finds no wheels for {target.name}: {(errors or ['it gave no reason'])[-1]}",
                        where="--wheelhouse", fix="check network and pip's index, or --wheelhouse false")  # fmt: skip


def needed_by(wheels: Sequence[Path], target: Target) -> Iterator[str]:
    """Requirements of wheels that hold on the target and that no wheel meets."""
    requirements: Any = require("packaging.requirements", hint="pip install packaging")
    names: Any = require("packaging.utils", hint="pip install packaging")
    present = {names.canonicalize_name(wheel.name.split("-")[0]) for wheel in wheels}
    for wheel in wheels:
        for line in wheel_requirements(wheel):
            requirement = requirements.Requirement(line)
            holds = requirement.marker is None or requirement.marker.evaluate(target.environment)
            if holds and names.canonicalize_name(requirement.name) not in present:
                requirement.marker = None
                yield str(requirement)


def wheel_requirements(wheel: Path) -> list[str]:
    """The Requires-Dist lines of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
        about = email.message_from_bytes(archive.read(name))
    return [str(line) for line in about.get_all("Requires-Dist") or []]


def lock_text(wheels: Sequence[Path]) -> str:
    """Requirements that pin the wheels by version and checksum, as `pip install --require-hashes` takes them."""
    lines = []
    for wheel in sorted(wheels):
        name, version = wheel.name.split("-")[:2]
        lines.append(f"{name.replace('_', '-')}=={version} --hash=sha256:{sha256_file(wheel)}")
    return "\n".join([*lines, ""])
