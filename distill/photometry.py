"""What two real cameras do to one scene: exposure, colour, lens, noise, each a little different in either eye.

Shape legend: B pairs, C channels, H height, W width. Images are float, 0–255. The eyes of a pair are stacked as
(2, B, ...) while they are worked on, so that one operation serves both.
"""

from __future__ import annotations

import dataclasses

import torch

from distill.scene_device import gathers


@dataclasses.dataclass(frozen=True)
class PhotometricOptions:
    """How strong the effects are; 0 switches one off.

    Args:
        exposure: standard deviation of log2 gain, the same in both eyes.
        gamma: standard deviation of log2 gamma, the same in both eyes.
        saturation: largest relative change of colourfulness.
        gray_share: share of pairs without colour, as from mono or infrared cameras.
        exposure_between: standard deviation of the difference in log2 gain between the eyes.
        gamma_between: likewise for log2 gamma.
        white_between: likewise for log2 gain per colour channel.
        vignette: largest loss of light in the corners.
        blur: largest weight of a pixel's neighbours on either side, below 0.33.
        noise: largest standard deviation of the noise in mid-gray, levels of 255.
    """

    exposure: float = 0.3
    gamma: float = 0.25
    saturation: float = 0.5
    gray_share: float = 0.15
    exposure_between: float = 0.07
    gamma_between: float = 0.06
    white_between: float = 0.025
    vignette: float = 0.35
    blur: float = 0.25
    noise: float = 6.0


def on_device(generator: torch.Generator, device: torch.device) -> torch.Generator:
    """A generator for `device`: the one given where it fits, else a new one seeded from it."""
    if generator.device.type == device.type:
        return generator
    seed = int(torch.randint(0, 2**62, (), generator=generator, device=generator.device))
    return torch.Generator(device).manual_seed(seed)


def photometry(
    left: torch.Tensor,
    right: torch.Tensor,
    *,
    generator: torch.Generator,
    options: PhotometricOptions | None = None,
    grain: torch.Generator | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pass pairs through two cameras that are nearly the same.

    Args:
        left, right: (B, 3, H, W) float RGB 0–255.
        generator: source of randomness.
        options: strengths; defaults if None.
        grain: source of the noise; `generator` if None. Frames of one video share all but the noise.

    Returns:
        left, right of the same form, rounded to whole levels.
    """
    options = options or PhotometricOptions()
    generator = on_device(generator, left.device)
    pairs, channels = left.shape[:2]
    uniform = Draw(generator, left.device)
    keep, weights = colourfulness(uniform, pairs, options)
    # The lens and the exposure act on light, the gamma on what the sensor made of it.
    exposure = options.exposure * uniform.normal(1, pairs) + options.exposure_between * uniform.normal(2, pairs)
    white = options.white_between * uniform.normal(2, pairs, channels)
    gain = torch.exp2(exposure[..., None] + white)[..., None, None]
    gamma = torch.exp2(options.gamma * uniform.normal(1, pairs) + options.gamma_between * uniform.normal(2, pairs))
    gain = gain * vignette(left, uniform, options.vignette)
    blur = uniform(1, pairs) * options.blur + uniform(2, pairs) * 0.2 * options.blur
    noise = uniform(1, pairs) ** 2 * options.noise / 255
    grain = on_device(grain or generator, left.device)
    result = torch.empty(2, *left.shape, device=left.device)
    # A pair at a time stays in the cache of a CPU.
    step = 1 if gathers(left.device) else max(1, pairs)
    for first in range(0, pairs, step):
        some = slice(first, first + step)
        # (2, B, C, H, W): the eyes first.
        eyes = torch.stack([left[some], right[some]]).mul_(1 / 255).clamp_(1e-4, 1)
        eyes = recolor(eyes, keep[some], weights[some])
        eyes = eyes.log_().mul_(gamma[:, some, None, None, None]).exp_().mul_(gain[:, some])
        eyes = soften(eyes, blur[:, some])
        if options.noise > 0:
            add_noise(eyes, grain, noise[:, some])
        torch.round(eyes.mul_(255), out=result[:, some])
    result.clamp_(0, 255)
    return result[0], result[1]


class Draw:
    """Random numbers of given shapes on one device: `draw(2, B)` uniform in [0, 1), `draw.normal(2, B)` Gaussian."""

    def __init__(self, generator: torch.Generator, device: torch.device) -> None:
        self.generator, self.device = generator, device

    def __call__(self, *shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=self.generator, device=self.device)

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self.generator, device=self.device)


def colourfulness(uniform: Draw, pairs: int, options: PhotometricOptions) -> tuple[torch.Tensor, torch.Tensor]:
    """Share of their colour that pairs keep (B,), 0 for none, and weights of the channels in their gray (B, 3)."""
    keep = 1 + options.saturation * (2 * uniform(pairs) - 1)
    gray = uniform(pairs) < options.gray_share
    # A sensor without colour filters weighs the channels in its own way.
    weights = uniform(pairs, 3) + 0.15
    weights = torch.where(gray[:, None], weights / weights.sum(1, keepdim=True), torch.full_like(weights, 1 / 3))
    return torch.where(gray, 0.0, keep), weights


def recolor(eyes: torch.Tensor, keep: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Change colourfulness, or take the colour away; (2, B, 3, H, W) in [0, 1]."""
    luma = (eyes * weights[:, :, None, None]).sum(2, keepdim=True)
    return torch.lerp(luma, eyes, keep[None, :, None, None, None]).clamp_(1e-4, 1)


def vignette(images: torch.Tensor, uniform: Draw, strength: float) -> torch.Tensor:
    """Fall-off of light towards the corners (2, B, 1, H, W) for images (B, 3, H, W) of either eye."""
    pairs, (height, width) = len(images), images.shape[-2:]
    shape = (2, pairs, 1, 1, 1)
    centre_y, centre_x = ((uniform(*shape) - 0.5) * 0.3 for _ in range(2))
    y = torch.linspace(-1, 1, height, device=images.device).view(1, 1, 1, -1, 1) - centre_y
    x = torch.linspace(-1, 1, width, device=images.device) - centre_x
    loss = strength * uniform(1, pairs, 1, 1, 1) ** 2 * (0.8 + 0.4 * uniform(*shape)) / 2
    return (1 - loss * (y * y + x * x)).clamp_(0.1, 1)


def soften(eyes: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Blur (2, B, C, H, W) by the kernel [w, 1 - 2 w, w] in both directions, w (2, B)."""
    weight = weight.clamp(max=0.33)[:, :, None, None, None]
    for axis in (-1, -2):
        extent = eyes.shape[axis]
        inner = eyes.narrow(axis, 1, extent - 2)
        # In the image's outermost rows and columns the kernel would leave it: they stay as they are.
        neighbours = eyes.narrow(axis, 0, extent - 2) + eyes.narrow(axis, 2, extent - 2)
        softened = torch.addcmul(inner, neighbours.sub_(inner, alpha=2), weight)
        eyes.narrow(axis, 1, extent - 2).copy_(softened)
    return eyes


def add_noise(eyes: torch.Tensor, generator: torch.Generator, sigma: torch.Tensor) -> None:
    """Add photon-like noise in place: its deviation `sigma` (1, B) in mid-gray grows with the square root of light."""
    grain = torch.randn(eyes.shape, generator=generator, device=eyes.device)
    deviation = (eyes + 0.1).clamp_(min=0).sqrt_().mul_(sigma[:, :, None, None, None] / 0.6**0.5)
    eyes.addcmul_(grain, deviation)
