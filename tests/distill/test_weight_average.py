"""The moving average of weights against hand-computed values."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from distill.weight_average import WeightAverage


def filled(value: float) -> nn.Linear:
    layer = nn.Linear(1, 1)
    for weight in layer.parameters():
        nn.init.constant_(weight, value)
    return layer


def test_average_is_the_recursion_with_a_decay_that_grows_from_the_start() -> None:
    network = filled(0.0)
    average = WeightAverage(network, 0.25)
    nn.init.constant_(network.weight, 1.0)
    average.update()  # decay (1 + 1) / (10 + 1): less than 0.25
    assert average.average["weight"].item() == pytest.approx(1 - 2 / 11)
    nn.init.constant_(network.weight, 3.0)
    average.update()  # 3 / 12 is 0.25
    average.update()
    expected = 0.25 * (0.25 * (1 - 2 / 11) + 0.75 * 3) + 0.75 * 3
    assert average.average["weight"].item() == pytest.approx(expected)
    assert average.average["bias"].item() == 0


def test_swapping_gives_the_average_and_the_very_same_weights_back() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    average = WeightAverage(network, 0.9)
    network(torch.randn(2, 3, 8, 8))  # moves statistics and the counter
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    average.update()
    with average.swapped():
        inside = network.state_dict()
        assert all(torch.equal(inside[name], average.average[name]) for name in inside)
        assert not torch.equal(inside["1.running_mean"], before["1.running_mean"])
        assert inside["1.num_batches_tracked"] == 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_checkpoint_goes_on_with_the_same_average() -> None:
    network = filled(1.0)
    whole = WeightAverage(network, 0.99)
    nn.init.constant_(network.weight, 2.0)
    whole.update()
    resumed = WeightAverage(network, 0.99)
    resumed.load_state_dict(whole.state_dict())
    nn.init.constant_(network.weight, 5.0)
    whole.update()
    resumed.update()
    assert torch.equal(whole.average["weight"], resumed.average["weight"])
