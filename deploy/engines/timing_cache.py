"""TensorRT's timing cache in a file: a second build of a similar graph skips the measuring, which is most of its time.

The cache belongs to one TensorRT version and GPU; one from elsewhere is told and replaced.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from stereo.artifacts import write_bytes

log = logging.getLogger(__name__)


def load_timing_cache(builder_config: Any, path: Path) -> None:
    """Give the builder the cache of a file; a missing file starts an empty one."""
    old = path.read_bytes() if path.is_file() else b""
    cache = builder_config.create_timing_cache(old)
    if cache is None or not builder_config.set_timing_cache(cache, False):
        log.warning("%s: was made by another TensorRT or GPU: the build measures anew and replaces it", path)
        builder_config.set_timing_cache(builder_config.create_timing_cache(b""), False)


def save_timing_cache(builder_config: Any, path: Path) -> None:
    """Write what the builder measured, together with what other builds have written meanwhile."""
    cache = builder_config.get_timing_cache()
    if cache is None:
        return
    if path.is_file():
        other = builder_config.create_timing_cache(path.read_bytes())
        if other is not None:  # one from elsewhere does not combine; it was told when it was loaded
            cache.combine(other, False)
    write_bytes(path, bytes(cache.serialize()))
