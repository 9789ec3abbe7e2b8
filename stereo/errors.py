"""Errors that the user can fix, and optional dependencies that say how to get them.

The front door (`stereo.cli`) prints a `UserError` as one line and exits with 2; anything else is our bug and exits
with 1.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType


class UserError(Exception):
    """Something the user can fix, told in one line: what is wrong, where, and what to do.

    Args:
        what: the problem, with the offending value and the limit it breaks.
        where: file, frame, key or option the problem sits in.
        fix: what to do about it.
    """

    def __init__(self, what: str, *, where: object = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        line = f"{where}: {what}" if where is not None else what
        if fix:
            line = f"{line} ({fix})"
        super().__init__(" ".join(line.split()))


# What keeps packages from reporting home. onnxruntime's Linux wheels write a device id at import unless told not to.
SILENT = {"ORT_DISABLE_TELEMETRY": "1"}


def require(module: str, *, hint: str) -> ModuleType:
    """Import an optional dependency, its telemetry switched off.

    Args:
        module: import name, dots allowed.
        hint: how to install it, shown when the import fails.

    Raises:
        UserError: when the module, or a library it loads, is missing.
    """
    os.environ.update(SILENT)  # children inherit it
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"cannot import {module}: {error}", fix=hint) from error
