"""What learns, what stays frozen, and the network's variants; on a small network with every part."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from teacher.blocks.axial_planar_convolution import AxialPlanarConv
from teacher.foundation_stereo import FoundationStereo, FoundationStereoConfig, Predictions

HEIGHT, WIDTH = 64, 96

VARIANTS: dict[str, dict[str, Any]] = {
    "published": {},
    "attention over heads": {"attention_axis": "heads"},
    "without the ViT": {"mono": "none"},
    "ViT features only": {"mono": "features_only"},
    "trainable ViT": {"mono_trainable": True},
    "trainable ViT features only": {"mono": "features_only", "mono_trainable": True},
    "without the transformer": {"transformer_layers": 0},
    "plain convolutions": {"filter_kind": "3x3x3"},
    "wider view along disparity": {"disparity_kernel": 9},
}


def built(config: FoundationStereoConfig, **changes: Any) -> FoundationStereo:
    torch.manual_seed(0)
    return FoundationStereo(dataclasses.replace(config, **changes))


def pair(*, batch: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    left, right = (255 * torch.rand(batch, 3, HEIGHT, WIDTH, generator=generator) for _ in range(2))
    return left, right


def loss(predictions: Predictions) -> torch.Tensor:
    """Touches every output."""
    return sum((disparity.square().mean() for disparity in predictions.sequence), predictions.initial.square().mean())


@pytest.mark.parametrize("variant", VARIANTS)
def test_everything_trainable_gets_a_finite_gradient(variant: str, tiny_config: FoundationStereoConfig) -> None:
    network = built(tiny_config, **VARIANTS[variant]).train()
    predictions = network.predict_sequence(*pair(), iterations=2)
    assert predictions.initial.shape == (2, 1, HEIGHT // 4, WIDTH // 4)
    assert [disparity.shape for disparity in predictions.sequence] == [(2, 1, HEIGHT, WIDTH)] * 2
    loss(predictions).backward()
    frozen = network.features.mono is not None and not network.config.mono_trainable
    for name, parameter in network.named_parameters():
        if frozen and name.startswith("features.mono."):
            assert not parameter.requires_grad, name
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            # biases before a norm have none but rounding's
            assert parameter.dim() < 2 or parameter.grad.abs().max() > 0, name


def test_a_step_of_training_leaves_the_frozen_vit_alone(tiny_config: FoundationStereoConfig) -> None:
    network = built(tiny_config).train()
    assert network.features.mono is not None
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-3)
    loss(network.predict_sequence(*pair(), iterations=1)).backward()
    optimiser.step()
    moved = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert not any(name.startswith("features.mono.") for name in moved)
    for part in ("features.cnn", "filtering", "context", "update", "upsampling"):
        assert any(name.startswith(part) for name in moved), part


def test_variants_differ_where_they_say(tiny_config: FoundationStereoConfig) -> None:
    assert built(tiny_config, mono="none").features.mono is None
    assert built(tiny_config, mono="features_only").features.cnn is None
    assert built(tiny_config, transformer_layers=0).filtering.hourglass.transformer is None
    plain = built(tiny_config, filter_kind="3x3x3")
    assert not any(isinstance(module, AxialPlanarConv) for module in plain.modules())
    for kernel in (5, 9):
        axial = [
            module.axial[0].weight.shape[2]
            for module in built(tiny_config, disparity_kernel=kernel).modules()
            if isinstance(module, AxialPlanarConv)
        ]
        assert set(axial) == {kernel}


def test_the_axis_changes_the_answer_and_not_the_weights(tiny_config: FoundationStereoConfig) -> None:
    along, over = built(tiny_config).eval(), built(tiny_config, attention_axis="heads").eval()
    over.load_state_dict(along.state_dict())
    with torch.no_grad():
        assert not torch.allclose(along(*pair(), iterations=1), over(*pair(), iterations=1))


def test_disparity_range_changes_no_weight(tiny_config: FoundationStereoConfig) -> None:
    narrow, wide = built(tiny_config, max_disp=64).eval(), built(tiny_config, max_disp=128).eval()
    wide.load_state_dict(narrow.state_dict())
    narrow.set_max_disp(128)
    assert narrow.planes == wide.planes == 32
    with torch.no_grad():
        assert torch.equal(narrow(*pair(), iterations=1), wide(*pair(), iterations=1))


def test_no_gradient_through_the_running_disparity(tiny_config: FoundationStereoConfig) -> None:
    network = built(tiny_config).eval()
    left, right = pair()
    images = network.normalised(torch.cat([left, right]))
    with torch.no_grad():
        start = network.start(images[:2], *network.features(images).halves())
    initial = start.disparity.clone().requires_grad_()
    last = network.iterate(start._replace(disparity=initial), iterations=2)[-1]
    assert last.requires_grad
    assert torch.autograd.grad(last.sum(), initial, allow_unused=True) == (None,)


def test_the_last_of_the_sequence_is_the_answer(tiny_config: FoundationStereoConfig) -> None:
    network = built(tiny_config).eval()
    with torch.no_grad():
        sequence = network.predict_sequence(*pair(), iterations=3).sequence
        assert len(sequence) == 3
        assert torch.equal(network(*pair(), iterations=3), sequence[-1])


def test_pairs_of_a_batch_do_not_hear_of_each_other(tiny_config: FoundationStereoConfig) -> None:
    network = built(tiny_config).double().eval()
    left, right = (images.double() for images in pair(batch=2))
    with torch.inference_mode():
        together = network(left, right, iterations=2)
        apart = [network(left[one : one + 1], right[one : one + 1], iterations=2) for one in range(2)]
    assert not torch.allclose(apart[0], apart[1], atol=1e-3)
    assert torch.allclose(together, torch.cat(apart), atol=1e-9)


def test_half_of_a_batch_may_stop_early(tiny_config: FoundationStereoConfig) -> None:
    network = built(tiny_config).double().eval()
    left, right = (images.double() for images in pair(batch=2))
    with torch.inference_mode():
        images = network.normalised(torch.cat([left, right]))
        start = network.start(images[:2], *network.features(images).halves())
        second, first = network.iterate(start, iterations=3, both_until=1)
        whole = network.iterate(start, iterations=3, every=True)
    assert torch.allclose(second, whole[0][1:], atol=1e-9)
    assert torch.allclose(first, whole[2][:1], atol=1e-9)
    assert not torch.allclose(second, whole[2][1:], atol=1e-3)
