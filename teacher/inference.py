"""Running FoundationStereo on images of any size: padding, two passes for large images, both views at once.

B batch, H height, W width
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

from stereo.errors import UserError
from teacher.dpt_head import resize_aligned
from teacher.side_tuning import Features

if TYPE_CHECKING:
    from teacher.foundation_stereo import FoundationStereo

SIZE_MULTIPLE = 32
# Hierarchical inference looks at the images at this scale first.
COARSE_SCALE = 0.5


@dataclass(frozen=True)
class Padding:
    """Pixels added on each side by repeating the border; an odd total leaves the larger half at right and bottom."""

    left: int
    right: int
    top: int
    bottom: int

    @staticmethod
    def for_size(height: int, width: int) -> Padding:
        """What brings an image to multiples of 32."""
        tall, wide = -height % SIZE_MULTIPLE, -width % SIZE_MULTIPLE
        return Padding(wide // 2, wide - wide // 2, tall // 2, tall - tall // 2)

    def apply(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Pad."""
        return F.pad(images_BCHW, (self.left, self.right, self.top, self.bottom), mode="replicate")

    def crop(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Undo `apply`."""
        height, width = images_BCHW.shape[2:]
        return images_BCHW[:, :, self.top : height - self.bottom, self.left : width - self.right]


class BothViews(NamedTuple):
    """Disparities of both views, (B, 1, H, W) px each, the right one with x_left = x_right + d."""

    left: torch.Tensor
    right: torch.Tensor


def check_images(left: torch.Tensor, right: torch.Tensor, *, smallest: int) -> None:
    """Refuse what the network cannot take.

    Raises:
        UserError: not a pair of RGB images, or too small.
    """
    if left.shape != right.shape or left.dim() != 4 or left.shape[1] != 3:
        raise UserError(f"left {tuple(left.shape)} and right {tuple(right.shape)} are no pair of B×3×H×W images")
    height, width = left.shape[2:]
    if min(height, width) < smallest:
        raise UserError(f"images of {height}x{width} are too small: FoundationStereo takes {smallest} px and more",
                        fix="give larger images; small crops cannot be matched")  # fmt: skip


def check_iterations(iterations: int) -> None:
    """Refuse a number of refinement steps below 1."""
    if iterations < 1:
        raise UserError(f"{iterations} iterations", fix="give 1 or more; 32 is FoundationStereo's own choice")


def predict(
    network: FoundationStereo, left: torch.Tensor, right: torch.Tensor, *, iterations: int, hierarchical: bool
) -> torch.Tensor:
    """Disparity of the left views; see `FoundationStereo.predict`."""
    check_iterations(iterations)
    check_images(left, right, smallest=round(SIZE_MULTIPLE / COARSE_SCALE) if hierarchical else SIZE_MULTIPLE)
    if not hierarchical:
        return run_padded(network, left, right, iterations=iterations)
    coarse_left, coarse_right = (coarse(images) for images in (left, right))
    first = run_padded(network, coarse_left, coarse_right, iterations=iterations)
    initial = initial_from_coarse(first, Padding.for_size(*left.shape[2:]), (left.shape[2], left.shape[3]))
    return run_padded(network, left, right, iterations=iterations, initial=initial)


def coarse(images_BCHW: torch.Tensor) -> torch.Tensor:
    """The images of the first of two passes."""
    return F.interpolate(images_BCHW, scale_factor=COARSE_SCALE, mode="bilinear", align_corners=False)


def initial_from_coarse(coarse_B1hw: torch.Tensor, padding: Padding, size: tuple[int, int]) -> torch.Tensor:
    """Where the second of two passes starts: the first one's disparity, as the published code hands it over.

    Adding the left padding to the disparity has no reason in geometry (both images are padded alike) and the refinement
    takes it out again; it is kept because the published numbers were made with it.

    Args:
        coarse_B1hw: px of the coarse images.
        padding: of the full images.
        size: (H, W) of the full images.

    Returns: (B, 1, H/4, W/4) of the padded images, quarter-resolution pixels.
    """
    full = (resize_aligned(coarse_B1hw, size) / COARSE_SCALE).clamp(min=0)
    padded = padding.apply(full) + padding.left
    return resize_aligned(padded, (padded.shape[2] // 4, padded.shape[3] // 4)) / 4


def run_padded(
    network: FoundationStereo,
    left: torch.Tensor,
    right: torch.Tensor,
    *,
    iterations: int,
    initial: torch.Tensor | None = None,
) -> torch.Tensor:
    """One pass over images of any size, (B, 1, H, W) px."""
    padding = Padding.for_size(*left.shape[2:])
    images = network.normalised(torch.cat([padding.apply(left), padding.apply(right)]))
    left_features, right_features = network.features(images).halves()
    start = network.start(images.chunk(2)[0], left_features, right_features, initial=initial)
    return padding.crop(network.iterate(start, iterations=iterations)[-1])


def predict_both(
    network: FoundationStereo,
    left: torch.Tensor,
    right: torch.Tensor,
    *,
    iterations: int,
    right_iterations: int | None = None,
) -> BothViews:
    """Disparity of both views in one batch, for far less than two passes.

    Mirrored and swapped, a right view becomes a left view: what the network makes of (mirrored right, mirrored left)
    is the mirrored disparity of the right view. The features are computed once and mirrored as maps, where two passes
    would compute them again from the mirrored images. That is the same to rounding for a feature network that does not
    tell left from right, and an approximation for a trained one, which nearly does not; matching, filtering, context
    and refinement of the right view run in full. For the exact answer call `predict` with mirrored images.

    Args:
        iterations: refinement steps of the left view.
        right_iterations: of the right view, at most as many; the same number when left out. A consistency check needs
            fewer than a label.

    Raises:
        UserError: see `FoundationStereo.predict`.
    """
    check_iterations(iterations)
    check_images(left, right, smallest=SIZE_MULTIPLE)
    right_iterations = min(right_iterations or iterations, iterations)
    padding = Padding.for_size(*left.shape[2:])
    images = network.normalised(torch.cat([padding.apply(left), padding.apply(right)]))
    left_features, right_features = network.features(images).halves()
    left_images, right_images = images.chunk(2)
    start = network.start(
        torch.cat([left_images, right_images.flip(3)]),
        Features.joined(left_features, right_features.mirrored()),
        Features.joined(right_features, left_features.mirrored()),
    )
    sequence = network.iterate(start, iterations=iterations, both_until=right_iterations)
    if right_iterations < iterations:
        mirrored, of_left = sequence
    else:
        of_left, mirrored = sequence[-1].chunk(2)
    return BothViews(padding.crop(of_left), padding.crop(mirrored.flip(3)))
