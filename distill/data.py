"""Training batches: random crops of label sets and of procedural scenes, mixed by share.

Work is cut into blocks of a few batches, and every block into lanes: lane l of n has pairs l, l + n, … of each batch. A
lane of a block is a pure function of (seed, block, lane), so that the stream depends neither on the number of workers
nor on how the lanes are spread over processes, and a resumed run continues with exactly the batches it would have seen.
Within a lane of a block each rendered scene gives several crops, because rendering costs more than cropping. Frames of
label sets are drawn at random; those of packed label sets in the order of `distill.draw_order`, so that a shard is read
once a pass.

    B batch, H height, W width
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from distill.augment import AugmentOptions, augment
from distill.batches import SCENE_NAME, TENSORS, Batch, join, take
from distill.config import DataOptions
from distill.curriculum import Curriculum
from distill.draw_order import DrawOrder
from distill.label_frames import FrameCache, check_trusted, crop_labels
from distill.packed import open_labels
from distill.scenes import render_scenes
from distill.scenes_config import SceneOptions
from stereo.errors import UserError
from stereo.packed_set import PackedSet

# Scenes are rendered a little larger than the crop, so that two crops of one scene differ.
RENDER_MARGIN = 1.25


class Blocks(Dataset[list[Batch] | UserError]):
    """Map-style data set whose item is a block of batches; see the module docstring.

    Args:
        options: what a batch is made of; `lanes` is one per process when left out.
        max_disp: of the scenes, px.
        seed: of the stream.
        steps: batches in all.
        rank, world: this process and how many there are; each makes its own lanes.
        spool: folder for shards of packed sets that are far away.

    Raises:
        UserError: a share, a stage or a number of lanes that cannot be, or a label set that cannot be used.
    """

    def __init__(
        self, options: DataOptions, *, max_disp: int, seed: int, steps: int, rank: int = 0, world: int = 1,
        spool: Path | None = None,
    ) -> None:  # fmt: skip
        self.options, self.seed, self.count = options, seed, -(-steps // options.block)
        self.curriculum = Curriculum(options, steps=steps)
        self.lane_count = options.lanes or world
        self.lanes = lanes_of(rank, world, self.lane_count, smallest=min(s.pairs for _, s in self.curriculum.stages))
        spool = spool or Path(tempfile.gettempdir()) / f"stereodistill-shards-{os.getuid()}"
        sets = [open_labels(location, spool) for location in options.labels]
        check_trusted(sets)
        packed = [labels for labels in sets if isinstance(labels, PackedSet)]
        self.shards = [(labels, number) for labels in packed for number in range(len(labels.shard_frames))]
        self.order = DrawOrder([labels.shard_frames[number] for labels, number in self.shards], seed=seed)
        unpacked = [labels for labels in sets if not isinstance(labels, PackedSet)]
        self.frames = FrameCache([*unpacked, *packed], options.cache_mb)
        self.scene_share = options.scene_share if sets else 1.0
        if not 0 <= self.scene_share <= 1:
            raise UserError(f"scene share {self.scene_share} is not between 0 and 1", where="--data.scene_share",
                            fix="try 0.5")  # fmt: skip
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
        """This process's part of the batches of a block.

        Raises:
            UserError: a label frame cannot be read.
        """
        parts = [self._lane(block, lane) for lane in self.lanes]
        return [join(part) for part in zip(*parts, strict=True)]

    def _lane(self, block: int, lane: int) -> list[Batch]:
        crop, pairs = self.curriculum.shape(block)
        scenes, labels = self._lane_shares(pairs, lane)
        # Distinct blocks, lanes and seeds must not share a random stream: numpy's seed sequence mixes them well.
        entropy = np.random.SeedSequence([self.seed, block * self.lane_count + lane]).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(entropy >> 1))
        name = f"{SCENE_NAME} {block}, lane {lane}, seed {self.seed}"
        rendered = self._scene_crops(scenes * self.options.block, crop, generator, name)
        packed = self._packed_frames(self._labels_before(block, lane), labels * self.options.block, generator)
        batches = []
        for number in range(self.options.block):
            parts = [take(rendered, range(number * scenes, (number + 1) * scenes))] if scenes else []
            parts += [self._label_crop(packed.get(number * labels + place), crop, generator) for place in range(labels)]
            batches.append(join(parts))
        return batches

    def _lane_shares(self, pairs: int, lane: int) -> tuple[int, int]:
        """Scenes and label crops of a lane in a batch; scenes come first, so that every lane has its share of them."""
        scenes = len(range(lane, round(pairs * self.scene_share), self.lane_count))
        return scenes, len(range(lane, pairs, self.lane_count)) - scenes

    def _labels_before(self, block: int, lane: int) -> int:
        """Label crops in all earlier blocks, and in the earlier lanes of this one."""
        parts = [(shape.pairs, blocks, self.lane_count) for shape, blocks in self.curriculum.shapes_before(block)]
        parts.append((self.curriculum.shape(block).pairs, 1, lane))
        return self.options.block * sum(
            blocks * self._lane_shares(pairs, each)[1] for pairs, blocks, lanes in parts for each in range(lanes)
        )

    def _packed_frames(self, before: int, labels: int, generator: torch.Generator) -> dict[int, int]:
        """Which label crops of a lane of a block are of packed sets: place among the crops → frame.

        Over the blocks, every frame of a label set or a packed set is as likely as any other.

        Args:
            before: label crops of all earlier blocks and lanes.
            labels: label crops of this one.
        """
        if not len(self.order):
            return {}
        first, end = (count * len(self.order) // len(self.frames) for count in (before, before + labels))
        places = torch.randperm(labels, generator=generator)[: end - first].sort().values.tolist()
        unpacked = len(self.frames) - len(self.order)
        for labels_, shard in (self.shards[place] for place in self.order.shards_after(end - 1) if end > first):
            labels_.prepare_shard(shard)
        return {place: unpacked + self.order.frame(draw) for place, draw in zip(places, range(first, end), strict=True)}

    def _label_crop(self, index: int | None, crop: tuple[int, int], generator: torch.Generator) -> Batch:
        """A crop of the frame at a position, or of any frame of the sets that are not packed."""
        if index is None:
            index = int(torch.randint(len(self.frames) - len(self.order), (), generator=generator))
        batch = crop_labels(self.frames.read(index), crop, generator)
        batch.confidence[batch.confidence < self.options.min_confidence] = 0
        return augment_batch(batch, generator, AugmentOptions())

    def _scene_crops(self, wanted: int, crop: tuple[int, int], generator: torch.Generator, name: str) -> Batch:
        """All scene crops of a lane of a block, in random order, so that two of a scene seldom share a batch."""
        if not wanted:
            empty = torch.zeros(0, 1, *crop)
            return Batch(empty, empty, empty, empty, [])
        reuse = self.options.scene_reuse
        count = -(-wanted // reuse)
        margin = RENDER_MARGIN if reuse > 1 else 1.0
        large = (int(crop[0] * margin), int(crop[1] * margin))
        scenes = render_scenes(
            count, large, generator=generator, device=self.options.render_device, options=self.scene_options
        )
        weight = torch.where(scenes.occluded, self.options.occluded_weight, 1.0)
        whole = Batch(scenes.left, scenes.right, scenes.disparity, weight, [name] * count)
        order = torch.randperm(wanted, generator=generator).tolist()
        crops = [window(take(whole, [position % count]), crop, generator) for position in order]
        joined = join(crops)
        joined.confidence = torch.where(out_of_frame(joined.disparity), self.options.occluded_weight, joined.confidence)
        return augment_batch(joined, generator, AugmentOptions(photometric=False))


def out_of_frame(disparity_B1HW: torch.Tensor) -> torch.Tensor:
    """Left pixels whose match lies left of the right image's border: a crop cuts both views at the same columns."""
    columns = torch.arange(disparity_B1HW.shape[-1], device=disparity_B1HW.device)
    return columns - disparity_B1HW < -0.5


def window(batch: Batch, crop: tuple[int, int], generator: torch.Generator) -> Batch:
    """A random window of a batch, the same for all its pairs."""
    height, width = batch.left.shape[-2:]
    top = int(torch.randint(height - crop[0] + 1, (), generator=generator))
    left = int(torch.randint(width - crop[1] + 1, (), generator=generator))
    tensors = (getattr(batch, name)[..., top : top + crop[0], left : left + crop[1]] for name in TENSORS)
    return Batch(*tensors, names=batch.names)


def lanes_of(rank: int, world: int, lanes: int, *, smallest: int) -> range:
    """The lanes of one process.

    Args:
        rank, world: this process and how many there are.
        lanes: of a batch.
        smallest: pairs in the smallest batch.

    Raises:
        UserError: lanes that cannot be shared, or without a pair.
    """
    if lanes < 1 or lanes % world:
        raise UserError(f"{world} processes cannot share {lanes} lanes", where="--data.lanes",
                        fix=f"a multiple of {world}, or leave it out")  # fmt: skip
    if lanes > smallest:
        raise UserError(f"{lanes} lanes, but {smallest} pairs in a batch", where="--data.batch_size",
                        fix="it counts the pairs of all processes together: at least one for every lane")  # fmt: skip
    own = lanes // world
    return range(rank * own, (rank + 1) * own)


def augment_batch(batch: Batch, generator: torch.Generator, options: AugmentOptions) -> Batch:
    """Apply the stereo augmentation to a batch; confidence follows the disparity's validity."""
    left, right, disparity = augment(batch.left, batch.right, batch.disparity, generator=generator, options=options)
    return Batch(left, right, disparity, batch.confidence, batch.names)


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
    blocks = Blocks(options, max_disp=max_disp, seed=seed, steps=steps, rank=rank, world=world, spool=spool)
    return BatchStream(blocks, steps=steps, start=start)
