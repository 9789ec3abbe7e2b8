"""JSON → frozen dataclasses, every field checked against its type hint, so that an altered file is told by field."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from typing import Any, Literal

from stereo.errors import UserError


def parse(kind: Any, value: Any, *, where: str) -> Any:
    """Build a typed value of JSON, checking every field.

    Args:
        kind: a dataclass, a Literal, an optional, a tuple or dict of these, or a plain type.
        where: for the error message.

    Raises:
        UserError: an unknown or missing field, or a value of another type; NaN and infinity count as that.
    """
    if dataclasses.is_dataclass(kind):
        return _parse_dataclass(kind, value, where=where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (kind,) = (argument for argument in arguments if argument is not type(None))
        return parse(kind, value, where=where)
    if origin is tuple and isinstance(value, list):
        return tuple(parse(arguments[0], item, where=f"{where}[{index}]") for index, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: parse(arguments[1], item, where=f"{where}.{key}") for key, item in value.items()}
    if origin is Literal and value in arguments:
        return value
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if kind in (int, str, bool) and type(value) is kind:
        return value
    expected = " or ".join(map(repr, arguments)) if origin is Literal else getattr(kind, "__name__", str(kind))
    raise UserError(f"expected {expected}, found {value!r:.60}", where=where, fix="measure again")


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    """A benchmark's results hold thousands of objects of one kind: its hints are made out once."""
    return typing.get_type_hints(kind)


def _parse_dataclass(kind: Any, value: Any, *, where: str) -> Any:
    if not isinstance(value, dict):
        raise UserError(f"expected the fields of a {kind.__name__}, found {value!r:.60}", where=where)
    known = {item.name: item for item in dataclasses.fields(kind)}
    for name in value:
        if name not in known:
            raise UserError(f"unknown field '{name}'", where=where, fix="measure again with this version")
    hints = _hints(kind)
    missing = [name for name, item in known.items() if name not in value
               and item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING]  # fmt: skip
    if missing:
        raise UserError(f"missing field '{missing[0]}'", where=where, fix="measure again with this version")
    return kind(**{name: parse(hints[name], item, where=f"{where}.{name}") for name, item in value.items()})
