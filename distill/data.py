"""Training batches: random crops of label sets and of procedural scenes, mixed by share.

Work is cut into blocks of a few batches. A block is a pure function of (seed, its number), so that the stream does not
depend on the number of workers, and a resumed run continues with exactly the batches it would have seen. Within a block
each rendered scene gives several crops, because rendering costs more than cropping. Frames of label sets are drawn at
random; those of packed label sets in the order of `distill.draw_order`, so that a shard is read once a pass.

    B batch, H height, W width
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import os
import tempfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from distill.augment import AugmentOptions, augment
from distill.config import DataOptions
from distill.draw_order import DrawOrder
from distill.packed import open_labels
from distill.scenes import render_scenes
from distill.scenes_config import SceneOptions
from stereo.errors import UserError
from stereo.label_set import LabelledFrame, LabelSet
from stereo.options import parse_size
from stereo.packed_set import PackedSet
from student.model import SIZE_MULTIPLE

# Scenes are rendered a little larger than the crop, so that two crops of one scene differ.
RENDER_MARGIN = 1.25
RESCALE = (0.75, 1.5)  # range of the random zoom on label frames, where they are large enough


@dataclasses.dataclass
class Batch:
    """One training batch.

    Args:
        left, right: (B, 3, H, W) float32, RGB 0–255.
        disparity: (B, 1, H, W) float32 px, NaN invalid.
        confidence: (B, 1, H, W) float32, 0 to 1.
        names: where each sample came from.
    """

    left: torch.Tensor
    right: torch.Tensor
    disparity: torch.Tensor
    confidence: torch.Tensor
    names: list[str]

    def to(self, device: torch.device) -> Batch:
        """The batch on another device."""
        tensors = (getattr(self, name).to(device, non_blocking=True) for name in TENSORS)
        return Batch(*tensors, names=self.names)


TENSORS = ("left", "right", "disparity", "confidence")


def join(batches: Sequence[Batch]) -> Batch:
    """Concatenate batches."""
    tensors = (torch.cat([getattr(batch, name) for batch in batches]) for name in TENSORS)
    return Batch(*tensors, names=[name for batch in batches for name in batch.names])


def take(batch: Batch, index: Sequence[int]) -> Batch:
    """Some samples of a batch."""
    tensors = (getattr(batch, name)[list(index)] for name in TENSORS)
    return Batch(*tensors, names=[batch.names[position] for position in index])


class FrameCache:
    """Label frames decoded once and kept while they fit.

    Args:
        sets: label sets, read as one long sequence.
        limit_mb: memory for decoded frames.
    """

    def __init__(self, sets: Sequence[LabelSet | PackedSet], limit_mb: float) -> None:
        self._sets, self._limit = sets, limit_mb * 1e6
        self._kept: OrderedDict[int, tuple[LabelledFrame, int]] = OrderedDict()
        self._bytes = 0
        self._ends = list(itertools.accumulate(len(labels) for labels in sets))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def read(self, index: int) -> LabelledFrame:
        """Decode a frame, or take it from memory."""
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index][0]
        which = bisect.bisect_right(self._ends, index)
        frame = self._sets[which].read(index - (self._ends[which - 1] if which else 0))
        frame = dataclasses.replace(frame, name=f"{self._sets[which].path}/{frame.name}")
        size = frame.left.nbytes + frame.right.nbytes + frame.disparity.nbytes + frame.confidence.nbytes
        self._kept[index] = (frame, size)
        self._bytes += size
        while self._bytes > self._limit and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1][1]
        return frame


def crop_labels(frame: LabelledFrame, size: tuple[int, int], generator: torch.Generator) -> Batch:
    """Zoom a frame by a random factor and cut a random window, the same in both eyes.

    The disparity is zoomed by nearest neighbour (interpolation would invent values between two surfaces) and scaled.

    Returns: a batch of one.
    """
    height, width = frame.disparity.shape
    smallest = max(size[0] / height, size[1] / width)
    low = max(RESCALE[0], smallest)
    high = max(RESCALE[1], low)
    zoom = low * (high / low) ** torch.rand((), generator=generator).item()
    window_height, window_width = min(round(size[0] / zoom), height), min(round(size[1] / zoom), width)
    top = int(torch.randint(height - window_height + 1, (), generator=generator))
    left = int(torch.randint(width - window_width + 1, (), generator=generator))
    window = (slice(top, top + window_height), slice(left, left + window_width))

    def image(pixels: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(pixels[window])).permute(2, 0, 1)[None].float()
        return resize(tensor, size, "bilinear").clamp(0, 255)

    def map_(values: np.ndarray) -> torch.Tensor:
        return resize(torch.from_numpy(np.ascontiguousarray(values[window]))[None, None], size, "nearest")

    disparity = map_(frame.disparity) * (size[1] / window_width)
    return Batch(image(frame.left), image(frame.right), disparity, map_(frame.confidence), [frame.name])


def resize(tensor: torch.Tensor, size: tuple[int, int], mode: str) -> torch.Tensor:
    """Resize (B, C, H, W), smoothing when it shrinks."""
    if tuple(tensor.shape[-2:]) == size:
        return tensor
    if mode == "nearest":
        return torch.nn.functional.interpolate(tensor, size=size, mode="nearest-exact")
    return torch.nn.functional.interpolate(tensor, size=size, mode="bilinear", align_corners=False, antialias=True)


class Blocks(Dataset[list[Batch] | UserError]):
    """Map-style data set whose item is a block of batches; see the module docstring.

    Args:
        options: what a batch is made of.
        max_disp: of the scenes, px.
        seed: of the stream.
        count: number of blocks.
        rank, world: this process and how many there are; they share no block.
        spool: folder for shards of packed sets that are far away.
    """

    def __init__(
        self, options: DataOptions, *, max_disp: int, seed: int, count: int, rank: int = 0, world: int = 1,
        spool: Path | None = None,
    ) -> None:  # fmt: skip
        self.options, self.seed, self.count, self.rank, self.world = options, seed, count, rank, world
        self.crop = parse_size(options.crop, multiple=SIZE_MULTIPLE)
        spool = spool or Path(tempfile.gettempdir()) / f"stereodistill-shards-{os.getuid()}"
        sets = [open_labels(location, spool) for location in options.labels]
        check_trusted(sets)
        packed = [labels for labels in sets if isinstance(labels, PackedSet)]
        self.shards = [(labels, number) for labels in packed for number in range(len(labels.shard_frames))]
        self.order = DrawOrder([labels.shard_frames[number] for labels, number in self.shards], seed=seed)
        unpacked = [labels for labels in sets if not isinstance(labels, PackedSet)]
        self.frames = FrameCache([*unpacked, *packed], options.cache_mb)
        share = options.scene_share if sets else 1.0
        if not 0 <= share <= 1:
            raise UserError(f"scene share {share} is not between 0 and 1", where="--data.scene_share", fix="try 0.5")
        self.scenes_per_batch = round(options.batch_size * share)
        textures = (str(options.textures),) if options.textures else ()
        self.scene_options = SceneOptions(max_disp=float(max_disp), textures=textures)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, block: int) -> list[Batch] | UserError:
        # A worker's exception reaches the main process as one long text; as a value it arrives as it is.
        try:
            return self.make(block)
        except UserError as error:
            return error

    def make(self, block: int) -> list[Batch]:
        """The batches of a block.

        Raises:
            UserError: a label frame cannot be read.
        """
        # Distinct blocks, ranks and seeds must not share a random stream: numpy's seed sequence mixes them well.
        entropy = np.random.SeedSequence([self.seed, block * self.world + self.rank]).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(entropy >> 1))
        scenes = self._scene_crops(generator, f"scene of block {block}, seed {self.seed}")
        labels = self.options.batch_size - self.scenes_per_batch
        packed = self._packed_frames(block * self.world + self.rank, labels * self.options.block, generator)
        batches = []
        for number in range(self.options.block):
            first = number * self.scenes_per_batch
            parts = [take(scenes, range(first, first + self.scenes_per_batch))] if self.scenes_per_batch else []
            parts += [self._label_crop(packed.get(number * labels + place), generator) for place in range(labels)]
            batches.append(join(parts))
        return batches

    def _packed_frames(self, number: int, labels: int, generator: torch.Generator) -> dict[int, int]:
        """Which of the label crops of a block are of packed sets: place among the crops → frame.

        Over the blocks, every frame of a label set or a packed set is as likely as any other.

        Args:
            number: of the block, among those of all ranks.
            labels: label crops of a block.
        """
        if not len(self.order):
            return {}
        first, end = (count * labels * len(self.order) // len(self.frames) for count in (number, number + 1))
        places = torch.randperm(labels, generator=generator)[: end - first].sort().values.tolist()
        unpacked = len(self.frames) - len(self.order)
        for labels_, shard in (self.shards[place] for place in self.order.shards_after(end - 1) if end > first):
            labels_.prepare_shard(shard)
        return {place: unpacked + self.order.frame(draw) for place, draw in zip(places, range(first, end), strict=True)}

    def _label_crop(self, index: int | None, generator: torch.Generator) -> Batch:
        """A crop of the frame at a position, or of any frame of the sets that are not packed."""
        if index is None:
            index = int(torch.randint(len(self.frames) - len(self.order), (), generator=generator))
        batch = crop_labels(self.frames.read(index), self.crop, generator)
        batch.confidence[batch.confidence < self.options.min_confidence] = 0
        return augment_batch(batch, generator, AugmentOptions())

    def _scene_crops(self, generator: torch.Generator, name: str) -> Batch:
        """All scene crops of a block, in random order, so that two crops of a scene seldom share a batch."""
        wanted = self.scenes_per_batch * self.options.block
        if not wanted:
            empty = torch.zeros(0, 1, *self.crop)
            return Batch(empty, empty, empty, empty, [])
        reuse = self.options.scene_reuse
        count = -(-wanted // reuse)
        margin = RENDER_MARGIN if reuse > 1 else 1.0
        large = (int(self.crop[0] * margin), int(self.crop[1] * margin))
        scenes = render_scenes(
            count, large, generator=generator, device=self.options.render_device, options=self.scene_options
        )
        whole = Batch(scenes.left, scenes.right, scenes.disparity, torch.ones_like(scenes.disparity), [name] * count)
        order = torch.randperm(wanted, generator=generator).tolist()
        crops = [self._window(take(whole, [position % count]), generator) for position in order]
        return augment_batch(join(crops), generator, AugmentOptions(photometric=False))

    def _window(self, batch: Batch, generator: torch.Generator) -> Batch:
        height, width = batch.left.shape[-2:]
        top = int(torch.randint(height - self.crop[0] + 1, (), generator=generator))
        left = int(torch.randint(width - self.crop[1] + 1, (), generator=generator))
        tensors = (getattr(batch, name)[..., top : top + self.crop[0], left : left + self.crop[1]] for name in TENSORS)
        return Batch(*tensors, names=batch.names)


def augment_batch(batch: Batch, generator: torch.Generator, options: AugmentOptions) -> Batch:
    """Apply the stereo augmentation to a batch; confidence follows the disparity's validity."""
    left, right, disparity = augment(batch.left, batch.right, batch.disparity, generator=generator, options=options)
    return Batch(left, right, disparity, batch.confidence, batch.names)


def check_trusted(sets: Sequence[LabelSet | PackedSet]) -> None:
    """Refuse label sets that teach nothing.

    Raises:
        UserError: a set has no trusted pixel at all.
    """
    for labels in sets:
        kept = labels.manifest.get("kept_pct")
        if kept == 0:
            raise UserError(
                "the label set has no trusted pixel", where=labels.path, fix="label it with another teacher"
            )


class BatchStream:
    """Batches for Lightning, starting at any step.

    Args:
        blocks: where batches come from.
        steps: batches in all.
        start: batches to skip, as many as a resumed run has already seen.
    """

    def __init__(self, blocks: Blocks, *, steps: int, start: int = 0) -> None:
        self.blocks, self.steps, self.start = blocks, steps, start

    def __len__(self) -> int:
        """All steps, those of before a resume included: Lightning counts from there."""
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        options = self.blocks.options
        first, skip = divmod(self.start, options.block)
        loader = DataLoader(
            self.blocks,
            batch_size=None,
            sampler=range(first, len(self.blocks)),
            num_workers=options.workers,
            prefetch_factor=2 if options.workers else None,
            collate_fn=keep,
        )
        left = self.steps - self.start
        for block in loader:
            if isinstance(block, UserError):
                raise block
            for batch in block[skip:]:
                if left == 0:
                    return
                left -= 1
                yield batch
            skip = 0


def keep(block: list[Batch] | UserError) -> list[Batch] | UserError:
    """Collation for data that is already batched."""
    return block


def open_batches(
    options: DataOptions, *, max_disp: int, seed: int, steps: int, start: int = 0, rank: int = 0, world: int = 1,
    spool: Path | None = None,
) -> BatchStream:  # fmt: skip
    """The training stream of one process."""
    count = -(-steps // options.block)
    blocks = Blocks(options, max_disp=max_disp, seed=seed, count=count, rank=rank, world=world, spool=spool)
    return BatchStream(blocks, steps=steps, start=start)
