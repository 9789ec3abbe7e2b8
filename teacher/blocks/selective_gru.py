"""Selective convolutional GRU and the attention that selects.

Selective-Stereo (arXiv 2403.00486), as FoundationStereo uses it (section 3.4): a GRU with a small and one with a large
kernel run side by side, and a spatial attention map made from the context chooses between them per pixel.

    B batch, C channels, H height, W width
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class ChannelAttention(nn.Module):
    """A weight in (0, 1) per channel from global average and maximum (CBAM, arXiv 1807.06521).

    Input: (B, C, H, W). Output: (B, C, 1, 1).
    """

    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1, bias=False),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        average = self.mlp(features.mean(dim=(2, 3), keepdim=True))
        return torch.sigmoid(average + self.mlp(features.amax(dim=(2, 3), keepdim=True)))


class SpatialAttention(nn.Module):
    """A weight in (0, 1) per pixel from the mean and maximum over channels (CBAM).

    Input: (B, C, H, W). Output: (B, 1, H, W).
    """

    def __init__(self, *, kernel: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        stacked = torch.cat([features.mean(dim=1, keepdim=True), features.amax(dim=1, keepdim=True)], dim=1)
        return torch.sigmoid(self.conv(stacked))


class ConvGRU(nn.Module):
    """Convolutional gated recurrent unit whose gates read one tensor and whose candidate reads another.

    Args:
        hidden: channels of the state.
        inputs: channels of the input.
        kernel: odd kernel size of all three convolutions.
    """

    def __init__(self, hidden: int, inputs: int, *, kernel: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(hidden + inputs, 2 * hidden, kernel, padding=kernel // 2)
        self.candidate = nn.Conv2d(hidden + inputs, hidden, kernel, padding=kernel // 2)

    def forward(self, state: torch.Tensor, inputs: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        update, reset = torch.sigmoid(self.gates(mixed)).chunk(2, dim=1)
        candidate = torch.tanh(self.candidate(torch.cat([reset * state, inputs], dim=1)))
        return state + update * (candidate - state)


class SelectiveConvGRU(nn.Module):
    """Two GRUs, kernels 1 and 3, blended per pixel by an attention map.

    Args:
        hidden: channels of the state.
        inputs: channels of all inputs together.
        width: channels the inputs are brought to; `inputs` when None, as in FoundationStereo.

    Input: state (B, hidden, H, W), inputs (B, inputs, H, W) or, with `prepared`, those that come after the prepared
    ones, attention (B, 1, H, W). Output: the new state.
    """

    def __init__(self, hidden: int, inputs: int, *, width: int | None = None) -> None:
        super().__init__()
        width = width or inputs
        self.conv0 = nn.Sequential(nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(inplace=True))
        self.conv1 = nn.Sequential(nn.Conv2d(width + hidden, width + hidden, 3, padding=1), nn.ReLU(inplace=True))
        self.small_gru = ConvGRU(hidden, width, kernel=1)
        self.large_gru = ConvGRU(hidden, width, kernel=3)

    def prepare(self, constant: torch.Tensor) -> torch.Tensor:
        """What `conv0` makes of the first inputs, for those that stay the same in every iteration.

        Input: (B, part of inputs, H, W). Output: (B, width, H, W), to be handed to `forward` in their place.
        """
        conv = self.conv0[0]
        assert isinstance(conv, nn.Conv2d)
        return F.conv2d(constant, conv.weight[:, : constant.shape[1]], conv.bias, padding=1)

    def forward(
        self,
        state: torch.Tensor,
        inputs: torch.Tensor,
        attention: torch.Tensor,
        prepared: torch.Tensor | None = None,
    ) -> torch.Tensor:
        if prepared is None:
            inputs = self.conv0(inputs)
        else:
            conv = self.conv0[0]
            assert isinstance(conv, nn.Conv2d)
            rest = F.conv2d(inputs, conv.weight[:, -inputs.shape[1] :], padding=1)
            inputs = F.relu(prepared + rest)
        mixed = self.conv1(torch.cat([inputs, state], dim=1))
        small = self.small_gru(state, inputs, mixed)
        large = self.large_gru(state, inputs, mixed)
        return large + attention * (small - large)
