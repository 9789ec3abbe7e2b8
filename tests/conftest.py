"""Fixtures that several rooms' tests use."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real stereo pairs, video and a peer network; see CONTRIBUTING.md. Tests that need it skip without it."""
    path = Path(os.environ.get("STEREODISTILL_DATA", ROOT.parent / "shared" / "data"))
    if not (path / "pairs").is_dir():
        pytest.skip(f"no development data at {path} (set STEREODISTILL_DATA)")
    return path


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Let tests interrupt what they start: shells make background jobs, and all that these start, deaf to Ctrl-C."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
