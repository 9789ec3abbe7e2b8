"""Fixtures that several rooms' tests use."""

from __future__ import annotations

import os
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
