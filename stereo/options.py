"""Pieces that the rooms' option dataclasses share: positional arguments and image sizes."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from stereo.errors import UserError


def positional(*, nargs: str | None = None) -> Any:
    """A dataclass field that the command line takes by position; `nargs="+"` makes it a list of strings."""
    return dataclasses.field(metadata={"positional": True, "nargs": nargs})


def parse_size(text: str, *, multiple: int = 1, option: str = "--size") -> tuple[int, int]:
    """Read an image size written HEIGHTxWIDTH.

    Args:
        text: such as "480x640".
        multiple: both numbers must be multiples of this.
        option: where it was given, for the error.

    Returns:
        (height, width) in pixels.

    Raises:
        UserError: not of that form, or not a multiple.
    """
    match = re.fullmatch(r"(\d+)[x×](\d+)", text.strip())
    if not match:
        raise UserError(f"'{text}' is not a size", where=option, fix="write HEIGHTxWIDTH, such as 480x640")
    height, width = int(match[1]), int(match[2])
    if min(height, width) < multiple or height % multiple or width % multiple:
        near = "x".join(str(max(multiple, round(value / multiple) * multiple)) for value in (height, width))
        raise UserError(f"{text}: height and width must be multiples of {multiple}", where=option,
                        fix=f"nearest: {near}")  # fmt: skip
    return height, width
