"""stereo.error_regions: classes whose pixels can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from stereo.error_regions import RegionErrors, edge_distance, errors_by_region, textureless
from stereo.pair import StereoPair

H, W = 12, 40


def step_pair() -> StereoPair:
    """Disparity 4 px in the left half and 20 px in the right; noise above row 6, flat below; 3 occluded columns."""
    truth = np.full((H, W), 4, np.float32)
    truth[:, W // 2 :] = 20
    image = np.full((H, W, 3), 90, np.uint8)
    image[:6] = np.random.default_rng(0).integers(0, 256, (6, W, 1), np.uint8)
    noc = np.ones((H, W), bool)
    noc[:, 17:20] = False
    return StereoPair(image, image.copy(), "step", disparity=truth, noc=noc)


def found(regions: tuple[RegionErrors, ...]) -> dict[tuple[str, str], RegionErrors]:
    return {(region.by, region.name): region for region in regions}


def test_every_class_holds_its_pixels_and_their_errors() -> None:
    pair = step_pair()
    assert pair.disparity is not None
    assert pair.noc is not None
    prediction = pair.disparity + np.where(pair.noc, 0.5, 3.0).astype(np.float32)
    regions = found(errors_by_region(prediction, pair, mask=pair.noc))
    assert regions["true disparity", "0-8 px"] == RegionErrors("true disparity", "0-8 px", 17 * H, 17 * H, 0.5, 0.0)
    assert regions["true disparity", "16-32 px"].pixels == 20 * H
    assert ("true disparity", "8-16 px") not in regions
    # The edge stands in columns 19 and 20; column 20 and 21 are nearer than 2 px, of the left side none is visible.
    assert regions["distance to depth edges", "0-2 px"].pixels == 2 * H
    occluded, visible = regions["visibility", "occluded"], regions["visibility", "seen by both cameras"]
    assert (occluded.pixels, occluded.epe_px, occluded.bad2_pct) == (3 * H, 3.0, 100.0)
    assert (visible.pixels, visible.epe_px) == (37 * H, 0.5)
    assert regions["texture", "textured"].pixels + regions["texture", "textureless"].pixels == 37 * H


def test_bands_of_one_kind_share_out_the_counted_pixels() -> None:
    pair = step_pair()
    assert pair.disparity is not None
    pair.disparity[0, 0] = np.nan
    for limit, pixels in ((None, H * W - 1), (16.0, H * W // 2 - 1)):
        regions = errors_by_region(pair.disparity, pair, max_disp=limit)
        for by in {region.by for region in regions}:
            assert sum(region.pixels for region in regions if region.by == by) == pixels, by


def test_missing_predictions_count_as_bad_and_leave_epe() -> None:
    pair = step_pair()
    assert pair.disparity is not None
    prediction = pair.disparity.copy()
    prediction[:, 0] = np.nan
    regions = found(errors_by_region(prediction, pair))
    near = regions["true disparity", "0-8 px"]
    assert (near.pixels, near.predicted, near.epe_px, near.bad2_pct) == (20 * H, 19 * H, 0.0, 5.0)
    nothing = errors_by_region(np.full((H, W), np.nan, np.float32), pair)
    assert {(region.epe_px, region.bad2_pct) for region in nothing} == {(None, 100.0)}


def test_texture_by_the_published_rule() -> None:
    pair = step_pair()
    flat = textureless(pair.left)
    assert flat[8:].all()
    # The window reaches one row: of the noisy rows all but chance pixels have gradients.
    assert flat[:6].mean() < 0.02
    ramp = np.repeat(np.arange(0, 120, 3, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(H, axis=0)
    assert not textureless(ramp)[:, 2:-3].any()  # steps of 3 grey levels, squared 9
    assert textureless(ramp // 3)[:, 2:-3].all()  # steps of 1


def test_edges_need_dense_truth_and_a_jump() -> None:
    flat = np.full((H, W), 5, np.float32)
    distance = edge_distance(flat)
    assert distance is not None
    assert np.isinf(distance).all()
    sparse = flat.copy()
    sparse[:, ::2] = np.nan
    sparse[0] = np.nan
    assert edge_distance(sparse) is None
    pair = step_pair()
    assert pair.disparity is not None
    distance = edge_distance(pair.disparity)
    assert distance is not None
    assert distance[0, 15:25] == pytest.approx([4, 3, 2, 1, 0, 0, 1, 2, 3, 4])
