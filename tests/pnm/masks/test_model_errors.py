"""Errors as models make them: coarse, of the size that was asked for, never another object."""

import numpy as np
import pytest

from pnm.masks.model_errors import SHIFTS, WAYS, coarse_mask, error_size_px, signed_distance

SHAPE = 140, 160
IMAGE = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3)).astype(np.uint8)


def disk(radius, y=70, x=80):
    yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return (yy - y) ** 2 + (xx - x) ** 2 <= radius**2


def iou(a, b):
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def test_signed_distance_against_brute_force():
    mask = disk(9) & ~disk(4)
    inside, outside = np.argwhere(mask), np.argwhere(~mask)
    distance = signed_distance(mask)
    for y, x in ((70, 80), (70, 86), (75, 82), (70, 95), (50, 60)):
        others = outside if mask[y, x] else inside
        exact = np.hypot(*(others - (y, x)).T).min()
        assert abs(abs(distance[y, x]) - exact) < 0.05 * exact + 1e-6  # OpenCV's 5 x 5 distances are off by 2 %
        assert (distance[y, x] > 0) == mask[y, x]


@pytest.mark.parametrize("way", list(WAYS), ids=lambda way: way.__name__)
def test_each_way_changes_the_contour_and_stays_near_it(way):
    truth, px = disk(40) & ~disk(12), 3.0
    far = np.abs(signed_distance(truth)) > 12 * px
    changed = 0
    for seed in range(12):
        before = truth.copy()
        coarse = way(truth, px, np.random.default_rng(seed), IMAGE)
        assert coarse.shape == truth.shape and coarse.dtype == np.bool_
        assert (truth == before).all()
        assert (coarse == truth)[far].mean() > 0.9  # a network's output may have islands
        assert iou(coarse, truth) > 0.5
        changed += (coarse != truth).any()
    assert changed >= 11


def test_share_of_masks_that_stay():
    truth, rng = disk(30), np.random.default_rng(0)
    same = [coarse_mask(truth, IMAGE, rng, unchanged=0.3) is truth for _ in range(400)]
    assert 0.24 < np.mean(same) < 0.36


def test_never_empty_and_never_another_object():
    rng = np.random.default_rng(0)
    for truth in (disk(2), disk(60), disk(30, 0, 0), disk(25) & (np.arange(SHAPE[1]) == 80)):
        for _ in range(40):
            coarse = coarse_mask(truth, IMAGE, rng, unchanged=0.0)
            assert coarse.any() and iou(coarse, truth) > 0.5


def test_shifts_are_of_the_size_that_was_asked_for():
    truth, rng = disk(40), np.random.default_rng(0)
    sizes = [error_size_px(truth, rng, 0.04) for _ in range(200)]
    extent = np.sqrt(truth.sum())
    assert 0.04 * extent <= min(sizes) and max(sizes) <= 0.08 * extent
    coarse = [coarse_mask(truth, IMAGE, rng, unchanged=0.0, least_share=0.04, ways=SHIFTS) for _ in range(20)]
    assert max(iou(mask, truth) for mask in coarse) < 0.98


def test_equal_seeds_equal_masks():
    masks = [coarse_mask(disk(30), IMAGE, np.random.default_rng(3), unchanged=0.0) for _ in range(2)]
    assert (masks[0] == masks[1]).all()
