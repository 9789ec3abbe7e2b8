"""Counting of operations."""

from __future__ import annotations

import pytest

from stereo.cli import main
from student.presets import build_student
from student.summary import count_macs


def test_blocks_add_up_and_the_stem_is_hand_countable() -> None:
    macs = count_macs(build_student("tiny", max_disp=64), (64, 96))
    total = macs.pop("total")
    assert total == pytest.approx(sum(macs.values()))
    # context: one 3×3 convolution 16 → 24 at 1/4, channel attention (8·2·2 twice), spatial attention (7×7, 2 → 1)
    by_hand = 16 * 24 * (9 * 16 * 24 + 49 * 2) + 2 * (8 * 2 + 2 * 8)
    assert macs["context"] == pytest.approx(by_hand / 1e9)


def test_the_verb_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "tiny", "--size", "64x96"]) == 0
    assert "backbone" in capsys.readouterr().out
