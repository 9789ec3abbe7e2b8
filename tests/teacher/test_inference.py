"""Sizes, padding and both views at once."""

import pytest
import torch

from stereo.errors import UserError
from teacher.foundation_stereo import FoundationStereo
from teacher.inference import Padding


def random_network(network):
    """Weights that make every branch count: fresh layer scales and position tables would hide some."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith(("gamma", "gamma_xca")):
                weight.copy_(0.3 + 0.1 * torch.randn(weight.shape, generator=generator))
        network.filtering.classifier[2].weight.mul_(300)  # disparities that differ from pixel to pixel
    return network.eval()


def mirror_symmetric(network):
    """Make the feature network blind to left and right: every kernel its own mirror image.

    What no kernel can make symmetric is taken out: the column codes of position tables, and the one convolution whose
    stride leaves an even grid off centre.
    """
    features = network.features
    with torch.no_grad():
        for module in features.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                module.weight.copy_((module.weight + module.weight.flip(3)) / 2)
        table = features.mono.vit.pos_embed
        grid = table[:, 1:].reshape(1, 37, 37, -1)
        table[:, 1:] = grid.mean(dim=2, keepdim=True).expand_as(grid).reshape(1, 37 * 37, -1)
        features.mono.head.resize_layers[3].weight.zero_()
        for name, weight in features.cnn.named_parameters():
            if name.endswith("token_projection.weight"):
                weight[:, weight.shape[1] // 2 :] = 0
    return network


@pytest.fixture
def network(tiny_config):
    torch.manual_seed(0)
    return random_network(FoundationStereo(tiny_config))


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    wall = torch.rand(1, 3, 64, 104, generator=generator) * 255
    wall = torch.nn.functional.avg_pool2d(wall, 3, stride=1, padding=1)
    return wall[..., :96], wall[..., 8:]


def test_both_views_are_two_passes_where_features_do_not_tell_left_from_right(network, pair):
    left, right = pair
    mirror_symmetric(network)
    both = network.predict_both(left, right, iterations=3)
    torch.testing.assert_close(both.left, network.predict(left, right, iterations=3), rtol=1e-4, atol=1e-3)
    mirrored = network.predict(right.flip(3), left.flip(3), iterations=3).flip(3)
    torch.testing.assert_close(both.right, mirrored, rtol=1e-4, atol=1e-3)


def test_sharing_features_is_an_approximation_where_they_do(network, pair):
    left, right = pair
    both = network.predict_both(left, right, iterations=3)
    mirrored = network.predict(right.flip(3), left.flip(3), iterations=3).flip(3)
    assert (both.right - mirrored).abs().max() > 0.1, "else the test above could not fail"


def test_the_left_view_is_that_of_one_pass_whatever_the_right_one_does(network, pair):
    left, right = pair
    alone = network.predict(left, right, iterations=4)
    for right_iterations in (1, 2, 4, 9):
        both = network.predict_both(left, right, iterations=4, right_iterations=right_iterations)
        torch.testing.assert_close(both.left, alone, rtol=1e-4, atol=1e-3)
        assert both.right.shape == alone.shape


def test_the_right_view_stops_early(network, pair):
    left, right = pair
    short = network.predict_both(left, right, iterations=4, right_iterations=2).right
    torch.testing.assert_close(short, network.predict_both(left, right, iterations=2).right, rtol=1e-4, atol=1e-3)


def test_features_are_computed_once_for_both_views(network, pair):
    calls = []
    network.features.register_forward_hook(lambda module, inputs, output: calls.append(inputs[0].shape[0]))
    network.predict_both(*pair, iterations=1)
    assert calls == [2]


def test_pairs_of_a_batch_do_not_see_each_other(network, pair):
    left, right = pair
    other_left, other_right = (image.flip(2) for image in pair)
    together = network.predict(torch.cat([left, other_left]), torch.cat([right, other_right]), iterations=2)
    torch.testing.assert_close(together[:1], network.predict(left, right, iterations=2), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(
        together[1:], network.predict(other_left, other_right, iterations=2), rtol=1e-4, atol=1e-3
    )
    both = network.predict_both(torch.cat([left, other_left]), torch.cat([right, other_right]), iterations=2)
    alone = network.predict_both(other_left, other_right, iterations=2)
    torch.testing.assert_close(both.right[1:], alone.right, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 65), (63, 127), (64, 96)])
def test_any_size_comes_back_at_its_own(network, height, width):
    left = torch.rand(1, 3, height, width) * 255
    assert network.predict(left, left, iterations=1).shape == (1, 1, height, width)
    assert network.predict_both(left, left, iterations=1).right.shape == (1, 1, height, width)


def test_whole_numbers_are_images_too(network, pair):
    left, right = ((image / 4).round() for image in pair)
    whole = network.predict(left.to(torch.uint8), right.to(torch.uint8), iterations=1)
    torch.testing.assert_close(whole, network.predict(left, right, iterations=1))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (90, 131)])
def test_hierarchical_comes_back_at_its_own_size(network, height, width):
    left = torch.rand(1, 3, height, width) * 255
    assert network.predict(left, left, iterations=1, hierarchical=True).shape == (1, 1, height, width)


def test_padding_leaves_the_larger_half_at_right_and_bottom():
    padding = Padding.for_size(151, 211)
    assert (padding.left, padding.right, padding.top, padding.bottom) == (6, 7, 4, 5)
    images = torch.rand(1, 3, 151, 211)
    padded = padding.apply(images)
    assert padded.shape == (1, 3, 160, 224)
    assert torch.equal(padding.crop(padded), images)
    assert torch.equal(padded[:, :, 4:-5, 0], images[..., 0])
    assert Padding.for_size(64, 96) == Padding(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("left", "right", "options", "told"),
    [
        ((1, 3, 31, 64), (1, 3, 31, 64), {}, "too small"),
        ((1, 3, 40, 64), (1, 3, 40, 64), {"hierarchical": True}, "too small"),
        ((1, 3, 64, 64), (1, 3, 64, 96), {}, "no pair"),
        ((1, 1, 64, 64), (1, 1, 64, 64), {}, "no pair"),
        ((3, 64, 64), (3, 64, 64), {}, "no pair"),
        ((1, 3, 64, 64), (1, 3, 64, 64), {"iterations": 0}, "0 iterations"),
    ],
)
def test_what_cannot_be_matched_is_refused(network, left, right, options, told):
    with pytest.raises(UserError, match=told):
        network.predict(torch.zeros(left), torch.zeros(right), **options)
