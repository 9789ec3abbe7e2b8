"""FoundationStereo (arXiv 2501.09898), written from the paper and from published facts about the released network.

    images ─ feature network (frozen ViT + CNN) ─ 1/4 … 1/32 ─┬─ cost filtering ─ volume ─ soft-argmin ─ disparity (1/4)
                                                              ├─ row correlation ───┴──── lookup ─┐         │
       left ─ context network ─ states, inputs, attention ────┴──────────────── GRU × iterations ◀──────────┘
                                                                                     └─ upsampling ─ disparity (1/1)

The weights do not depend on the disparity range or the number of iterations. See docs/teacher.md for shapes.

    B batch, C channels, D disparity planes, H height, W width
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import nn

from teacher import inference
from teacher.blocks.convex_upsampling import superpixel_upsample
from teacher.blocks.disparity_transformer import AttentionAxis
from teacher.blocks.precision import full_precision
from teacher.context_network import ContextNetwork, LevelContext
from teacher.cost_filtering import CostFiltering, FilterKind
from teacher.edgenext import DEPTHS, WIDTHS
from teacher.refinement import LEVELS, RADIUS, Geometry, UpdateBlock, Upsampling
from teacher.side_tuning import FeatureNetwork, Features, MonoUse

# ImageNet statistics of RGB in 0..1.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# A quarter for the volume's resolution, then eight for the hourglass.
DISPARITY_MULTIPLE = 32

Watch = Callable[[str, torch.Tensor], None]


@dataclasses.dataclass(frozen=True)
class FoundationStereoConfig:
    """Everything that decides the network; the defaults are those of the released checkpoints.

    Args:
        vit: size of the monocular ViT, a key of `vision_transformer.VIT_SIZES`.
        max_disp: disparity range in pixels, a multiple of 32.
        attention_axis: what the disparity transformer attends over.
        mono: how the monocular network takes part.
        mono_trainable: train it too.
        cnn_widths, cnn_depths: of EdgeNeXt.
        volume_width, groups, concat_channels: of the cost volume.
        filter_kind, disparity_kernel: axial-planar convolutions, and the planes that one sees.
        transformer_layers: of the disparity transformer; 0 leaves it out.
        hidden: channels of the refinement's states.
        context_widths: of the context network.
        encoder_widths: of the motion encoder.
        mask_width: of the upsampling.
    """

    vit: str = "vitl"
    max_disp: int = 416
    attention_axis: AttentionAxis = "disparity"
    mono: MonoUse = "side_tuned"
    mono_trainable: bool = False
    cnn_widths: tuple[int, int, int, int] = WIDTHS
    cnn_depths: tuple[int, int, int, int] = DEPTHS
    volume_width: int = 28
    groups: int = 8
    concat_channels: int = 12
    filter_kind: FilterKind = "apc"
    disparity_kernel: int = 17
    transformer_layers: int = 4
    hidden: int = 128
    context_widths: tuple[int, int, int] = (64, 96, 128)
    encoder_widths: tuple[int, int] = (256, 64)
    mask_width: int = 32


class Predictions(NamedTuple):
    """What the losses see."""

    initial: torch.Tensor  # (B, 1, H/4, W/4), px of that resolution
    sequence: list[torch.Tensor]  # (B, 1, H, W) px each, last is best; not clamped


class Start(NamedTuple):
    """Everything the iterations need, made once per pair."""

    geometry: Geometry
    contexts: list[LevelContext]
    image_half: torch.Tensor  # (B, mask_width, H/2, W/2)
    disparity: torch.Tensor  # (B, 1, H/4, W/4), quarter-resolution pixels


def nothing(name: str, value: torch.Tensor) -> None:
    """A watch that looks away."""


class FoundationStereo(nn.Module):
    """The network. Load published weights with `teacher.checkpoints.load_foundation_stereo`.

    Input: left and right, (B, 3, H, W), RGB 0–255, H and W multiples of 32. `predict` takes any size.
    Output: (B, 1, H, W), left-view disparity in pixels; a little below 0 is possible.
    """

    def __init__(self, config: FoundationStereoConfig) -> None:
        super().__init__()
        self.config = config
        # Told by `teacher.checkpoints` when weights are loaded.
        self.weights_sha256: str | None = None
        self.features = FeatureNetwork(
            config.vit,
            mono=config.mono,
            mono_trainable=config.mono_trainable,
            widths=config.cnn_widths,
            depths=config.cnn_depths,
        )
        self.filtering = CostFiltering(
            self.features.channels,
            width=config.volume_width,
            groups=config.groups,
            concat_channels=config.concat_channels,
            kind=config.filter_kind,
            disparity_kernel=config.disparity_kernel,
            transformer_layers=config.transformer_layers,
            attention_axis=config.attention_axis,
        )
        mono = 0 if self.features.mono is None else self.features.mono.channels
        self.context = ContextNetwork(mono, hidden=config.hidden, widths=config.context_widths)
        self.update = UpdateBlock(
            LEVELS * (config.volume_width + 1) * (2 * RADIUS + 1),
            hidden=config.hidden,
            encoder_widths=config.encoder_widths,
            mask_width=config.mask_width,
        )
        self.upsampling = Upsampling(width=config.mask_width)

    @property
    def planes(self) -> int:
        """Disparity planes of the volume, at 1/4 resolution."""
        return self.config.max_disp // 4

    def set_max_disp(self, max_disp: int) -> None:
        """Change the disparity range, in place; the weights stay as they are."""
        self.config = dataclasses.replace(self.config, max_disp=max_disp)

    def normalised(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """RGB 0–255 → zero mean, unit variance."""
        if not images_BCHW.is_floating_point():  # whole numbers would cut the constants off
            images_BCHW = images_BCHW.float()
        # No buffers: those would keep the rounding of the last dtype that the network was cast to.
        mean = images_BCHW.new_tensor(MEAN).reshape(1, 3, 1, 1)
        std = images_BCHW.new_tensor(STD).reshape(1, 3, 1, 1)
        return (images_BCHW / 255 - mean) / std

    def forward(self, left: torch.Tensor, right: torch.Tensor, *, iterations: int = 32) -> torch.Tensor:
        return self.predict_sequence(left, right, iterations=iterations, every=False).sequence[-1]

    def predict(
        self, left: torch.Tensor, right: torch.Tensor, *, iterations: int = 32, hierarchical: bool = False
    ) -> torch.Tensor:
        """Disparity of images of any size.

        Args:
            left, right: (B, 3, H, W), RGB 0–255.
            iterations: refinement steps.
            hierarchical: look at half the size first and start from there; for images of more than about 1000 px.

        Returns: (B, 1, H, W), left-view disparity in pixels; a little below 0 is possible.

        Raises:
            UserError: not a pair, images smaller than 32 px (64 px when hierarchical), or no iterations.
        """
        with torch.inference_mode():
            return inference.predict(self, left, right, iterations=iterations, hierarchical=hierarchical)

    def predict_both(
        self, left: torch.Tensor, right: torch.Tensor, *, iterations: int = 32, right_iterations: int | None = None
    ) -> inference.BothViews:
        """Disparity of both views, sharing the features; see `teacher.inference.predict_both`."""
        with torch.inference_mode():
            return inference.predict_both(self, left, right, iterations=iterations, right_iterations=right_iterations)

    def predict_sequence(
        self, left: torch.Tensor, right: torch.Tensor, *, iterations: int, every: bool = True
    ) -> Predictions:
        """Run the network and keep what the losses need.

        Args:
            every: upsample after every iteration; otherwise only after the last.
        """
        images = self.normalised(torch.cat([left, right]))
        left_features, right_features = self.features(images).halves()
        start = self.start(images.chunk(2)[0], left_features, right_features)
        sequence = self.iterate(start, iterations=iterations, every=every)
        return Predictions(start.disparity, sequence)

    def start(
        self,
        images_BCHW: torch.Tensor,
        left: Features,
        right: Features,
        *,
        initial: torch.Tensor | None = None,
        watch: Watch = nothing,
    ) -> Start:
        """Volume, contexts and initial disparity.

        Args:
            images_BCHW: the left images, normalised.
            left, right: features.
            initial: start from this disparity, (B, 1, H/4, W/4) quarter-resolution pixels, instead of the volume's.
            watch: is shown the filtered volume.
        """
        volume = self.filtering(left, right, planes=self.planes)
        watch("volume", volume)
        disparity = self.filtering.initial_disparity(volume) if initial is None else full_precision(initial)
        return Start(
            Geometry(volume, left.quarter, right.quarter),
            self.context(images_BCHW, left.mono),
            self.upsampling.stem(images_BCHW),
            disparity,
        )

    def iterate(
        self,
        start: Start,
        *,
        iterations: int,
        every: bool = False,
        both_until: int | None = None,
        watch: Watch = nothing,
    ) -> list[torch.Tensor]:
        """Refine and upsample.

        Args:
            every: upsample after every iteration; otherwise only after the last.
            both_until: the batch's second half stops after this many iterations, the first half goes on.
            watch: is shown disparity and correction of every iteration.

        Returns: disparities, (B, 1, H, W) px; with `both_until`, those of the second half first, then the first's.
        """
        disparity, geometry = start.disparity, start.geometry
        states: Sequence[torch.Tensor] = [context.state for context in start.contexts]
        attentions = [context.attention for context in start.contexts]
        prepared = self.update.prepare(start.contexts)
        image_half = start.image_half
        sequence = []
        for iteration in range(iterations):
            # As in RAFT-Stereo, the gradient flows through the corrections, not through the lookup position.
            disparity = disparity.detach()
            costs = geometry.lookup(disparity)
            states, correction = self.update(states, attentions, prepared, costs, disparity)
            watch("correction", correction)
            disparity = disparity + full_precision(correction)
            watch("disparity", disparity)
            if both_until is not None and iteration + 1 == both_until < iterations:
                (states, second_states), (disparity, second) = halves(states), disparity.chunk(2)
                (attentions, _), (prepared, _) = halves(attentions), halves(prepared)
                image_half, second_half = image_half.chunk(2)
                geometry = geometry.half()
                sequence.append(self.upsampled(second, second_states[0], second_half))
            if every or iteration == iterations - 1:
                sequence.append(self.upsampled(disparity, states[0], image_half))
        return sequence

    def upsampled(self, disparity: torch.Tensor, state: torch.Tensor, image_half: torch.Tensor) -> torch.Tensor:
        """Quarter-resolution disparity to full size, (B, 1, H, W) px."""
        logits = self.upsampling(self.update.mask_features(state), image_half)
        return superpixel_upsample(disparity, logits, scale=4)


def halves(tensors: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """First and second halves of several batches."""
    pairs = [tensor.chunk(2) for tensor in tensors]
    return [first for first, _ in pairs], [second for _, second in pairs]
