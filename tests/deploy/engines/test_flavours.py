"""deploy.engines.flavours: which TensorRT is too old, which is newer than what is known."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from deploy.engines.flavours import import_flavour, make_logger
from stereo.errors import UserError


@pytest.mark.parametrize(("version", "told"), [("8.5.2.2", "older than 10.3"), ("10.2.0", "older than 10.3")])
def test_too_old(monkeypatch: pytest.MonkeyPatch, version: str, told: str) -> None:
    old = types.ModuleType("tensorrt")
    old.__version__ = version  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", old)
    with pytest.raises(UserError, match=rf"tensorrt {version} is {told} \(JetPack 6\.1"):
        import_flavour("tensorrt")


@pytest.mark.parametrize(("version", "warned"), [("10.3.0", False), ("11.4.1.7", False), ("11.5.0", True)])
def test_too_new_is_told_and_tried(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, version: str, warned: bool
) -> None:
    module = types.ModuleType("tensorrt")
    module.__version__ = version  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    assert import_flavour("tensorrt") is module
    assert ("newer than 11.4" in caplog.text) == warned


def test_logger_keeps_errors_only(make_gpu: Any) -> None:
    make_gpu()
    trt = sys.modules["tensorrt"]
    logger = make_logger(trt)
    severity = trt.ILogger.Severity
    assert logger.reason() == "no reason given"
    logger.log(severity.ERROR, "one")
    logger.log(severity.WARNING, "slow")
    logger.log(severity.INTERNAL_ERROR, "Thread context has not been set! Using global log stream.")
    assert (logger.errors, logger.reason()) == (["one"], "one")
