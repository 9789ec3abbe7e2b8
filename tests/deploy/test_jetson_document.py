"""docs/jetson.md: every command in it is one that this version takes, and every file it names is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from stereo.cli import parse_config

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "jetson.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)).replace("\\\n", " ")
    return [line.strip() for line in blocks.splitlines() if line.strip().startswith("stereodistill ")]


@pytest.mark.parametrize("command", commands())
def test_commands_are_taken(command: str) -> None:
    verb, *words = shlex.split(command, comments=True)[1:]
    parse_config(verb, words)


def test_the_walk_has_all_its_steps() -> None:
    verbs = [command.split()[1] for command in commands()]
    steps = ("quantize", "bundle", "flash", "doctor", "build", "profile", "evaluate", "predict", "report")
    assert set(steps) <= set(verbs)


def test_what_a_step_on_another_machine_reads_is_copied_there() -> None:
    copies = [line.split()[2:] for line in TEXT.splitlines() if line.startswith("scp -r ")]
    up = next(words for words in copies if words[-1].startswith("user@"))
    (down,) = (words for words in copies if words is not up)
    by_hand = TEXT.split("## 3b.")[1]
    assert "build graphs/" in by_hand
    assert "--data PAIRS" in by_hand
    assert [Path(word).name for word in up[:-1]] == ["graphs", "PAIRS"]
    assert [Path(word).name for word in down[:-1]] == ["results.json", "results_pictures"]
    assert f"report {down[-1]}results.json" in by_hand


def test_named_tests_and_documents_are_there() -> None:
    named = re.findall(r"`(tests/[\w/.]+\.py)`", TEXT)
    assert len(named) >= 6
    linked = [f"docs/{link}" for link in re.findall(r"\]\(([\w./]+\.md)[#)]", TEXT)]
    for path in [*named, *linked]:
        assert (ROOT / path).is_file(), path
