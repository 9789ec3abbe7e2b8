"""The two TensorRTs behind one way of building and running, and which of their versions are known.

TensorRT-RTX has nearly TensorRT's API and builds ahead of time, also without a GPU; TensorRT builds for the GPU it runs
on. Code that uses either takes the module as an argument and keeps to the names that all known versions have.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Any

from stereo.errors import UserError, require

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Flavour:
    """One TensorRT.

    Args:
        module: import name.
        install: what to do when it is missing.
        ahead_of_time: builds for a named compute capability, also without a GPU.
        newer: what to do when it is too old.
        oldest, newest: the versions whose API was checked, as (major, minor).
    """

    module: str
    install: str
    newer: str
    ahead_of_time: bool
    oldest: tuple[int, int]
    newest: tuple[int, int]


FLAVOURS = {
    "tensorrt": Flavour(
        "tensorrt",
        "on a Jetson: apt install python3-libnvinfer, in a venv with --system-site-packages; elsewhere: "
        "pip install 'stereodistill[tensorrt]'",
        "JetPack 6.1 and later bring TensorRT 10.3",
        ahead_of_time=False, oldest=(10, 3), newest=(11, 4),
    ),
    "tensorrt_rtx": Flavour(
        "tensorrt_rtx_bindings", "pip install 'stereodistill[rtx]'", "pip install --upgrade 'stereodistill[rtx]'",
        ahead_of_time=True, oldest=(1, 0), newest=(1, 7),
    ),
}  # fmt: skip


def import_flavour(name: str) -> Any:
    """The module of a flavour, its version checked.

    Raises:
        UserError: missing, or older than what this project knows.
    """
    flavour = FLAVOURS[name]
    trt: Any = require(flavour.module, hint=flavour.install)
    oldest, newest = (".".join(map(str, version)) for version in (flavour.oldest, flavour.newest))
    version = version_of(trt)
    if version < flavour.oldest:
        raise UserError(f"{name} {trt.__version__} is older than {oldest}", where=flavour.module, fix=flavour.newer)
    if version > flavour.newest:
        log.warning("%s %s is newer than %s, the newest whose API was checked", name, trt.__version__, newest)
    return trt


def version_of(trt: Any) -> tuple[int, int]:
    """(major, minor) of a TensorRT module."""
    numbers = [int(text) for text in re.findall(r"\d+", str(trt.__version__))[:2]]
    return numbers[0], numbers[1]


def make_logger(trt: Any) -> Any:
    """A TensorRT logger that keeps its errors in `.errors`; the rest goes to the log for debugging."""

    class Errors(trt.ILogger):
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            # Said by TensorRT-RTX at every build, which then goes well.
            harmless = "Thread context has not been set" in message
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR) and not harmless:
                self.errors.append(message)
            log.debug("%s", message)

        def reason(self) -> str:
            return self.errors[-1] if self.errors else "no reason given"

    return Errors()
