"""deploy.engines.timing_cache: read, combined with what others wrote meanwhile, written back."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.engines.timing_cache import load_timing_cache, save_timing_cache


def config_of(logger: Any = None) -> Any:
    from deploy.engines.flavours import make_logger

    trt = sys.modules["tensorrt"]
    return trt.Builder(make_logger(trt)).create_builder_config()


def timed(path: Path) -> list[str]:
    return json.loads(path.read_text())["timed"]


def test_two_builds_at_once_keep_what_both_measured(tmp_path: Path, make_gpu: Callable[..., Any]) -> None:
    make_gpu()
    path = tmp_path / "t.cache"
    one, other = config_of(), config_of()
    for config, kernel in ((one, "a"), (other, "b")):
        load_timing_cache(config, path)
        config.get_timing_cache()._timed.add(kernel)
    save_timing_cache(one, path)
    save_timing_cache(other, path)
    assert timed(path) == ["a", "b"]


@pytest.mark.parametrize("foreign", [b'{"version": "8.5", "timed": ["old"]}', b"no cache at all"])
def test_a_cache_from_elsewhere_is_told_and_replaced(
    tmp_path: Path, make_gpu: Callable[..., Any], caplog: pytest.LogCaptureFixture, foreign: bytes
) -> None:
    make_gpu()
    path = tmp_path / "t.cache"
    path.write_bytes(foreign)
    config = config_of()
    load_timing_cache(config, path)
    assert "made by another TensorRT or GPU" in caplog.text
    config.get_timing_cache()._timed.add("new")
    save_timing_cache(config, path)
    assert timed(path) == ["new"]
