"""Training batches: reproducible, resumable, geometrically right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from distill.batches import TENSORS, Batch
from distill.config import DataOptions
from distill.data import BatchStream, Blocks, open_batches
from distill.label_frames import FrameCache, crop_labels
from stereo.errors import UserError
from stereo.label_set import LabelledFrame

TINY = {"crop": "64x96", "batch_size": 2, "block": 3, "workers": 0}


def equal(one: Batch, other: Batch) -> bool:
    return one.names == other.names and all(
        torch.equal(torch.nan_to_num(getattr(one, name), nan=-1), torch.nan_to_num(getattr(other, name), nan=-1))
        for name in TENSORS
    )


def ramp_frame(height: int = 100, width: int = 160) -> LabelledFrame:
    """Left is a ramp of its column; the right view is shifted by 8 px, so that its ramp reads 8 higher."""
    columns = np.broadcast_to(np.arange(width, dtype=np.float32), (height, width))
    left = np.repeat(columns[:, :, None], 3, axis=2).astype(np.uint8)
    right = np.repeat(np.clip(columns + 8, 0, 255)[:, :, None], 3, axis=2).astype(np.uint8)
    disparity = np.full((height, width), 8, np.float32)
    disparity[:10] = np.nan
    return LabelledFrame("ramp", left, right, disparity, np.ones((height, width), np.float32))


def test_stream_is_a_function_of_seed_and_step() -> None:
    whole = list(open_batches(DataOptions(**TINY), max_disp=64, seed=3, steps=7))
    assert len(whole) == 7
    later = list(open_batches(DataOptions(**TINY), max_disp=64, seed=3, steps=7, start=4))
    assert len(later) == 3
    assert all(equal(one, other) for one, other in zip(whole[4:], later, strict=True))
    other_seed = next(iter(open_batches(DataOptions(**TINY), max_disp=64, seed=4, steps=1)))
    assert not equal(whole[0], other_seed)


def test_workers_do_not_change_the_stream() -> None:
    alone = list(open_batches(DataOptions(**TINY), max_disp=64, seed=0, steps=6))
    helped = list(open_batches(DataOptions(**{**TINY, "workers": 2}), max_disp=64, seed=0, steps=6))
    assert all(equal(one, other) for one, other in zip(alone, helped, strict=True))


def test_ranks_see_different_blocks() -> None:
    first, second = (
        Blocks(DataOptions(**TINY), max_disp=64, seed=0, steps=1, rank=rank, world=2)[0][0] for rank in range(2)
    )
    assert not equal(first, second)


def test_label_crops_keep_the_geometry() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        batch = crop_labels(ramp_frame(), (64, 96), generator)
        assert batch.left.shape == (1, 3, 64, 96)
        valid = torch.isfinite(batch.disparity)[0, 0]
        disparity = batch.disparity[0, 0][valid]
        # zoomed by z, the shift is 8z px while a pixel is worth 1/z of the ramp: right - left stays 8
        assert disparity.unique().numel() == 1
        slope = (batch.left[0, 0, 32, 60] - batch.left[0, 0, 32, 20]) / 40
        assert disparity[0] * slope == pytest.approx(8, abs=0.3)


def test_what_the_right_view_does_not_show_weighs_less() -> None:
    options = DataOptions(**TINY, occluded_weight=0.25)
    batches = list(open_batches(options, max_disp=64, seed=0, steps=6))
    weights = torch.cat([batch.confidence for batch in batches])
    assert set(weights.unique().tolist()) == {0.25, 1.0}
    columns = torch.arange(weights.shape[-1])
    outside = columns - torch.cat([batch.disparity for batch in batches]) < -0.5
    assert 0 < outside.sum() < (weights < 1).sum()  # some is hidden behind something within the frame
    assert (weights[outside] == 0.25).all()


def test_small_frames_are_enlarged_to_the_crop() -> None:
    batch = crop_labels(ramp_frame(40, 60), (64, 96), torch.Generator().manual_seed(0))
    assert batch.left.shape == (1, 3, 64, 96)


class CountingSet:
    """A label set that counts how often it is read."""

    path, manifest = Path("counting"), {"kept_pct": 50.0}

    def __init__(self) -> None:
        self.reads = 0

    def __len__(self) -> int:
        return 4

    def read(self, index: int) -> LabelledFrame:
        self.reads += 1
        return ramp_frame()


def test_frame_cache_reads_once_and_respects_its_limit() -> None:
    labels = CountingSet()
    cache = FrameCache([labels], 100)  # type: ignore[list-item]
    for _ in range(3):
        for index in range(4):
            cache.read(index)
    assert labels.reads == 4
    small = FrameCache([labels], 0.001)  # type: ignore[list-item]
    for index in (0, 1, 0):
        small.read(index)
    assert labels.reads == 4 + 3


def test_stream_ends_after_its_steps() -> None:
    blocks = Blocks(DataOptions(**TINY), max_disp=64, seed=0, steps=6)
    assert len(list(BatchStream(blocks, steps=4))) == 4


def test_scene_share_out_of_range_is_told(tmp_path: Path) -> None:
    options = DataOptions(**{**TINY, "scene_share": 1.5, "labels": [tmp_path]})
    with pytest.raises(UserError):
        open_batches(options, max_disp=64, seed=0, steps=1)
