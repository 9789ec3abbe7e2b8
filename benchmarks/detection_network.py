"""The layers of YOLOv8n, weights at random: a network whose latencies on a Jetson are published for three precisions.

Written from its published description (https://docs.ultralytics.com/models/yolov8: 640×640, 3.2 M parameters,
8.7 GFLOPs); it serves to count work, and detects nothing.

    B batch, C channels, H height, W width
"""

from __future__ import annotations

import torch
from torch import nn

CLASSES, BINS = 80, 16
WIDTHS = (16, 32, 64, 128, 256)
SIZE = (640, 640)


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, SiLU."""
    plain = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(plain, nn.BatchNorm2d(outputs), nn.SiLU())


class SplitBlock(nn.Module):
    """Half of the channels go through bottlenecks; all that comes up on the way is merged."""

    def __init__(self, inputs: int, outputs: int, blocks: int, *, shortcut: bool) -> None:
        super().__init__()
        half = outputs // 2
        self.shortcut = shortcut
        self.enter = convolution(inputs, outputs, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(convolution(half, half), convolution(half, half)) for _ in range(blocks)
        )
        self.leave = convolution((2 + blocks) * half, outputs, 1)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        parts = list(self.enter(x_BCHW).chunk(2, dim=1))
        for block in self.blocks:
            new = block(parts[-1])
            parts.append(parts[-1] + new if self.shortcut else new)
        return self.leave(torch.cat(parts, dim=1))


class Pyramid(nn.Module):
    """Three poolings in a row, merged."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = convolution(channels, channels // 2, 1)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.leave = convolution(2 * channels, channels, 1)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        parts = [self.enter(x_BCHW)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.leave(torch.cat(parts, dim=1))


def head(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two convolutions and a linear one."""
    return nn.Sequential(convolution(inputs, hidden), convolution(hidden, hidden), nn.Conv2d(hidden, outputs, 1))


class DetectionNetwork(nn.Module):
    """(1, 3, 640, 640) → (1, 84, 8400): boxes and class scores."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c, d, e = WIDTHS
        self.stem = nn.Sequential(
            convolution(3, a, stride=2), convolution(a, b, stride=2), SplitBlock(b, b, 1, shortcut=True)
        )
        self.down = nn.ModuleList(
            nn.Sequential(convolution(inputs, outputs, stride=2), SplitBlock(outputs, outputs, blocks, shortcut=True))
            for inputs, outputs, blocks in ((b, c, 2), (c, d, 2), (d, e, 1))
        )
        self.pyramid = Pyramid(e)
        self.rise = nn.ModuleList([SplitBlock(d + e, d, 1, shortcut=False), SplitBlock(c + d, c, 1, shortcut=False)])
        self.sink = nn.ModuleList([convolution(c, c, stride=2), convolution(d, d, stride=2)])
        self.merge = nn.ModuleList([SplitBlock(c + d, d, 1, shortcut=False), SplitBlock(d + e, e, 1, shortcut=False)])
        self.boxes = nn.ModuleList(head(width, 64, 4 * BINS) for width in (c, d, e))
        self.scores = nn.ModuleList(head(width, CLASSES, CLASSES) for width in (c, d, e))

    def forward(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        quarter = self.stem(image_BCHW)
        eighth = self.down[0](quarter)
        sixteenth = self.down[1](eighth)
        last = self.pyramid(self.down[2](sixteenth))
        middle = self.rise[0](torch.cat([nn.functional.interpolate(last, scale_factor=2.0), sixteenth], dim=1))
        fine = self.rise[1](torch.cat([nn.functional.interpolate(middle, scale_factor=2.0), eighth], dim=1))
        medium = self.merge[0](torch.cat([self.sink[0](fine), middle], dim=1))
        coarse = self.merge[1](torch.cat([self.sink[1](medium), last], dim=1))
        levels = list(zip((fine, medium, coarse), self.boxes, self.scores, strict=True))
        boxes = torch.cat([box(level).flatten(2) for level, box, _ in levels], dim=2)
        scores = torch.cat([score(level).flatten(2) for level, _, score in levels], dim=2)
        shares = boxes.reshape(1, 4, BINS, -1).softmax(dim=2)
        edges = (shares * torch.arange(BINS).reshape(1, 1, BINS, 1)).sum(dim=2)
        return torch.cat([edges, scores.sigmoid()], dim=1)
