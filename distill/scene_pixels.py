"""Pixels of some views, as shading works on them: all of a part of the image, or those of a subset.

Shape legend: V views, N views of one chunk, C columns of a table, P pixels, H, W part of the image.
"""

from __future__ import annotations

import dataclasses

import torch

from distill.scene_device import Subset


@dataclasses.dataclass
class Pixels:
    """Pixels of some views, flattened.

    Args:
        x, y: (P,) place in the image.
        item: (P,) what they see.
        w: (P,) at which inverse depth.
        view: the views, each with as many of the pixels, or (P,) the view of each.
        columns, rows: (W,) and (H,), the places of the grid that all of the views have, if the pixels are one.
    """

    x: torch.Tensor
    y: torch.Tensor
    item: torch.Tensor
    w: torch.Tensor
    view: slice | torch.Tensor
    columns: torch.Tensor | None = None
    rows: torch.Tensor | None = None

    def per_view(self, table: torch.Tensor) -> torch.Tensor:
        """Values (C, N, 1) or (C, P) of a table (V, C), to go with `shaped` pixels."""
        if isinstance(self.view, slice):
            return table[self.view].T[..., None]
        return table.index_select(0, self.view).T

    def shaped(self, values: torch.Tensor) -> torch.Tensor:
        """View (P,) values as (N, P / N) for N views, or leave them."""
        return values.view(self.view.stop - self.view.start, -1) if isinstance(self.view, slice) else values

    def affine(self, row: torch.Tensor) -> torch.Tensor:
        """Evaluate an affine function of (x, y, 1), given `per_view` as (3, ...); the result is `shaped`."""
        if self.columns is None or self.rows is None:
            return (row[0] * self.shaped(self.x)).add_(row[1] * self.shaped(self.y)).add_(row[2])
        down = row[1] * self.rows + row[2]
        return (down[:, :, None] + (row[0] * self.columns)[:, None, :]).flatten(1)

    def some(self, chosen: Subset, behind: Pixels) -> Pixels:
        """A part of these pixels, with what they see `behind`."""
        if chosen.index is None:
            return dataclasses.replace(self, item=behind.item, w=behind.w)
        view = self.view
        if isinstance(view, slice):
            view = view.start + chosen.index // (len(self.x) // (view.stop - view.start))
        else:
            view = chosen.take(view)
        x, y, item, w = (chosen.take(values) for values in (self.x, self.y, behind.item, behind.w))
        return Pixels(x, y, item, w, view)
