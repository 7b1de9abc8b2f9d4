"""Pasting against the engine's own function, which samples whole windows by grid_sample."""

import numpy as np
import pytest
import torch
from detectron2.layers import paste_masks_in_image

from pnm.errors import UserError
from pnm.masks.crops import EMPTY, paste
from pnm.panoptic_fusion.pasting import paste_in_boxes

NEAR = 1e-5  # of the threshold: there rounding decides


def random_boxes(rng, height, width, count):
    """Of all sizes, many over the frame, some of less than a pixel, some far larger than the image."""
    centers = rng.uniform(-0.2, 1.2, (count, 2)) * (width, height)
    sides = np.exp(rng.uniform(np.log(0.05), np.log(6 * max(height, width)), (count, 2)))
    boxes = np.concatenate((centers - sides / 2, centers + sides / 2), axis=1).astype(np.float32)
    is_whole = rng.random(count) < 0.2
    boxes[is_whole] = np.round(boxes[is_whole])
    # Detectron2 fails on boxes outside of the image.
    is_seen = (boxes[:, :2] < (width, height)).all(1) & (boxes[:, 2:] > 0).all(1)
    return boxes[is_seen & (boxes[:, 2:] > boxes[:, :2]).all(1)]


def check_equal(probs, boxes, size, threshold):
    crops = paste_in_boxes(probs, boxes, size, threshold)
    low, high = (
        paste_masks_in_image(torch.from_numpy(probs), torch.from_numpy(boxes), size, threshold + off).numpy()
        for off in (-NEAR, NEAR)
    )
    assert len(crops) == len(probs)
    for crop, least, most in zip(crops, high, low):
        assert crop.pixels.dtype == np.bool_ and crop.pixels.flags.c_contiguous
        mask = paste(crop, *size)
        assert (mask | ~least).all() and (~mask | most).all()
    return low != high


@pytest.mark.parametrize("threshold", [0.5, 0.1, 0.9])
def test_equals_the_engine(threshold):
    undecided = total = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        size, side = tuple(int(n) for n in rng.integers(1, 90, 2)), int(rng.choice([1, 2, 7, 28, 56]))
        boxes = random_boxes(rng, *size, 12)
        near = check_equal(rng.random((len(boxes), side, side), np.float32), boxes, size, threshold)
        undecided, total = undecided + near.sum(), total + near.size
    assert undecided < 1e-3 * total


def test_full_masks_fill_their_boxes():
    rng = np.random.default_rng(0)
    boxes = np.array([[3, 4, 9, 11], [0, 0, 20, 15], [-5, -5, 4, 4], [7.2, 3.1, 7.9, 3.9]], np.float32)
    probs = np.ones((4, 28, 28), np.float32)
    masks = [paste(crop, 15, 20) for crop in paste_in_boxes(probs, boxes, (15, 20))]
    wanted = np.zeros((4, 15, 20), bool)
    wanted[0, 4:11, 3:9] = wanted[1] = wanted[2, :4, :4] = wanted[3, 3, 7] = True
    assert (np.stack(masks) == wanted).all()
    before = probs.copy(), boxes.copy()
    paste_in_boxes(probs * rng.random((4, 1, 1), np.float32), boxes, (15, 20))
    assert (probs == before[0]).all() and (boxes == before[1]).all()


def test_no_boxes_and_boxes_that_are_none_have_empty_masks():
    nan, inf = np.nan, np.inf
    boxes = [
        [5, 5, 5, 9],
        [9, 5, 5, 9],
        [nan, 0, 5, 5],
        [0, 0, inf, 5],
        [-inf, 0, 5, 5],
        [50, 0, 60, 9],
        [0, -9, 9, -5],
    ]
    crops = paste_in_boxes(np.ones((7, 4, 4), np.float32), np.array(boxes, np.float32), (20, 20))
    assert all(crop is EMPTY for crop in crops)
    assert paste_in_boxes(np.empty((0, 28, 28), np.float32), np.empty((0, 4), np.float32), (20, 20)) == []
    huge = np.array([[-1e30, -1e30, 1e30, 1e30]], np.float32)
    assert paste_in_boxes(np.ones((1, 3, 3), np.float32), huge, (6, 5))[0].pixels.all()


def test_errors():
    probs, boxes = np.ones((2, 4, 4), np.float32), np.ones((2, 4), np.float32)
    with pytest.raises(UserError, match=r"expected \(N, M, M\)"):
        paste_in_boxes(probs[:, :3], boxes, (5, 5))
    with pytest.raises(UserError, match=r"boxes \(1, 4\)"):
        paste_in_boxes(probs, boxes[:1], (5, 5))
    with pytest.raises(UserError, match="expected more than 0"):
        paste_in_boxes(probs, boxes, (5, 5), 0.0)
