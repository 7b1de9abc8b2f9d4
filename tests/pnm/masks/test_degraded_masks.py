"""Degraded ground truth is coarse, but not another object."""

import numpy as np
import pytest

from pnm.masks.crops import MaskCrop, crop_array, crop_iou, crop_segments, paste
from pnm.masks.degraded_masks import (
    degrade,
    degrade_partition,
    draw_low_resolution,
    erode_or_dilate,
    move_vertices,
)

SHAPE = 120, 160


def disk(y, x, radius):
    yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return (yy - y) ** 2 + (xx - x) ** 2 <= radius**2


@pytest.mark.parametrize("way", [erode_or_dilate, draw_low_resolution, move_vertices])
def test_contour_moves_but_stays_near(way):
    truth = disk(60, 80, 30) & ~disk(60, 80, 10)
    changed = 0
    for seed in range(20):
        coarse = way(crop_array(truth), 3.0, np.random.default_rng(seed))
        mask = paste(coarse, *SHAPE)
        changed += (mask != truth).any()
        # Nothing changes further from a contour than four times the strength.
        assert mask[disk(60, 80, 18) & ~disk(60, 80, 22)].all()
        assert not mask[disk(60, 80, 2)].all() or way is not move_vertices
        assert not mask[~disk(60, 80, 44)].any()
        assert crop_iou(coarse, crop_array(truth)) > 0.6
    assert changed == 20


def test_low_resolution_has_at_most_28_steps():
    """A line of one pixel in a large box is not seen by 28 x 28 samples."""
    truth = np.zeros(SHAPE, bool)
    truth[10:110, 10:150] = True
    truth[50, 10:150] = False
    coarse = paste(draw_low_resolution(crop_array(truth), 1.0, np.random.default_rng(0)), *SHAPE)
    assert coarse[50, 20:140].all()


def test_stays_in_the_image_and_is_repeatable():
    for seed in range(40):
        truth = disk(3, 157, 12)
        coarse = degrade(crop_array(truth), *SHAPE, np.random.default_rng(seed))
        h, w = coarse.pixels.shape
        assert coarse.top >= 0 and coarse.top + h <= SHAPE[0] and coarse.left >= 0 and coarse.left + w <= SHAPE[1]
        again = degrade(crop_array(truth), *SHAPE, np.random.default_rng(seed))
        assert np.array_equal(coarse.pixels, again.pixels) and coarse[1:] == again[1:]


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (2, 2)])
def test_tiny_masks(shape):
    truth = np.ones(shape, bool)
    for seed in range(20):
        coarse = degrade(crop_array(truth), *shape, np.random.default_rng(seed))
        assert paste(coarse, *shape).shape == shape
    empty = MaskCrop(np.zeros((0, 0), bool), 0, 0)
    assert degrade(empty, 5, 5, np.random.default_rng(0)) is empty


def test_partition_keeps_its_labels():
    labels = np.zeros(SHAPE, np.int32)
    labels[:, 80:] = 2
    labels[disk(60, 80, 30)] = 1
    crops = dict(zip((1, 2), crop_segments(labels, (1, 2))))
    coarse = degrade_partition(labels, crops, np.random.default_rng(0))
    assert set(np.unique(coarse)) == {0, 1, 2} and 0 < (coarse != labels).mean() < 0.2
    assert labels[60, 80] == 1
