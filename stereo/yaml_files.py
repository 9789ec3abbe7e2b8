"""YAML as robots write it: plain YAML, and OpenCV's dialect of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from stereo.errors import UserError
from stereo.pair import read_bytes

# OpenCV writes `%YAML:1.0`, which YAML itself has no such directive for.
OPENCV_HEADER = re.compile(r"\A\s*%YAML[: ]\s*[\d.]+\s*(---)?")


class Loader(yaml.SafeLoader):
    """Safe YAML that takes OpenCV's matrices as plain mappings with rows, cols, dt, data."""


for _tag in ("opencv-matrix", "opencv-nd-matrix"):
    Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", yaml.SafeLoader.construct_yaml_map)


def read_yaml(path: Path, *, what: str) -> Mapping[str, Any]:
    """The mapping that a YAML file holds; nothing in it is ever executed.

    Args:
        what: the noun for the error message.

    Raises:
        UserError: missing, not YAML, or not a mapping.
    """
    text = OPENCV_HEADER.sub("", read_bytes(path, what=what).decode("utf-8", errors="replace"), count=1)
    try:
        values = yaml.load(text, Loader=Loader)
    except yaml.YAMLError as error:
        raise UserError(f"is not YAML: {error}", where=path, fix=f"is this the {what}?") from error
    if not isinstance(values, Mapping):
        raise UserError(f"holds no fields, so it is no {what}", where=path)
    return values
