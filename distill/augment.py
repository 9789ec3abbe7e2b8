"""Stereo augmentation of batches: what real rigs add to the pictures, with the disparity kept true.

Photometric effects (`distill.photometry`), patches that only the right eye loses, eyes that are not quite level, and a
horizontal stretch, which multiplies the disparity.

Shape legend: B pairs, H height, W width. Images are float RGB 0–255; disparity is in pixels, NaN where unknown.
"""

from __future__ import annotations

import dataclasses

import torch
from torch.nn import functional

from distill.photometry import Draw, PhotometricOptions, on_device, photometry
from distill.scene_device import gathers

# Neighbouring disparities that differ by more belong to two surfaces: nothing lies between them.
SAME_SURFACE_PX = 1.0


@dataclasses.dataclass(frozen=True)
class AugmentOptions:
    """What is done to a batch; shares are probabilities per pair.

    Args:
        photometric: apply exposure, colour, lens and noise effects.
        effects: how strong those are.
        erase_share: pairs whose right image has patches covered by something the left eye does not see.
        erase_px: largest side of such a patch.
        uneven_share: pairs whose right image is moved and turned vertically.
        uneven_px: largest vertical displacement.
        stretch_share: pairs stretched horizontally; other maps of the pair are not, so use it only without them.
        stretch: largest horizontal magnification.
    """

    photometric: bool = True
    effects: PhotometricOptions = dataclasses.field(default_factory=PhotometricOptions)
    erase_share: float = 0.25
    erase_px: int = 80
    uneven_share: float = 0.25
    uneven_px: float = 1.0
    stretch_share: float = 0.0
    stretch: float = 1.3


def augment(
    left: torch.Tensor,
    right: torch.Tensor,
    disparity: torch.Tensor,
    *,
    generator: torch.Generator,
    options: AugmentOptions | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Augment pairs; the arguments are left as they are.

    Args:
        left, right: (B, 3, H, W) float RGB 0–255.
        disparity: (B, 1, H, W) px, NaN unknown.
        generator: source of randomness.
        options: what is done; defaults if None.

    Returns:
        left, right, disparity of the same shapes.
    """
    options = options or AugmentOptions()
    if not len(left):
        return left, right, disparity
    draw = Draw(on_device(generator, left.device), left.device)
    if options.stretch_share > 0:
        left, right, disparity = stretch(left, right, disparity, draw, options)
    if options.uneven_share > 0:
        right = unlevel(right, draw, options)
    if options.erase_share > 0:
        right = erase(right, draw, options)
    if options.photometric:
        left, right = photometry(left, right, generator=draw.generator, options=options.effects)
    return left, right, disparity


def erase(right: torch.Tensor, draw: Draw, options: AugmentOptions, *, patches: int = 3) -> torch.Tensor:
    """Cover up to `patches` rectangles of some right images with other parts of the same image."""
    pairs, _, height, width = right.shape
    chosen = draw(pairs, patches) < options.erase_share
    chosen[:, 1:] &= chosen[:, :1]
    extent = draw(2, pairs, patches) * options.erase_px * 0.5
    middle = draw(2, pairs, patches)
    inside = []
    for axis, length in enumerate((height, width)):
        distance = (torch.arange(length, device=right.device) - length * middle[axis, ..., None]).abs()
        inside.append(distance < extent[axis, ..., None])
    covered = (inside[0][..., :, None] & inside[1][..., None, :] & chosen[..., None, None]).any(1, keepdim=True)
    # What a real occluder looks like is unknown; a far part of the same picture at least has its statistics.
    other = right.roll((height // 2, width // 3), (-2, -1))
    return torch.where(covered, other, right)


def unlevel(right: torch.Tensor, draw: Draw, options: AugmentOptions) -> torch.Tensor:
    """Displace some right images vertically by a constant and a slope across the width: an imperfect rectification."""
    pairs, _, height, width = right.shape
    chosen = draw(pairs) < options.uneven_share
    limit = options.uneven_px * chosen * (2 * draw(2, pairs) - 1) / 2
    across = torch.linspace(-1, 1, width, device=right.device)
    shift = limit[0, :, None] + limit[1, :, None] * across
    moved = torch.nonzero(chosen).view(-1) if gathers(right.device) else torch.arange(pairs, device=right.device)
    if not len(moved):
        return right
    y = torch.arange(height, device=right.device)[:, None] + shift[moved, None, :]
    grid_y = (2 * y + 1) / height - 1
    grid_x = ((2 * torch.arange(width, device=right.device) + 1) / width - 1).expand_as(grid_y)
    result = right.clone()
    grid = torch.stack([grid_x, grid_y], -1)
    result[moved] = functional.grid_sample(right[moved], grid, padding_mode="border", align_corners=False)
    return result


def stretch(
    left: torch.Tensor, right: torch.Tensor, disparity: torch.Tensor, draw: Draw, options: AugmentOptions
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Magnify some pairs horizontally about a random column, the same in both eyes; disparity grows by that factor."""
    pairs, _, height, width = left.shape
    chosen = draw(pairs) < options.stretch_share
    factor = torch.where(chosen, options.stretch ** draw(pairs), 1.0)
    pivot = draw(pairs) * (width - 1)
    x = pivot[:, None] + (torch.arange(width, device=left.device) - pivot[:, None]) / factor[:, None]
    low = x.floor().clamp_(0, width - 2)
    part = (x - low)[:, None, None, :]
    columns = low.long()[:, None, None, :]

    def ends(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        index = columns.expand(pairs, image.shape[1], height, width)
        return image.gather(-1, index), image.gather(-1, index + 1)

    images = [torch.lerp(*ends(image), part) for image in (left, right)]
    first, second = ends(disparity)
    nearest = torch.where(part < 0.5, first, second)
    # NaN compares false: beside an unknown pixel the nearest value stays.
    joined = torch.where((first - second).abs() < SAME_SURFACE_PX, torch.lerp(first, second, part), nearest)
    return images[0], images[1], joined * factor[:, None, None, None]
