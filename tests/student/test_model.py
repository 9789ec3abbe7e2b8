"""The student network: cost, shapes, and independence from disparity range and iterations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from stereo.errors import UserError
from stereo.pair import StereoPair
from student.presets import build_student
from student.runner import predict_pair
from teacher.blocks.axial_planar_convolution import Form


def pair(height: int = 64, width: int = 96, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(255 * torch.rand(1, 3, height, width, generator=generator) for _ in range(2))  # type: ignore[return-value]


@pytest.mark.parametrize(("name", "least", "most"), [("nano", 5, 10), ("small", 20, 31)])
def test_presets_stay_within_their_budgets(name: str, least: float, most: float) -> None:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        build_student(name, max_disp=192).eval()(*pair(480, 640))
    gmac = counter.get_total_flops() / 2e9
    assert least < gmac <= most


@pytest.mark.parametrize(("max_disp", "iterations"), [(64, 1), (192, 3)])
def test_output_has_the_size_of_the_input(max_disp: int, iterations: int) -> None:
    student = build_student("tiny", max_disp=max_disp, iterations=iterations).eval()
    with torch.no_grad():
        disparity = student(*pair(64, 96))
    assert disparity.shape == (1, 1, 64, 96)
    assert disparity.dtype == torch.float32
    assert torch.isfinite(disparity).all()
    assert (disparity >= 0).all()


def test_weights_do_not_depend_on_range_or_iterations() -> None:
    one = build_student("nano", max_disp=64, iterations=1).state_dict()
    other = build_student("nano", max_disp=256, iterations=4).state_dict()
    assert {name: tensor.shape for name, tensor in one.items()} == {
        name: tensor.shape for name, tensor in other.items()
    }


@pytest.mark.parametrize("form", ["conv2d", "mixed"])
def test_forms_of_the_axial_planar_convolution_agree(form: Form) -> None:
    torch.manual_seed(0)
    student = build_student("tiny", max_disp=64).eval()
    left, right = pair()
    with torch.no_grad():
        plain = student(left, right)
        student.set_apc_form(form)
        folded = student(left, right)
    # float32 sums in another order; disparities here are of the order of 30 px
    assert (plain - folded).abs().max() < 1e-3


def test_forms_of_the_axial_planar_convolution_have_the_same_gradients() -> None:
    gradients = []
    for form in ("conv3d", "mixed"):
        torch.manual_seed(0)
        student = build_student("tiny", max_disp=64).double().train()
        student.set_apc_form(form)
        torch.manual_seed(1)
        left, right = (255 * torch.rand(1, 3, 64, 96, dtype=torch.float64) for _ in range(2))
        student.predict_sequence(left, right).sequence[-1].mean().backward()
        gradients.append(
            torch.cat([weight.grad.flatten() for weight in student.parameters() if weight.grad is not None])
        )
    # Normalisation and soft-argmin compute in float32 whatever the input, so rounding is float32's.
    assert (gradients[0] - gradients[1]).norm() <= 1e-3 * gradients[0].norm()


@pytest.mark.parametrize("value", [0, 255], ids=["black", "white"])
def test_flat_images_give_finite_disparity(value: int) -> None:
    student = build_student("tiny", max_disp=64).eval()
    flat = torch.full((1, 3, 64, 96), float(value))
    with torch.no_grad():
        assert torch.isfinite(student(flat, flat)).all()


def test_predictions_of_every_iteration_are_kept_for_the_losses() -> None:
    student = build_student("tiny", max_disp=64, iterations=3)
    predictions = student.predict_sequence(*pair())
    assert len(predictions.sequence) == 3
    assert predictions.initial.shape == (1, 1, 8, 12)
    predictions.sequence[-1].mean().backward(retain_graph=True)
    silent = {name for name, weight in student.named_parameters() if weight.grad is None}
    # the refinement looks up at a detached disparity, and only its first step passes the gradient on
    assert silent == {f"{layer}.{kind}" for layer in ("classifier", "coarse_mask") for kind in ("weight", "bias")}
    predictions.sequence[0].mean().backward()
    assert all(weight.grad is not None for weight in student.parameters())


def test_bad_settings_name_value_and_fix() -> None:
    with pytest.raises(UserError, match=r"max_disp 100 .*multiple of 32.*nearest: 96"):
        build_student("nano", max_disp=100)
    with pytest.raises(UserError, match=r"no student preset 'mega'.*nano"):
        build_student("mega")
    with pytest.raises(UserError, match="iterations 0"):
        build_student("nano", iterations=0)


def test_predicting_in_the_middle_of_a_training_leaves_every_layer_as_it_was() -> None:
    student = build_student("tiny", max_disp=64).train()
    student.backbone.eval()
    image = np.zeros((40, 50, 3), np.uint8)
    predict_pair(student, StereoPair(image, image, "black"))
    assert student.training
    assert student.cost_filter.training
    assert not any(layer.training for layer in student.backbone.modules())
