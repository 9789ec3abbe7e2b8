"""deploy.boards: the shipped file is whole, and what users type is understood or refused with help."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from deploy.boards import FILE, known_boards, machine_of, parse_machine, parse_machines, read_boards
from stereo.errors import UserError


def test_a_board_in_a_mode() -> None:
    machine = parse_machine("orin-nx-16gb@25W")
    assert (machine.name, machine.mode, machine.sms, machine.gpu_mhz) == ("Jetson Orin NX 16 GB", "25W", 8, 408)
    assert machine.bandwidth_bytes == 102.4e9
    assert machine.peak_tensor["int8"] == 8 * 408e6 * 4096
    assert machine.peak_plain["fp32"] == machine.peak_tensor["fp32"] == 8 * 408e6 * 256


@pytest.mark.parametrize(
    ("key", "int8_tops", "bandwidth_gb"),
    [("agx-orin-64gb@MAXN", 85, 204.8), ("orin-nano-8gb-super@MAXN_SUPER", 33, 102.4), ("orin-nano-8gb@15W", 20, 68),
     ("orin-nx-16gb-super@MAXN_SUPER", 38, 102.4)],
)  # fmt: skip
def test_rates_are_those_that_nvidia_gives(key: str, int8_tops: float, bandwidth_gb: float) -> None:
    machine = parse_machine(key)
    assert machine.peak_tensor["int8"] / 1e12 == pytest.approx(int8_tops, rel=0.03)
    assert machine.bandwidth_bytes / 1e9 == pytest.approx(bandwidth_gb, rel=0.005)


def test_every_known_mode_makes_a_machine_and_every_unknown_one_is_refused() -> None:
    boards = known_boards()
    known = unknown = 0
    for key, board in boards.boards.items():
        for name, mode in board.modes.items():
            if None in (mode.sms, mode.gpu_mhz, mode.memory_mhz):
                unknown += 1
                with pytest.raises(UserError, match=rf"{name} is not known, and nothing is guessed.*known: "):
                    machine_of(boards, key, name)
            else:
                known += 1
                assert machine_of(boards, key, name).key == f"{key}@{name}"
    assert known > 25
    assert unknown >= 1


def test_device_tree_names_are_told_apart() -> None:
    ids = [name for board in known_boards().boards.values() for name in board.device_tree]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("orin-nx16@25W", r"no board 'orin-nx16'.*did you mean 'orin-nx-16gb'\?.*known: orin-nano-8gb, "),
        ("toaster@25W", r"no board 'toaster' \(known: orin-nano-8gb, "),
        ("orin-nx-16gb", r"no power mode named.*its modes: MAXN, 25W, 15W, 10W"),
        ("orin-nx-16gb@26W", r"no power mode '26W'.*did you mean 'orin-nx-16gb@25W'\?"),
        ("orin-nx-16gb@40W", r"did you mean 'orin-nx-16gb-super@40W'\?"),
        ("orin-nano-8gb-super@7W", r"sms, gpu_mhz, memory_mhz of .* is not known"),
        (" , ", "no board named"),
    ],
)
def test_what_is_not_understood_is_told_with_the_nearest(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_machines(text)


def test_several_boards_each_once() -> None:
    found = parse_machines("orin-nx-16gb@MAXN, AGX-Orin-64GB@30w,orin-nx-16gb@MAXN")
    assert [machine.key for machine in found] == ["orin-nx-16gb@MAXN", "agx-orin-64gb@30W"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gpu_mhz": 0}, "gpu_mhz is 0"),
        ({"source": "hearsay"}, "source 'hearsay' is none of the file's"),
        ({"sms": "eight"}, "expected int"),
        ({"volts": 1}, "unknown field 'volts'"),
    ],
)
def test_a_wrong_file_is_told_by_field(tmp_path: Path, change: dict[str, object], message: str) -> None:
    content = yaml.safe_load(FILE.read_text())
    content["boards"]["orin-nx-16gb"]["modes"]["25W"].update(change)
    path = tmp_path / "boards.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=message):
        read_boards(path)
