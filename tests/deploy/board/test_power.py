"""Power modes through a stand-in for nvpmodel: what is changed is put back, whatever happens."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.board import power
from deploy.board.place import Place
from deploy.board.power import in_mode, restore_mode
from deploy.board.refusal import Refusal

NVPMODEL = """#!/bin/sh
state={folder}/mode
if [ "$1" = -q ]; then
    case $(cat $state) in 0) name=MAXN;; 1) name=15W;; 2) name=7W;; esac
    echo "NV Power Mode: $name"
    cat $state
    exit 0
fi
[ -n "$UNDER_SUDO" ] || {{ echo "NVPM ERROR: no permission" >&2; exit 255; }}
if [ "$2" = 0 ]; then
    echo "NVPM WARN: Reboot required for changing to this power mode: 0"
    echo "NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:"
    read answer
    [ "$answer" = yes ] || [ "$answer" = YES ] && touch {folder}/restarted
    exit 0
fi
echo $2 > $state
"""
SUDO = """#!/bin/sh
[ "$1" = -n ] || {{ echo "sudo: a terminal is required" >&2; exit 1; }}
[ -e {folder}/asks ] && {{ echo "sudo: a password is required" >&2; exit 1; }}
shift
UNDER_SUDO=1 exec "$@"
"""
SETTINGS = "# comment\n< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=15W >\n< POWER_MODEL ID=2 NAME=7W >\n"


@pytest.fixture
def mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """The mode that the stand-in is in; 1 at first."""
    for name, text in (("nvpmodel", NVPMODEL), ("sudo", SUDO)):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text.format(folder=tmp_path))
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "nvpmodel.conf").write_text(SETTINGS)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(power, "SETTINGS", str(tmp_path / "nvpmodel.conf"))
    (tmp_path / "mode").write_text("1\n")
    return lambda: int((tmp_path / "mode").read_text())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(str(tmp_path / "flash"))


@pytest.mark.parametrize("word", ["2", "7W", "7w"])
def test_a_mode_is_entered_and_left(place: Place, mode: Callable[[], int], word: str) -> None:
    with in_mode(word, place) as name:
        assert (name, mode()) == ("7W", 2)
        assert json.loads((place.root / power.NOTE).read_text()) == {"name": "15W", "number": 1}
    assert mode() == 1
    assert not (place.root / power.NOTE).exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt("stopped"), Refusal("the step failed"), OSError("disk")])
def test_it_is_left_on_failure_too(place: Place, mode: Callable[[], int], error: BaseException) -> None:
    with pytest.raises(BaseException, match=str(error)), in_mode("2", place):
        raise error
    assert mode() == 1


def test_the_mode_that_is_set_is_not_set_again(place: Place, mode: Callable[[], int], tmp_path: Path) -> None:
    (tmp_path / "asks").touch()
    with in_mode("15W", place) as name:
        assert name == "15W"
    assert mode() == 1


def test_no_mode_asks_for_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nothing")
    with in_mode("", place) as name:
        assert name == ""


def test_after_a_power_cut_the_next_step_restores(place: Place, mode: Callable[[], int]) -> None:
    entered = in_mode("2", place)
    entered.__enter__()  # and then nothing: the power is cut
    assert mode() == 2
    assert restore_mode(place) == "15W"
    assert mode() == 1
    assert restore_mode(place) is None


def test_a_mode_that_takes_a_restart(place: Place, mode: Callable[[], int], tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="takes a restart"), in_mode("MAXN", place):
        raise AssertionError("nothing may be measured")
    assert mode() == 1
    assert not (tmp_path / "restarted").exists()
    assert not (place.root / power.NOTE).exists()


def test_sudo_wants_a_password(place: Place, mode: Callable[[], int], tmp_path: Path) -> None:
    (tmp_path / "asks").touch()
    with pytest.raises(Refusal, match="a password is required") as raised, in_mode("2", place):
        raise AssertionError("nothing may be measured")
    assert "NOPASSWD" in str(raised.value.fix)
    assert mode() == 1


AGX = """< POWER_MODEL ID=0 NAME=MAXN >
< POWER_MODEL ID=2 NAME=MODE_30W >
< POWER_MODEL ID=3 NAME=MODE_50W >
< POWER_MODEL ID=4 NAME=50W >
"""


@pytest.mark.parametrize(
    ("word", "number"),
    [("30W", 2), ("MODE_30W", 2), ("mode_30w", 2), ("2", 2), ("MAXN", 0), ("MODE_MAXN", 0),
     ("MODE_50W", 3), ("50W", 4)],
)  # fmt: skip
def test_names_with_mode_before_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, number: int) -> None:
    """As AGX Orin's settings have them, and as the project's list of boards does."""
    (tmp_path / "nvpmodel.conf").write_text(AGX)
    monkeypatch.setattr(power, "SETTINGS", str(tmp_path / "nvpmodel.conf"))
    assert power.find_mode(word) == number


@pytest.mark.parametrize("word", ["9", "25W", "-1", """ 2; reboot """])
def test_unknown_modes(place: Place, mode: Callable[[], int], word: str) -> None:
    with pytest.raises(Refusal, match="no power mode") as raised, in_mode(word, place):
        raise AssertionError("nothing may be measured")
    assert "15W (1)" in str(raised.value.fix)
    assert mode() == 1


def test_no_jetson(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "SETTINGS", "/nothing")
    monkeypatch.setenv("PATH", "/nothing")
    with pytest.raises(Refusal, match="no nvpmodel"), in_mode("2", place):
        raise AssertionError("nothing may be measured")
