"""Augmentation keeps the disparity true: exact pairs before and after."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional

from distill.augment import AugmentOptions, augment
from distill.photometry import PhotometricOptions, photometry

SIZE = (40, 96)
NOTHING = AugmentOptions(photometric=False, erase_share=0.0, uneven_share=0.0)
NO_EFFECTS = PhotometricOptions(**{field.name: 0.0 for field in dataclasses.fields(PhotometricOptions)})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def wave(x: torch.Tensor) -> torch.Tensor:
    """A smooth pattern of wavelength about 20 px in 0–255."""
    return 127 + 60 * torch.sin(x * 0.31) + 40 * torch.sin(x * 0.17 + 1)


@pytest.fixture
def pairs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Six slanted planes d = a x + c seen by both eyes exactly: I_left(x) = I_right(x - d)."""
    count = 6
    x = torch.arange(SIZE[1], dtype=torch.float32).expand(count, 3, *SIZE)
    slope = torch.linspace(0.0, 0.1, count)[:, None, None, None]
    offset = torch.linspace(1.0, 9.0, count)[:, None, None, None]
    disparity = slope * x[:, :1] + offset
    shade = torch.linspace(0.6, 1.0, SIZE[0])[:, None]
    return wave(x - disparity) * shade, wave(x) * shade, disparity


def mismatch(left: torch.Tensor, right: torch.Tensor, disparity: torch.Tensor) -> torch.Tensor:
    """Error (N,) of the right view warped to the left one, where it is in the frame."""
    width = left.shape[-1]
    x = torch.arange(width) - disparity[:, 0]
    y = torch.arange(left.shape[-2])[:, None].expand_as(x)
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / left.shape[-2] - 1], -1)
    warped = functional.grid_sample(right, grid, align_corners=False)
    seen = ((x >= 0) & (x <= width - 1))[:, None].expand_as(left)
    return (warped - left).abs()[seen]


# Linear interpolation misses a wave of amplitude A and wave number k by A k² / 8 at most:
# 60 · .31² / 8 + 40 · .17² / 8 = .87.
INTERPOLATION = 0.9


def test_the_pairs_of_this_test_are_exact(pairs) -> None:
    assert mismatch(*pairs).max() < INTERPOLATION


def test_nothing_asked_nothing_done(pairs) -> None:
    for before, after in zip(pairs, augment(*pairs, generator=generator(), options=NOTHING), strict=True):
        assert torch.equal(before, after)


def test_stretching_scales_the_disparity(pairs) -> None:
    options = dataclasses.replace(NOTHING, stretch_share=1.0, stretch=1.6)
    left, right, disparity = augment(*pairs, generator=generator(2), options=options)
    assert not torch.equal(disparity, pairs[2])
    # Both images and the disparity are interpolated once more each.
    assert mismatch(left, right, disparity).max() < 3 * INTERPOLATION
    assert mismatch(left, right, disparity * 0.9).mean() > 5 * mismatch(left, right, disparity).mean()


def test_stretching_never_invents_disparity_between_surfaces(pairs) -> None:
    left, right, _ = pairs
    disparity = torch.full((6, 1, *SIZE), 4.0)
    disparity[..., 40:] = 20.0
    disparity[..., 10:20, :] = float("nan")
    options = dataclasses.replace(NOTHING, stretch_share=1.0, stretch=1.5)
    _, _, result = augment(left, right, disparity, generator=generator(1), options=options)
    assert torch.equal(result.isnan()[..., 10:20, :], torch.ones(6, 1, 10, SIZE[1], dtype=torch.bool))
    assert not result[..., 20:, :].isnan().any()
    for values in result[:, 0, 30]:
        low, high = values.min(), values.max()
        assert high == pytest.approx(5 * float(low), rel=1e-5)
        assert ((values - low).abs() < 1e-4).logical_or((values - high).abs() < 1e-3).all()


def test_uneven_eyes_move_the_right_view_vertically_by_less_than_the_limit() -> None:
    rows = torch.arange(SIZE[0], dtype=torch.float32)[:, None].expand(16, 3, *SIZE).contiguous()
    options = dataclasses.replace(NOTHING, uneven_share=1.0, uneven_px=1.5)
    left, right, _ = augment(rows, rows, rows[:, :1], generator=generator(), options=options)
    assert torch.equal(left, rows)
    moved = (right - rows)[:, :, 2:-2]
    assert 0.3 < moved.abs().max() <= 1.5 + 1e-4
    # A column moves as a whole; columns of one pair differ.
    assert moved.std(dim=2).max() < 1e-3
    assert moved[:, 0, 0].std(dim=-1).max() > 0.05


def test_erased_patches_are_small_and_in_the_right_view_only(pairs) -> None:
    left, right, disparity = (value.repeat(4, 1, 1, 1) for value in pairs)
    options = dataclasses.replace(NOTHING, erase_share=0.5, erase_px=20)
    new_left, new_right, new_disparity = augment(left, right, disparity, generator=generator(3), options=options)
    assert torch.equal(new_left, left)
    assert torch.equal(new_disparity, disparity)
    changed = (new_right != right).any(1).flatten(1).float().mean(1)
    assert (changed > 0).float().mean() == pytest.approx(0.5, abs=0.25)
    assert changed.max() <= 3 * 20 * 20 / (SIZE[0] * SIZE[1])


def test_everything_at_once_keeps_form_range_and_arguments(pairs) -> None:
    copies = [value.clone() for value in pairs]
    options = AugmentOptions(erase_share=1.0, uneven_share=1.0, stretch_share=1.0)
    left, right, disparity = augment(*pairs, generator=generator(5), options=options)
    for before, copy in zip(pairs, copies, strict=True):
        assert torch.equal(before, copy)
    for image in (left, right):
        assert image.shape == (6, 3, *SIZE)
        assert image.dtype == torch.float32
        assert image.min() >= 0
        assert image.max() <= 255
        assert torch.equal(image, image.round())
    assert disparity.shape == (6, 1, *SIZE)


def test_same_seed_same_result(pairs) -> None:
    first, again, other = (augment(*pairs, generator=generator(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_an_empty_batch_stays_empty() -> None:
    empty = torch.zeros(0, 3, *SIZE)
    assert len(augment(empty, empty, empty[:, :1], generator=generator())[0]) == 0


def test_photometry_without_effects_only_rounds(pairs) -> None:
    left, right = photometry(pairs[0], pairs[1], generator=generator(), options=NO_EFFECTS)
    assert (left - pairs[0]).abs().max() <= 0.51
    assert (right - pairs[1]).abs().max() <= 0.51


def test_gray_pairs_have_equal_channels() -> None:
    image = torch.rand(4, 3, *SIZE, generator=generator()) * 255
    options = dataclasses.replace(NO_EFFECTS, gray_share=1.0)
    left, _ = photometry(image, image, generator=generator(), options=options)
    assert torch.equal(left[:, 0], left[:, 1])
    assert torch.equal(left[:, 1], left[:, 2])
    assert left.std() > 10


@pytest.mark.parametrize("effect", ["exposure_between", "gamma_between", "white_between"])
def test_eyes_differ_only_by_what_lies_between_them(effect: str) -> None:
    image = torch.rand(8, 3, *SIZE, generator=generator()) * 200 + 20
    common = dataclasses.replace(NO_EFFECTS, exposure=0.2, gamma=0.2)
    left, right = photometry(image, image, generator=generator(), options=common)
    assert torch.equal(left, right)
    assert (left - image).abs().mean() > 3
    apart = dataclasses.replace(NO_EFFECTS, **{effect: 0.1})
    left, right = photometry(image, image, generator=generator(), options=apart)
    assert 0.5 < (left - right).abs().mean() < 30


def test_noise_has_the_strength_asked_for_and_blur_keeps_the_mean() -> None:
    gray = torch.full((64, 3, 16, 32), 127.0)
    left, right = photometry(gray, gray, generator=generator(), options=dataclasses.replace(NO_EFFECTS, noise=8.0))
    # The deviation is drawn as 8 u² with u uniform: 8 at most, 8 / 3 on average.
    deviation = left.flatten(1).std(1)
    assert deviation.max() < 9
    assert deviation.mean() == pytest.approx(8 / 3, rel=0.35)
    assert not torch.equal(left, right)
    image = torch.rand(8, 3, *SIZE, generator=generator()) * 255
    left, _ = photometry(image, image, generator=generator(), options=dataclasses.replace(NO_EFFECTS, blur=0.25))
    assert left.mean() == pytest.approx(float(image.mean()), abs=0.5)
    assert left.std() < 0.95 * image.std()


def test_frames_with_their_own_grain_share_all_else() -> None:
    image = torch.rand(1, 3, *SIZE, generator=generator()) * 255
    options = PhotometricOptions(noise=3.0)
    grain = generator(7)
    first, second = (photometry(image, image, generator=generator(1), grain=grain, options=options)[0] for _ in "ab")
    still = photometry(image, image, generator=generator(1), options=dataclasses.replace(options, noise=0.0))[0]
    assert not torch.equal(first, second)
    assert (first - still).abs().mean() < 3
