"""What flash lets a board measure, told by the verbs that it would run there; over SSH: tests/deploy/test_flash.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy.config import FlashConfig, ProfileConfig
from deploy.flash import Bundle, Installed, measure
from stereo.cli import main, parse_config


class Recorder:
    """Stands for a session: notes the verbs instead of running them."""

    def __init__(self) -> None:
        self.verbs: list[tuple[list[str], str]] = []

    def verb(self, title: str, python: str, words: Sequence[str], *, power_mode: str = "", **rest: Any) -> None:
        self.verbs.append((list(words), power_mode))


def profiles(*options: str) -> list[tuple[ProfileConfig, str]]:
    """The profiles that a command line of flash asks for, read as the board reads them, with their power modes."""
    config: FlashConfig = parse_config("flash", ["nano.tar", "user@jetson", *options])
    bundle = Bundle(Path("nano.tar"), "ab" * 32, {"pairs": "pairs"}, [])
    there = Installed("bundles/nano", "python", ["engines/a.engine", "engines/b.engine"], "results/nano")
    recorder = Recorder()
    measure(recorder, bundle, there, config, config.power_modes.split(","))  # pyright: ignore[reportArgumentType]
    assert [words[0] for words, _ in recorder.verbs if words[0] != "profile"] == ["doctor", "evaluate"]
    return [(parse_config("profile", words[1:]), mode) for words, mode in recorder.verbs if words[0] == "profile"]


def test_layers_and_soak_runs_are_measured_there_in_each_power_mode() -> None:
    found = profiles("--layers", "--minutes", "30", "--power-modes", "15W,25W")
    assert [(config.layers, config.minutes, mode) for config, mode in found] == [(True, 30, "15W"), (True, 30, "25W")]


def test_neither_is_measured_unasked() -> None:
    ((config, mode),) = profiles()
    assert (config.layers, config.minutes, mode) == (False, 0, "")
    ((config, _),) = profiles("--layers")
    assert (config.layers, config.minutes) == (True, 0)
    ((config, _),) = profiles("--minutes", "0.5")
    assert (config.layers, config.minutes) == (False, 0.5)


def test_wrong_minutes_are_refused_before_anything_is_copied(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["flash", "nano.tar", "user@jetson", "--minutes", "-1"]) == 2
    assert "--minutes" in capsys.readouterr().err
