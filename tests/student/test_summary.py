"""Counting of operations."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stereo.cli import main
from student.activation_memory import activation_memory_mb
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


class Three(nn.Module):
    """Blocks whose maps can be counted by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(1, 8, 1)
        self.narrow = nn.Sequential(nn.ReLU(), nn.Conv2d(8, 2, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        wide = self.wide(image)
        narrow = self.narrow(wide)
        del wide
        return narrow.reshape(2, -1) + 1


def test_activation_memory_by_hand() -> None:
    found = activation_memory_mb(Three(), torch.zeros(1, 1, 100, 100))
    plane = 4 * 100 * 100 / 1e6  # one float32 channel
    assert found["wide"] == pytest.approx(8 * plane)
    assert found["narrow"] == pytest.approx((8 + 8 + 2) * plane), "its input, the rectified copy, its output"
    assert found["total"] == pytest.approx(18 * plane), "a view is not counted again, nor are weights"


def test_activation_memory_grows_with_the_area_of_the_images() -> None:
    student = build_student("tiny", max_disp=64).eval()
    small, large = (activation_memory_mb(student, *torch.zeros(2, 1, 3, *size))["total"]
                    for size in ((64, 96), (128, 96)))  # fmt: skip
    assert large == pytest.approx(2 * small, rel=0.05)


def test_a_wrong_name_is_told_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "nanoo"]) == 2
    assert "one of: nano, small, tiny" in capsys.readouterr().err
