"""Entropy of the initial disparity, and that FoundationStereo hands it over at the image's size."""

import numpy as np
import pytest
import torch

from stereo.pair import StereoPair
from teacher.foundation_stereo import FoundationStereo
from teacher.foundation_teacher import FoundationTeacher, Settings
from teacher.inference import Padding
from teacher.score_entropy import EntropyWatch, normalised_entropy
from teacher.trust import trusted
from teacher.trust_options import TrustOptions

HEIGHT, WIDTH = 66, 70


def test_one_peak_has_none_and_all_alike_has_all():
    scores = torch.zeros(1, 16, 1, 3)
    scores[0, 5, 0, 0] = 100
    scores[0, [2, 9], 0, 1] = 100
    np.testing.assert_allclose(normalised_entropy(scores)[0, 0], [0, np.log(2) / np.log(16), 1], atol=1e-6)


def test_adding_to_all_scores_changes_nothing():
    scores = torch.randn(2, 8, 3, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(normalised_entropy(scores), normalised_entropy(scores + 300), atol=1e-4, rtol=0)
    assert normalised_entropy(scores.half()).dtype == torch.float32


def test_the_last_call_and_the_first_image_count():
    first, last = torch.zeros(2, 1, 4, 2, 3), torch.zeros(2, 1, 4, 2, 3)
    last[0, 0, 1] = 50
    classifier = torch.nn.Identity()
    with EntropyWatch(classifier) as watch:
        assert watch.plane(padding=Padding(0, 0, 0, 0), size=(12, 8)) is None
        classifier(first)
        np.testing.assert_allclose(watch.plane(padding=Padding(0, 0, 0, 0), size=(12, 8)), 1, atol=1e-6)
        classifier(last)
        np.testing.assert_allclose(watch.plane(padding=Padding(0, 0, 0, 0), size=(12, 8)), 0, atol=1e-6)
    classifier(first)
    assert watch.plane(padding=Padding(0, 0, 0, 0), size=(12, 8)).max() < 1e-6, "after the block nothing is seen"


def test_padding_is_cut_off_and_scale_undone():
    scores = torch.zeros(1, 1, 4, 8, 8)
    scores[0, 0, 1, :, 4:] = 50  # sure in the right half of 32 padded columns
    classifier = torch.nn.Identity()
    with EntropyWatch(classifier) as watch:
        classifier(scores)
    plane = watch.plane(padding=Padding(8, 2, 3, 1), size=(22, 28))
    assert plane.shape == (28, 22)
    assert (plane[:, :5] > 0.99).all(), "the middle of 32 columns is the eighth of those kept"
    assert (plane[:, 11:] < 0.01).all()
    assert watch.plane(padding=Padding(8, 2, 3, 1), size=(44, 56)).shape == (56, 44)


@pytest.fixture(scope="module")
def network(tiny_config):
    torch.manual_seed(0)
    made = FoundationStereo(tiny_config)
    with torch.no_grad():
        made.filtering.classifier[2].weight.mul_(300)
    return made.eval()


@pytest.fixture(scope="module")
def pair():
    drawn = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH + 6, 3), np.uint8)
    return StereoPair(np.ascontiguousarray(drawn[:, :WIDTH]), np.ascontiguousarray(drawn[:, 6:]), "noise")


@pytest.mark.parametrize("settings", [{}, {"consistency": "exact"}, {"hierarchical": True, "consistency": "exact"}])
def test_foundation_stereo_tells_how_sure_its_volume_is(network, pair, settings):
    teacher = FoundationTeacher(network, Settings(iterations=1, **settings), device=torch.device("cpu"), threads=1)
    seen = []
    handle = network.filtering.classifier.register_forward_hook(lambda _module, _inputs, scores: seen.append(scores))
    output = teacher.predict(pair)
    handle.remove()
    assert output.entropy is not None
    assert output.entropy.shape == output.right.shape == (HEIGHT, WIDTH)
    assert output.entropy.dtype == np.float32
    of_left = normalised_entropy(seen[-1][:1, 0])[0].numpy()
    assert output.entropy.mean() == pytest.approx(of_left.mean(), abs=0.03)
    # Bilinear enlargement stays within the smallest and largest value.
    assert of_left.min() - 1e-6 <= output.entropy.min() < output.entropy.max() <= of_left.max() + 1e-6
    assert len(network.filtering.classifier._forward_hooks) == 0
    label = trusted(teacher, pair, TrustOptions(terms=True))
    np.testing.assert_allclose(label.terms["certainty"], 1 - output.entropy, atol=1e-6)


def test_extra_passes_of_foundation_stereo(network, pair):
    teacher = FoundationTeacher(network, Settings(iterations=1), device=torch.device("cpu"), threads=1)
    left = teacher.left_disparity(pair)
    whole = teacher.predict(pair).disparity
    np.testing.assert_array_equal(np.isnan(left), np.isnan(whole))
    np.testing.assert_allclose(left, whole, atol=1e-2)
    options = TrustOptions(terms=True, perturbations=("vertical_flip", "scale"))
    assert trusted(teacher, pair, options).terms["stability"].shape == (HEIGHT, WIDTH)
