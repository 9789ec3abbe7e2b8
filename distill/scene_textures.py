"""The bank of textures and silhouettes that procedural scenes are dressed with, kept in memory on the render device.

Textures live in one atlas with their mip levels beside them, so that one bilinear lookup serves any number of pixels,
textures and levels. Tiling is mirrored: no seam, whatever the picture.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from distill.scene_patterns import draw_pattern
from distill.scene_shapes import disc, draw_shape
from distill.scenes_config import SceneOptions
from stereo.errors import UserError

TILE = 256
LEVELS = 6
SHAPE_TILE = 128
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


@dataclasses.dataclass
class Bank:
    """Textures and silhouettes.

    Args:
        textures: (1, 3, N·256, 384) in [0, 1], each with its mip levels beside it.
        gray: (1, 1, N·256, 384), the mean of their channels.
        shapes: (1, 1, N·128, 128), positive inside.
        names: (N,) pattern of each texture, or "photograph".
        shape_names: (N,) kind of each silhouette.
    """

    textures: torch.Tensor
    gray: torch.Tensor
    shapes: torch.Tensor
    names: NDArray[np.str_]
    shape_names: NDArray[np.str_]

    @property
    def count(self) -> int:
        """Number of textures, and of silhouettes."""
        return len(self.names)

    def shapes_named(self, *names: str) -> NDArray[np.int64]:
        """Numbers of the silhouettes of these kinds; any but the full rectangle when there is none."""
        found = np.flatnonzero(np.isin(self.shape_names, names))
        return found if len(found) else np.arange(1, self.count)

    def texture(self, index: torch.Tensor, u: torch.Tensor, v: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Look up colours.

        Args:
            index: (P,) texture number, as float.
            u, v: (P,) in tiles; beyond [0, 1] the texture repeats mirrored.
            level: (P,) mip level, rounded to the nearest there is.

        Returns:
            (3, P) in [0, 1].
        """
        return self._sample(self.textures, *self._texels(index, u, v, level))

    def detail(self, index: torch.Tensor, u: torch.Tensor, v: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Look up gray values (P,); the arguments are those of `texture`."""
        return self._sample(self.gray, *self._texels(index, u, v, level))[0]

    def _texels(
        self, index: torch.Tensor, u: torch.Tensor, v: torch.Tensor, level: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Place in the atlas, in texels."""
        level = level.round().clamp_(0, LEVELS)
        extent = torch.exp2(-level).mul_(TILE)
        small = (level > 0).to(u.dtype)
        span = extent - 1
        x = (small * TILE).add_(0.5).addcmul_(mirrored(u), span)
        y = (TILE - 2 * extent).mul_(small).add_(index, alpha=TILE).add_(0.5).addcmul_(mirrored(v), span)
        return x, y

    def inside(self, index: torch.Tensor, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Signed distance (any shape) to the outline of silhouette `index` at u, v in [-1, 1], positive inside."""
        index, u, v = torch.broadcast_tensors(index, u, v)
        middle, reach = SHAPE_TILE / 2, (SHAPE_TILE - 1) / 2
        x = u.clamp(-1, 1).mul_(reach).add_(middle)
        y = v.clamp(-1, 1).mul_(reach).add_(middle).add_(index, alpha=SHAPE_TILE)
        return self._sample(self.shapes, x.reshape(-1), y.reshape(-1))[0].view(u.shape)

    def _sample(self, atlas: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        height, width = atlas.shape[-2:]
        # The sampler reads a plane of columns and one of rows faster than pairs.
        grid = torch.empty(2, len(x), device=x.device)
        torch.sub(x.mul_(2 / width), 1, out=grid[0])
        torch.sub(y.mul_(2 / height), 1, out=grid[1])
        return functional.grid_sample(atlas, grid.T[None, None], align_corners=False)[0, :, 0]


def mirrored(position: torch.Tensor) -> torch.Tensor:
    """Fold the real line into [0, 1] like two facing mirrors."""
    # The distance to the nearest even number.
    return torch.sub(position, (position * 0.5).round_(), alpha=2).abs_()


def with_levels(image: np.ndarray) -> np.ndarray:
    """Lay out a (256, 256, 3) image and its mip levels in a (256, 384, 3) block."""
    block = np.zeros((TILE, TILE + TILE // 2, 3), np.float32)
    block[:, :TILE] = image
    for level in range(1, LEVELS + 1):
        extent = TILE >> level
        image = cv2.resize(image, (extent, extent), interpolation=cv2.INTER_AREA)
        top = TILE - 2 * extent
        block[top : top + extent, TILE : TILE + extent] = image
    return block


def find_photographs(paths: tuple[str, ...]) -> list[Path]:
    """Image files named or contained in `paths`, sorted.

    Raises:
        UserError: a path that does not exist, or nothing found.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise UserError("no such texture file or folder", where=path, fix="check --textures")
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [file for file in files if file.suffix.lower() in SUFFIXES]
    if paths and not found:
        raise UserError("no photographs found", where=paths[0], fix=f"expected {' '.join(SUFFIXES)}")
    return found


def cut_photograph(rng: np.random.Generator, path: Path) -> np.ndarray:
    """A random square of a photograph, (256, 256, 3) in [0, 1]."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise UserError("cannot be read as an image", where=path, fix="remove it from the texture folder")
    shorter = min(image.shape[:2])
    side = int(np.clip(TILE * 2 ** rng.uniform(-0.3, 2.5), min(TILE, shorter), shorter))
    top, left = (int(rng.integers(0, extent - side + 1)) for extent in image.shape[:2])
    square = image[top : top + side, left : left + side, ::-1].astype(np.float32) / 255
    how = cv2.INTER_AREA if side > TILE else cv2.INTER_CUBIC
    return np.clip(cv2.resize(np.ascontiguousarray(square), (TILE, TILE), interpolation=how), 0, 1)


@lru_cache(maxsize=4)
def load_bank(count: int, seed: int, paths: tuple[str, ...], photo_share: float, device: torch.device) -> Bank:
    """Draw a bank; see `SceneOptions` for the arguments. The last few are remembered.

    Raises:
        UserError: photographs missing or unreadable.
    """
    rng = np.random.default_rng([seed, 20])
    photographs = find_photographs(paths)
    photo_count = round(count * photo_share) if photographs else 0
    order = rng.permutation(max(len(photographs), 1))
    blocks, names = [], []
    for index in range(count):
        if index < photo_count:
            name, image = "photograph", cut_photograph(rng, photographs[order[index % len(order)]])
        else:
            name, image = draw_pattern(rng, TILE)
        names.append(name)
        blocks.append(with_levels(image))
    kinds, shapes = ["rectangle", "disc"], [np.ones((SHAPE_TILE, SHAPE_TILE), np.float32), disc(SHAPE_TILE)]
    while len(shapes) < count:
        name, shape = draw_shape(rng, SHAPE_TILE)
        kinds.append(name)
        shapes.append(shape)
    atlas = torch.from_numpy(np.concatenate(blocks)).permute(2, 0, 1)[None].contiguous()
    outlines = torch.from_numpy(np.concatenate(shapes))[None, None].contiguous()
    gray = atlas.mean(1, keepdim=True)
    return Bank(atlas.to(device), gray.to(device), outlines.to(device), np.array(names), np.array(kinds))


def bank_for(options: SceneOptions, device: torch.device) -> Bank:
    """The bank that these options ask for, on this device."""
    return load_bank(options.bank_size, options.bank_seed, options.textures, options.photo_share, device)
