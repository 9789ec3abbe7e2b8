"""The environment on the board: Python's own venv that sees the system's packages, filled from the bundle alone.

JetPack supplies TensorRT and usually OpenCV; the rest comes from the bundle's wheelhouse, as its lock pins it by
checksum. pip runs from its own wheel in there, because Ubuntu's python3 may come without pip and ensurepip.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from deploy.board.children import Connection, call
from deploy.board.place import Place
from deploy.board.refusal import Refusal

PACKAGES = ("numpy", "yaml", "rich", "jsonargparse", "onnx", "cv2", "stereo.cli")
RUNTIME_FIX = {
    "tensorrt": "it comes with JetPack: sudo apt install nvidia-jetpack, or python3-libnvinfer alone",
    "onnxruntime": "make the bundle with its wheelhouse, or install it on the board",
}


def install(place: Place, connection: Connection, arguments: dict[str, Any]) -> dict[str, Any]:
    """Make the environment.

    Args:
        arguments: bundle: its folder below ours; name: of the environment; target: such as aarch64-cp310, "" for a
            bundle without wheelhouse.

    Raises:
        Refusal: a package is missing, or pip failed.
    """
    folder = place.folder("environments") / arguments["name"]
    shutil.rmtree(folder, ignore_errors=True)  # what a power cut left
    bundle = place.root / arguments["bundle"]
    call([sys.executable, "-m", "venv", "--without-pip", "--system-site-packages", str(folder)], place=place,
         connection=connection, what="making a virtual environment")  # fmt: skip
    python, target = str(folder / "bin" / "python"), arguments["target"]
    pip = Pip(python, bundle, place, connection)
    if target:
        pip.lock(target)
    (wheel,) = (bundle / "wheels").glob("*.whl")
    pip.install("--no-deps", str(wheel))
    if target and missing("cv2", python, place, connection):
        pip.lock(f"{target}-opencv")
    for package in PACKAGES:
        problem = missing(package, python, place, connection)
        if problem:
            raise Refusal(f"{package} does not work on the board: {problem}", where=folder,
                          fix="make the bundle with its wheelhouse, for the board's Python")  # fmt: skip
    shutil.rmtree(place.folder("temporary"), ignore_errors=True)
    return {"python": python, "files": [str(Path("environments") / arguments["name"] / "pyvenv.cfg")]}


def require_runtime(place: Place, connection: Connection, arguments: dict[str, Any]) -> dict[str, Any]:
    """See to it that what is to run the models can be imported, from the bundle where the board has none.

    Args:
        arguments: python: of the environment; bundle and target as for `install`; runtime: its package.

    Raises:
        Refusal: it cannot.
    """
    runtime, python, bundle = arguments["runtime"], arguments["python"], place.root / arguments["bundle"]
    lock = f"{arguments['target']}-{runtime}"
    problem = missing(runtime, python, place, connection)
    if problem and (bundle / "locks" / f"{lock}.txt").is_file():
        Pip(python, bundle, place, connection).lock(lock)
        problem = missing(runtime, python, place, connection)
    if problem:
        raise Refusal(f"{runtime} does not work on the board: {problem}", where="--runtime", fix=RUNTIME_FIX[runtime])
    return {}


class Pip:
    """Installs into an environment, from the bundle alone.

    Args:
        python: of the environment.
        bundle: folder of the bundle.

    Raises:
        Refusal: there is no pip.
    """

    def __init__(self, python: str, bundle: Path, place: Place, connection: Connection) -> None:
        self.bundle, self.place, self.connection = bundle, place, connection
        # Python compiles what is imported, and keeps it: far less than all that pip would compile.
        self.command = [
            python,
            "-s",
            find_pip(bundle),
            "install",
            "--quiet",
            "--no-index",
            "--no-input",
            "--no-compile",
        ]

    def install(self, *words: str) -> None:
        """Run pip.

        Raises:
            Refusal: it failed.
        """
        call([*self.command, *words], place=self.place, connection=self.connection, what="pip")

    def lock(self, name: str) -> None:
        """Install what a lock of the bundle pins, each wheel checked by its checksum.

        Raises:
            Refusal: it failed.
        """
        wheels, lock = self.bundle / "wheelhouse", self.bundle / "locks" / f"{name}.txt"
        self.install("--require-hashes", "--find-links", str(wheels), "-r", str(lock))


def find_pip(bundle: Path) -> str:
    """What python runs as pip: the wheel in the bundle; without one, the system's pip.

    Raises:
        Refusal: neither is there.
    """
    wheels = sorted((bundle / "wheelhouse").glob("pip-*.whl"))
    if wheels:
        return str(wheels[-1] / "pip")
    from importlib.machinery import PathFinder

    # Not importlib.util: setuptools hooks into it, takes who asks for pip for pip itself, and does without its own
    # distutils from then on, so that importing setuptools fails.
    found = PathFinder.find_spec("pip")
    if found is None or not found.submodule_search_locations:
        raise Refusal("there is no pip, in the bundle or on the board", fix="make the bundle with its wheelhouse")
    return next(iter(found.submodule_search_locations))


def missing(package: str, python: str, place: Place, connection: Connection) -> str | None:
    """Why a package cannot be imported in the environment; None when it can."""
    folder = place.folder("temporary")
    try:
        call([python, "-s", "-c", f"import {package}"], place=place, connection=connection, what=package,
             capture=folder / "import.txt", quiet=True)  # fmt: skip
    except Refusal as refusal:
        return refusal.what.rpartition("): ")[2]
    return None
